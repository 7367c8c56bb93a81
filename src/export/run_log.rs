//! Format of the log that `wandb` keeps of an offline run and `wandb sync` uploads: protobuf messages in the blocks of LevelDB's
//! log, with CRC-32 checksums.
//!
//! Of `wandb_internal.proto` only the fields that curves, summary and configuration need are written.

use serde_json::Value;

use super::protobuf::{delimited, whole};

/// [B] -- Length of a block.
const BLOCK: usize = 32_768;

/// [B] -- Length of the header of a part: checksum, length, kind.
const HEADER: usize = 7;

/// Log in memory.
pub struct RunLog {
    bytes: Vec<u8>,
    records: u64,
}

/// Name, start and configuration of a run.
pub struct LoggedRun<'a> {
    pub id: &'a str,
    pub project: &'a str,
    pub name: &'a str,
    /// [s] -- Start of the run since 1970.
    pub began: u64,
    pub config: &'a [(String, Value)],
}

impl RunLog {
    /// Creates a log that begins with the program and the run.
    pub fn new(run: &LoggedRun) -> Self {
        let mut log = Self { bytes: b":W&B\xe1\xbe\0".to_vec(), records: 0 };
        // HeaderRecord { version_info = 1: VersionInfo { producer = 1, min_consumer = 2 } }
        let producer = concat!("fedreplay ", env!("CARGO_PKG_VERSION"));
        let version = [delimited(1, producer.as_bytes()), delimited(2, b"0.70.0")].concat();
        log.record(21, &delimited(1, &version));
        // RunRecord { run_id = 1, project = 3, config = 4, display_name = 8, start_time = 17 }
        let mut config = Vec::new();
        for (key, value) in run.config {
            // ConfigRecord { update = 1: ConfigItem { key = 1, value_json = 16 } }
            config.extend(delimited(1, &item(1, key, value)));
        }
        let mut record = delimited(1, run.id.as_bytes());
        record.extend(delimited(3, run.project.as_bytes()));
        record.extend(delimited(4, &config));
        record.extend(delimited(8, run.name.as_bytes()));
        record.extend(delimited(17, &whole(1, run.began)));
        log.record(17, &record);
        log
    }

    /// Appends the values of a step.
    pub fn step<'a>(&mut self, step: u32, values: impl Iterator<Item = (&'a String, &'a Value)>) {
        // HistoryRecord { item = 1: HistoryItem { nested_key = 2, value_json = 16 }, step = 2: HistoryStep { num = 1 } }
        let mut record: Vec<u8> = values.flat_map(|(key, value)| delimited(1, &item(2, key, value))).collect();
        record.extend(delimited(2, &whole(1, step.into())));
        self.record(2, &record);
    }

    /// Appends the summary and the end of the run. Returns the bytes of the log.
    pub fn finish<'a>(mut self, summary: impl Iterator<Item = (&'a String, &'a Value)>, seconds: u64) -> Vec<u8> {
        // SummaryRecord { update = 1: SummaryItem { nested_key = 2, value_json = 16 } }
        let record: Vec<u8> = summary.flat_map(|(key, value)| delimited(1, &item(2, key, value))).collect();
        self.record(3, &record);
        // RunExitRecord { exit_code = 1, runtime = 2 }
        self.record(18, &whole(2, seconds));
        self.bytes
    }

    /// Appends `Record { num = 1, FIELD: message }`, in as many parts as it spans blocks.
    fn record(&mut self, field: u64, message: &[u8]) {
        self.records += 1;
        let record = [whole(1, self.records), delimited(field, message)].concat();
        let mut rest = record.as_slice();
        let mut is_first = true;
        loop {
            let left = BLOCK - self.bytes.len() % BLOCK;
            if left < HEADER {
                self.bytes.resize(self.bytes.len() + left, 0);
                continue;
            }
            let (part, after) = rest.split_at(rest.len().min(left - HEADER));
            // 1: a whole record; 2, 3, 4: its first, a middle and its last part.
            let kind: u8 = match (is_first, after.is_empty()) {
                (true, true) => 1,
                (true, false) => 2,
                (false, false) => 3,
                (false, true) => 4,
            };
            let mut checksum = flate2::Crc::new();
            checksum.update(&[kind]);
            checksum.update(part);
            self.bytes.extend(checksum.sum().to_le_bytes());
            self.bytes.extend((part.len() as u16).to_le_bytes());
            self.bytes.push(kind);
            self.bytes.extend(part);
            if after.is_empty() {
                return;
            }
            rest = after;
            is_first = false;
        }
    }
}

/// Returns a key, in field `field` of its message, with its value as JSON.
fn item(field: u64, key: &str, value: &Value) -> Vec<u8> {
    [delimited(field, key.as_bytes()), delimited(16, value.to_string().as_bytes())].concat()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_record_longer_than_a_block_is_in_parts_that_end_with_their_blocks() {
        let mut log = RunLog::new(&LoggedRun { id: "r", project: "p", name: "n", began: 0, config: &[] });
        let (begins, text) = (log.bytes.len(), "x".repeat(2 * BLOCK));
        log.step(1, [(&"text".to_owned(), &json!(text))].into_iter());
        let (mut at, mut kinds, mut content) = (begins, Vec::new(), Vec::new());
        while at < log.bytes.len() {
            let length = usize::from(u16::from_le_bytes([log.bytes[at + 4], log.bytes[at + 5]]));
            kinds.push(log.bytes[at + 6]);
            content.extend(&log.bytes[at + HEADER..at + HEADER + length]);
            assert!(at / BLOCK == (at + HEADER + length - 1) / BLOCK, "the part at {at} is in one block");
            at += HEADER + length;
        }
        assert_eq!(kinds, [2, 3, 4]);
        assert!(String::from_utf8_lossy(&content).contains(&text));
    }
}
