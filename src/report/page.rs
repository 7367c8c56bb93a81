//! HTML page: one file that contains its style, its scripts, the charting library and the figures' columns.
//!
//! Names of clients and scenarios come from data files and are not trusted, so they never become markup: the template
//! escapes them, the columns are compressed and encoded, and the scripts only set text. The page's content security
//! policy allows only the one script whose hash it contains, and no network access.

use std::io::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use flate2::Compression;
use flate2::write::ZlibEncoder;
use minijinja::{Environment, Value, context};
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::figure::Section;
use super::reported_run::ReportedRun;
use super::summary::{self, Fact};
use super::{aggregation, costs, evaluations, fairness, learning, participation, repeats, timeline};
use crate::results::{Learning, MainFigures};

/// Charting library; `page/vendor/README.md` states its origin.
const LIBRARY: &str = include_str!("page/vendor/uPlot-1.6.32.iife.min.js");
const LIBRARY_STYLE: &str = include_str!("page/vendor/uPlot-1.6.32.min.css");
const STYLE: &str = include_str!("page/style.css");
const TEMPLATE: &str = include_str!("page/report.html");

/// Scripts of the page; each uses only those before it.
const SCRIPTS: [&str; 8] = [
    include_str!("page/elements.js"),
    include_str!("page/format.js"),
    include_str!("page/columns.js"),
    include_str!("page/theme.js"),
    include_str!("page/table.js"),
    include_str!("page/chart.js"),
    include_str!("page/timeline.js"),
    include_str!("page/page.js"),
];

/// Contents of the page for one run.
pub struct RunPart {
    label: String,
    sentences: Vec<String>,
    facts: Vec<Fact>,
    sections: Vec<Section>,
}

impl RunPart {
    /// Lays out the figures of a run, with at most `most_tasks` tasks in its timeline.
    pub fn of(run: &ReportedRun, label: &str, most_tasks: usize) -> Self {
        let record = &run.record;
        let learning = Learning::of(&record.losses);
        let figures = MainFigures::of(record, &learning);
        let mut sections = vec![
            learning::section(record, &learning),
            fairness::section(record, &learning),
            timeline::section(record, most_tasks),
            repeats::section(run.bands.as_ref()),
            participation::section(record),
            costs::section(record),
            aggregation::privacy(record),
            aggregation::section(run),
            evaluations::section(run),
        ];
        sections.retain(|section| !section.figures.is_empty());
        Self {
            label: label.to_owned(),
            sentences: summary::sentences(run, &learning, &figures),
            facts: summary::facts(run),
            sections,
        }
    }
}

/// Figures that the scripts draw.
#[derive(Serialize)]
struct Figures<'a> {
    comparison: Option<&'a Section>,
    runs: Vec<&'a [Section]>,
}

/// Returns the whole page.
pub fn html(runs: &[RunPart], comparison: Option<Section>) -> String {
    let figures =
        Figures { comparison: comparison.as_ref(), runs: runs.iter().map(|run| run.sections.as_slice()).collect() };
    // One function around all scripts keeps their names out of the global scope.
    let script = format!("{LIBRARY}\n(() => {{\n'use strict';\n{}}})();\n", SCRIPTS.concat());
    let mut shown = Vec::new();
    for run in runs {
        let mut facts: Vec<Value> = Vec::new();
        for Fact { name, value, is_hash } in &run.facts {
            facts.push(context! { name => name, value => value, is_hash => is_hash });
        }
        shown.push(context! { label => &run.label, sentences => &run.sentences, facts => facts });
    }
    let title = match runs {
        [run] => run.label.clone(),
        [first, others @ ..] => format!("{} and {} more", first.label, others.len()),
        [] => String::new(),
    };
    let values = context! {
        title => title,
        runs => shown,
        compared => comparison.is_some(),
        style => Value::from_safe_string(format!("{LIBRARY_STYLE}\n{STYLE}")),
        script_hash => Value::from_safe_string(BASE64.encode(Sha256::digest(script.as_bytes()))),
        script => Value::from_safe_string(script),
        columns => Value::from_safe_string(packed(&figures)),
    };
    // The ending of the template's name turns escaping on.
    Environment::new()
        .render_named_str("report.html", TEMPLATE, values)
        .expect("the template is part of the program, and all that it names is given")
}

/// Returns the figures as compressed JSON in base64, whose alphabet cannot close an HTML element.
fn packed(figures: &Figures) -> String {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
    serde_json::to_writer(&mut encoder, figures).expect("figures can be written as JSON into memory");
    encoder.flush().expect("memory takes what is written");
    BASE64.encode(encoder.finish().expect("memory takes what is written"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_script_or_style_ends_its_own_element() {
        for text in SCRIPTS.iter().chain([&LIBRARY, &LIBRARY_STYLE, &STYLE]) {
            let lower = text.to_lowercase();
            assert!(!lower.contains("</") && !lower.contains("<!--"), "{}", &text[..80.min(text.len())]);
        }
    }

    #[test]
    fn the_library_is_the_one_that_its_readme_names() {
        let readme = include_str!("page/vendor/README.md");
        for (name, text) in [("uPlot-1.6.32.iife.min.js", LIBRARY), ("uPlot-1.6.32.min.css", LIBRARY_STYLE)] {
            let hash: String = Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
            let line = readme.lines().find(|line| line.starts_with(&format!("| `{name}`"))).expect("a row a file");
            assert!(line.contains(&hash), "{name} has the hash {hash}");
        }
    }

    #[test]
    fn names_become_text_and_nothing_else() {
        let hostile = "</title></script><script>alert(1)</script>\"'<img src=x onerror=alert(1)>";
        let part = RunPart {
            label: hostile.into(),
            sentences: vec![hostile.into()],
            facts: vec![Fact { name: hostile.into(), value: hostile.into(), is_hash: false }],
            sections: vec![],
        };
        let page = html(&[part], None);
        assert!(!page.contains("<script>alert") && !page.contains("<img"));
        assert_eq!(page.matches("</script>").count(), 2, "the columns and the scripts");
    }
}
