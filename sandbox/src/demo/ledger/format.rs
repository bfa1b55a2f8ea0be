//! The ledger's format: one record a line, as JSON; times are microseconds since the process's start.
//!
//! ```text
//! {"start":{"process":"web.1.mfx3k2","at_us":1763856000123456}}
//! {"attempt":{"operation":17,"after_us":1203,"write":{"counter":{"database":0,"key":"demo:counter:3"}}}}
//! {"acknowledged":{"operation":17,"after_us":1950,"endpoint":"10.77.0.1:6390","answer":1234}}
//! ```

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Write {
    /// SET of a key that only this process writes, with a rising value.
    Marker { database: i64, key: String, value: u64 },
    /// INCR.
    Counter { database: i64, key: String },
    /// ZADD of a member that only this process writes, with a rising score.
    Score {
        database: i64,
        key: String,
        member: String,
        score: u64,
    },
    /// A script's HSET of a field that only this process writes, with a rising value; the field ends after an hour.
    Field {
        database: i64,
        key: String,
        field: String,
        value: u64,
    },
    /// LPUSH of a job.
    Push { job: String },
    /// A job moved from the queue into this worker's own list.
    Take { job: String },
    /// A job taken off this worker's list and counted as done, in one transaction.
    Done { job: String },
    /// A long job taken off this worker's list into its memory: Redis need not have it any more.
    Hold { job: String },
    /// A long job pushed back into the queue by a worker that shuts down.
    PutBack { job: String },
}

/// The first attempt at a write, by which later ones at the same write name it.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq, Hash)]
#[serde(deny_unknown_fields)]
pub struct Origin {
    pub process: String,
    pub operation: u64,
}

/// A write whose process ended before its answer came; the next process repeats it.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Unanswered {
    pub origin: Origin,
    pub write: Write,
}

/// The place of a value that one process lets rise: database, key, and the member of a sorted set or the field of a hash.
pub type Place = (i64, String, Option<String>);

impl Write {
    /// Returns the place and the value of a write that lets a value rise.
    pub fn rising(&self) -> Option<(Place, u64)> {
        match self {
            Self::Marker { database, key, value } => Some(((*database, key.clone(), None), *value)),
            Self::Score {
                database,
                key,
                member,
                score,
            } => Some(((*database, key.clone(), Some(member.clone())), *score)),
            Self::Field {
                database,
                key,
                field,
                value,
            } => Some(((*database, key.clone(), Some(field.clone())), *value)),
            _ => None,
        }
    }

    pub fn kind(&self) -> &'static str {
        match self {
            Self::Marker { .. } => "marker",
            Self::Counter { .. } => "counter",
            Self::Score { .. } => "score",
            Self::Field { .. } => "field",
            Self::Push { .. } => "job_pushed",
            Self::Take { .. } => "job_taken",
            Self::Done { .. } => "job_done",
            Self::Hold { .. } => "job_held",
            Self::PutBack { .. } => "job_put_back",
        }
    }
}

#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Record {
    Start {
        process: String,
        /// Microseconds since 1970.
        at_us: u64,
    },
    Attempt {
        operation: u64,
        after_us: u64,
        write: Write,
        /// The first attempt, if this is another one at the same write.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        repeats: Option<Origin>,
    },
    Acknowledged {
        operation: u64,
        after_us: u64,
        endpoint: String,
        /// The number that a counter answered.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        answer: Option<i64>,
        /// The write was found done: the answer of an attempt before was lost.
        #[serde(default, skip_serializing_if = "is_false")]
        found_done: bool,
    },
    /// The connection ended before an answer came, so the write is sent again.
    Repeated {
        operation: u64,
        after_us: u64,
        endpoint: String,
        reason: String,
    },
    /// It is not known whether the write took effect.
    Failed {
        operation: u64,
        after_us: u64,
        endpoint: String,
        reason: String,
    },
    /// No connection to the endpoint could be made.
    NotConnected {
        after_us: u64,
        endpoint: String,
        reason: String,
    },
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_false(is: &bool) -> bool {
    !is
}

impl Record {
    pub fn parse(line: &str) -> Result<Self> {
        serde_json::from_str(line).with_context(|| format!("understand the ledger's line {line:?}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_record_is_read_back_as_it_was_written() {
        let write = |write| Record::Attempt {
            operation: 17,
            after_us: 1203,
            write,
            repeats: None,
        };
        let records = [
            Record::Start {
                process: "web.1.mfx".into(),
                at_us: 1_763_856_000_123_456,
            },
            write(Write::Marker {
                database: 1,
                key: "demo:marker:web.1.mfx:8".into(),
                value: 41,
            }),
            write(Write::Counter {
                database: 0,
                key: "demo:counter:3".into(),
            }),
            write(Write::Score {
                database: 1,
                key: "demo:scores:3".into(),
                member: "web.1.mfx:8".into(),
                score: 9,
            }),
            write(Write::Push {
                job: "web.1.mfx-5".into(),
            }),
            write(Write::Take {
                job: "web.1.mfx-5".into(),
            }),
            write(Write::Done {
                job: "web.1.mfx-5".into(),
            }),
            write(Write::Hold {
                job: "web.1.mfx-6".into(),
            }),
            write(Write::PutBack {
                job: "web.1.mfx-6".into(),
            }),
            Record::Acknowledged {
                operation: 17,
                after_us: 1950,
                endpoint: "10.77.0.1:6390".into(),
                answer: None,
                found_done: false,
            },
            Record::Attempt {
                operation: 18,
                after_us: 1300,
                write: Write::Push {
                    job: "web.1.mfx-7".into(),
                },
                repeats: Some(Origin {
                    process: "web.1.mfw".into(),
                    operation: 900,
                }),
            },
            Record::Repeated {
                operation: 18,
                after_us: 1400,
                endpoint: "10.77.0.1:6390".into(),
                reason: "connection_lost".into(),
            },
            Record::Acknowledged {
                operation: 18,
                after_us: 1950,
                endpoint: "10.77.0.1:6390".into(),
                answer: Some(-4),
                found_done: true,
            },
            Record::Failed {
                operation: 19,
                after_us: 2000,
                endpoint: "10.77.0.1:6390".into(),
                reason: "io".into(),
            },
            Record::NotConnected {
                after_us: 2100,
                endpoint: "10.77.0.1:6390".into(),
                reason: "refused".into(),
            },
        ];
        for record in records {
            let line = serde_json::to_string(&record).unwrap();
            assert_eq!(Record::parse(&line).unwrap(), record);
        }
    }

    #[test]
    fn damaged_lines_are_refused() {
        for line in [
            "",
            "k 17 1950 0",
            r#"{"unknown":{}}"#,
            r#"{"start":{"process":"web.1"}}"#,
            r#"{"start":{"process":"web.1","at_us":5,"more":1}}"#,
            r#"{"attempt":{"operation":1,"after_us":2,"write":{"unknown":{"job":"a"}}}}"#,
            r#"{"failed":{"operation":"one","after_us":2,"endpoint":"a","reason":"io"}}"#,
        ] {
            assert!(Record::parse(line).is_err(), "{line:?} was accepted");
        }
    }
}
