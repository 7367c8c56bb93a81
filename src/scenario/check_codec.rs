//! Checks of the codecs of what clients send and receive: whether they go with the method, the aggregation and privacy, and the ranges
//! of a codec's parameters that a file's reader does not check.

use super::federated_lora::Averages;
use super::schema::{AggregationSpec, Algorithm, CodecSpec, NoisePlacement, Privacy, ScenarioSpec};

/// [levels] -- Greatest number of levels: a sign and a level then take 16 bits.
const LEVELS_MAX: u32 = 32_767;

/// Checks `server.uplink_codec` and `server.downlink_codec`.
///
/// # Errors
/// The first fault, as field and message.
pub(super) fn check(scenario: &ScenarioSpec) -> Result<(), (String, String)> {
    check_uplink(scenario)?;
    match scenario.server.downlink_codec.and_then(|codec| clash_of_downlink(scenario, codec)) {
        Some(reason) => Err(("server.downlink_codec".into(), reason)),
        None => Ok(()),
    }
}

fn check_uplink(scenario: &ScenarioSpec) -> Result<(), (String, String)> {
    let Some(codec) = scenario.server.uplink_codec else { return Ok(()) };
    if let Some(reason) = clash(scenario) {
        return Err(("server.uplink_codec".into(), reason.into()));
    }
    match codec {
        CodecSpec::Qsgd { levels, .. } if levels > LEVELS_MAX => {
            Err(("server.uplink_codec.levels".into(), format!("it must be at most {LEVELS_MAX}, a code of 16 bits")))
        }
        _ => Ok(()),
    }
}

/// Returns a warning if the codec sends more than it saves.
pub(super) fn doubt(scenario: &ScenarioSpec) -> Option<String> {
    match scenario.server.uplink_codec? {
        CodecSpec::TopK { share, .. } if share > 0.5 => Some(format!(
            "server.uplink_codec.share is {share}: TopK sends eight bytes for each value that it keeps, which is more than four for \
             each of all"
        )),
        _ => None,
    }
}

/// Returns why no codec goes with the rest of the scenario.
fn clash(scenario: &ScenarioSpec) -> Option<&'static str> {
    match scenario.algorithm {
        Algorithm::Scaffold { .. } => {
            return Some(
                "it does not go with SCAFFOLD: a control variate travels with each update, and no codec here is made for it",
            );
        }
        Algorithm::Local | Algorithm::Centralised => return Some("nothing is sent"),
        _ => {}
    }
    match scenario.privacy {
        Some(Privacy::UserLevel { placement: NoisePlacement::Local, .. }) => Some(
            "it does not go with noise at the clients, which would have to be encoded with the update; use placement Central or Tree",
        ),
        Some(Privacy::FedLlmBenchDp { .. }) => Some(
            "it does not go with FedLlmBenchDp, whose noise is added at the clients and would have to be encoded with the update",
        ),
        _ => None,
    }
}

/// Returns why a codec of the model that clients receive does not go with the rest of the scenario, or is none of a model.
fn clash_of_downlink(scenario: &ScenarioSpec, codec: CodecSpec) -> Option<String> {
    if !matches!(codec, CodecSpec::Int8 | CodecSpec::Nf4) {
        return Some(format!(
            "{} is a codec of changes: of a model, of which a client may have no earlier version, it leaves too little; use Int8 or Nf4",
            codec.name()
        ));
    }
    match scenario.algorithm {
        Algorithm::Scaffold { .. } => {
            return Some(
                "it does not go with SCAFFOLD: a control variate travels with the model, and no codec here is made for it".into(),
            );
        }
        Algorithm::Local | Algorithm::Centralised => return Some("nothing is received".into()),
        _ => {}
    }
    if scenario.averages_products() || scenario.lora_method().averages != Averages::Factors {
        let method = if scenario.averages_products() { "a mean of products" } else { scenario.lora_method().name };
        return Some(format!(
            "it does not go with {method}: what is averaged are whole adapters of clients, which would take the error of the code \
             into the server's model"
        ));
    }
    if !scenario.model.lora.ranks.is_empty() {
        return Some(
            "it does not go with model.lora.ranks: a client of lower rank receives other matrices, in other blocks"
                .into(),
        );
    }
    if matches!(scenario.server.aggregation, AggregationSpec::FlTrust { .. }) {
        return Some(
            "it does not go with FlTrust: the server trains from its own model, and clients from another".into(),
        );
    }
    None
}
