//! Checks of the codec of what clients send: whether it goes with the method and with privacy, and the ranges of the codec's
//! parameters that a file's reader does not check.

use super::schema::{Algorithm, CodecSpec, NoisePlacement, Privacy, ScenarioSpec};

/// [levels] -- Greatest number of levels: a sign and a level then take 16 bits.
const LEVELS_MAX: u32 = 32_767;

/// Checks `server.uplink_codec`.
///
/// # Errors
/// The first fault, as field and message.
pub(super) fn check(scenario: &ScenarioSpec) -> Result<(), (String, String)> {
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
