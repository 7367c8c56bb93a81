//! The five twins, as data: the published figures of each dataset, and the assumptions made where none are published.

/// The published figures of a dataset.
#[derive(Debug)]
pub struct Twin {
    /// Name on the command line.
    pub name: &'static str,
    /// Name of the original dataset.
    pub of: &'static str,
    pub form: TwinForm,
    /// [sample] -- Size of each client.
    pub sizes: Sizes,
    /// [word] -- Mean and standard deviation of the length of an instruction, over samples.
    pub instruction: (f64, f64),
    /// [word] -- Mean and standard deviation of the length of a response, over samples.
    pub response: (f64, f64),
    /// Languages of the clients, with their relative shares.
    pub languages: &'static [(&'static str, u32)],
    /// Assumptions about properties that are not published.
    pub assumed: &'static [&'static str],
}

/// The form of a twin's rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TwinForm {
    SingleTurn,
    MultiTurn,
    Preference,
}

/// The number of samples of each client.
#[derive(Debug)]
pub enum Sizes {
    /// Published sizes, in the order of the file.
    Known(&'static [u32]),
    /// Number of clients, total number of samples, and standard deviation of the samples per client.
    Spread { clients: u32, samples: u32, deviation: f64 },
}

/// Client sizes of Fed-Aya in the order of its file, as printed by a run of the benchmark.
const FED_AYA: &[u32] = &[
    421, 1576, 5016, 418, 1555, 365, 783, 935, 1223, 795, 516, 476, 447, 614, 361, 1363, 298, 1418, 809, 192, 493, 289,
    194, 139, 235, 209, 347, 713, 533, 417, 175, 492, 271, 418, 293, 223, 270, 221,
];

const LENGTHS: &str = "the unit of the published lengths is not stated; here it is words between spaces";
const SIZES: &str = "sizes follow a log-logistic law with the published mean and deviation";
/// Languages of the benchmark's test questions from WildChat.
const WILDCHAT: &[(&str, u32)] = &[("en", 38), ("ru", 9), ("es", 1), ("zh", 1), ("pt", 1)];
const CHATBOT: &[(&str, u32)] = &[("en", 44), ("es", 2), ("fr", 1), ("pt", 1), ("ru", 1), ("zh", 1)];

const TWINS: &[Twin] = &[
    Twin {
        name: "fed-aya",
        of: "Fed-Aya",
        form: TwinForm::SingleTurn,
        sizes: Sizes::Known(FED_AYA),
        instruction: (116.0, 199.0),
        response: (225.0, 411.0),
        languages: &[("ar", 1), ("en", 1), ("es", 1), ("fr", 1), ("pt", 1), ("ru", 1), ("te", 1), ("zh", 1), ("de", 1)],
        assumed: &[
            LENGTHS,
            "which client writes which language is not published; here clients are spread evenly over the eight \
             languages of the evaluation and one other",
        ],
    },
    Twin {
        name: "fed-chatbot-it",
        of: "Fed-ChatbotIT",
        form: TwinForm::SingleTurn,
        sizes: Sizes::Spread { clients: 237, samples: 6_166, deviation: 33.0 },
        instruction: (68.0, 119.0),
        response: (211.0, 176.0),
        languages: CHATBOT,
        assumed: &[LENGTHS, SIZES, "the mix of languages is not published"],
    },
    Twin {
        name: "fed-wildchat",
        of: "Fed-WildChat, single turn",
        form: TwinForm::SingleTurn,
        sizes: Sizes::Spread { clients: 100, samples: 52_703, deviation: 477.0 },
        instruction: (331.0, 435.0),
        response: (506.0, 470.0),
        languages: WILDCHAT,
        assumed: &[LENGTHS, SIZES, "the mix of languages is that of the benchmark's test questions"],
    },
    Twin {
        name: "fed-wildchat-multi",
        of: "Fed-WildChat, multi-turn",
        form: TwinForm::MultiTurn,
        sizes: Sizes::Spread { clients: 50, samples: 15_406, deviation: 279.0 },
        instruction: (331.0, 435.0),
        response: (506.0, 470.0),
        languages: WILDCHAT,
        assumed: &[
            LENGTHS,
            SIZES,
            "nothing but the numbers of clients and conversations is published of the multi-turn set: deviation in \
             proportion and lengths, here those of a whole conversation, are those of the single-turn set; \
             conversations have two to five exchanges",
            "the mix of languages is that of the benchmark's test questions",
        ],
    },
    Twin {
        name: "fed-chatbot-pa",
        of: "Fed-ChatbotPA",
        form: TwinForm::Preference,
        sizes: Sizes::Spread { clients: 747, samples: 9_508, deviation: 21.0 },
        instruction: (69.0, 124.0),
        response: (218.0, 178.0),
        languages: CHATBOT,
        assumed: &[LENGTHS, SIZES, "the mix of languages is not published", "both answers have one length law"],
    },
];

impl Twin {
    /// Returns all twins.
    pub fn all() -> &'static [Self] {
        TWINS
    }

    /// Returns the twin with this name.
    pub fn named(name: &str) -> Option<&'static Self> {
        TWINS.iter().find(|twin| twin.name == name)
    }
}
