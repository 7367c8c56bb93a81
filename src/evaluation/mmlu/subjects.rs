//! MMLU's subjects and their four categories.

use serde::{Deserialize, Serialize};

/// A category of subjects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Category {
    Stem,
    Humanities,
    SocialSciences,
    Other,
}

impl Category {
    /// All categories, in the order of the paper's table.
    pub const ALL: [Self; 4] = [Self::Humanities, Self::SocialSciences, Self::Stem, Self::Other];

    /// Returns the category's name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stem => "STEM",
            Self::Humanities => "humanities",
            Self::SocialSciences => "social sciences",
            Self::Other => "other",
        }
    }
}

use Category::{Humanities, Other, SocialSciences, Stem};

/// All subjects, by the name of their files, with their categories.
pub const SUBJECTS: [(&str, Category); 57] = [
    ("abstract_algebra", Stem),
    ("anatomy", Other),
    ("astronomy", Stem),
    ("business_ethics", Other),
    ("clinical_knowledge", Other),
    ("college_biology", Stem),
    ("college_chemistry", Stem),
    ("college_computer_science", Stem),
    ("college_mathematics", Stem),
    ("college_medicine", Other),
    ("college_physics", Stem),
    ("computer_security", Stem),
    ("conceptual_physics", Stem),
    ("econometrics", SocialSciences),
    ("electrical_engineering", Stem),
    ("elementary_mathematics", Stem),
    ("formal_logic", Humanities),
    ("global_facts", Other),
    ("high_school_biology", Stem),
    ("high_school_chemistry", Stem),
    ("high_school_computer_science", Stem),
    ("high_school_european_history", Humanities),
    ("high_school_geography", SocialSciences),
    ("high_school_government_and_politics", SocialSciences),
    ("high_school_macroeconomics", SocialSciences),
    ("high_school_mathematics", Stem),
    ("high_school_microeconomics", SocialSciences),
    ("high_school_physics", Stem),
    ("high_school_psychology", SocialSciences),
    ("high_school_statistics", Stem),
    ("high_school_us_history", Humanities),
    ("high_school_world_history", Humanities),
    ("human_aging", Other),
    ("human_sexuality", SocialSciences),
    ("international_law", Humanities),
    ("jurisprudence", Humanities),
    ("logical_fallacies", Humanities),
    ("machine_learning", Stem),
    ("management", Other),
    ("marketing", Other),
    ("medical_genetics", Other),
    ("miscellaneous", Other),
    ("moral_disputes", Humanities),
    ("moral_scenarios", Humanities),
    ("nutrition", Other),
    ("philosophy", Humanities),
    ("prehistory", Humanities),
    ("professional_accounting", Other),
    ("professional_law", Humanities),
    ("professional_medicine", Other),
    ("professional_psychology", SocialSciences),
    ("public_relations", SocialSciences),
    ("security_studies", SocialSciences),
    ("sociology", SocialSciences),
    ("us_foreign_policy", SocialSciences),
    ("virology", Other),
    ("world_religions", Humanities),
];
