//! The ledger's format: one record a line; times are microseconds since the process's start.
//!
//! ```text
//! L 1 web.1.mfx3k2 1763856000123456        format, process, its start in microseconds since 1970
//! h 0 10.77.0.1:6390                       endpoint 0 is this address
//! a 17 1203 m 0 demo:marker:web.1.mfx3k2:8 41     attempt 17: marker in database 0, value 41
//! k 17 1950 0                              acknowledged by endpoint 0
//! k 18 1950 0 1234                         the same, with the number that a counter answered
//! e 19 2000 0 io                           failed: whether it took effect is unknown
//! c 2100 0 refused                         no connection to endpoint 0 could be made
//! ```

use std::fmt;

use anyhow::{Context, Result, bail};

/// A write of the app.
#[derive(Clone, Debug, PartialEq, Eq)]
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

/// The place of a value that one process lets rise: database, key, and the member of a sorted set.
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
            _ => None,
        }
    }

    /// Returns the name of its kind in reports.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Marker { .. } => "marker",
            Self::Counter { .. } => "counter",
            Self::Score { .. } => "score",
            Self::Push { .. } => "job_pushed",
            Self::Take { .. } => "job_taken",
            Self::Done { .. } => "job_done",
            Self::Hold { .. } => "job_held",
            Self::PutBack { .. } => "job_put_back",
        }
    }
}

/// One line of a ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    Start {
        process: String,
        at_us: u64,
    },
    Endpoint {
        number: usize,
        address: String,
    },
    Attempt {
        operation: u64,
        after_us: u64,
        write: Write,
    },
    Acknowledged {
        operation: u64,
        after_us: u64,
        endpoint: usize,
        answer: Option<i64>,
    },
    Failed {
        operation: u64,
        after_us: u64,
        endpoint: usize,
        reason: String,
    },
    NotConnected {
        after_us: u64,
        endpoint: usize,
        reason: String,
    },
}

impl fmt::Display for Record {
    fn fmt(&self, line: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start { process, at_us } => write!(line, "L 1 {process} {at_us}"),
            Self::Endpoint { number, address } => write!(line, "h {number} {address}"),
            Self::Attempt {
                operation,
                after_us,
                write,
            } => {
                write!(line, "a {operation} {after_us} ")?;
                match write {
                    Write::Marker { database, key, value } => write!(line, "m {database} {key} {value}"),
                    Write::Counter { database, key } => write!(line, "c {database} {key}"),
                    Write::Score {
                        database,
                        key,
                        member,
                        score,
                    } => {
                        write!(line, "z {database} {key} {member} {score}")
                    }
                    Write::Push { job } => write!(line, "p {job}"),
                    Write::Take { job } => write!(line, "t {job}"),
                    Write::Done { job } => write!(line, "d {job}"),
                    Write::Hold { job } => write!(line, "o {job}"),
                    Write::PutBack { job } => write!(line, "b {job}"),
                }
            }
            Self::Acknowledged {
                operation,
                after_us,
                endpoint,
                answer: None,
            } => {
                write!(line, "k {operation} {after_us} {endpoint}")
            }
            Self::Acknowledged {
                operation,
                after_us,
                endpoint,
                answer: Some(answer),
            } => {
                write!(line, "k {operation} {after_us} {endpoint} {answer}")
            }
            Self::Failed {
                operation,
                after_us,
                endpoint,
                reason,
            } => {
                write!(line, "e {operation} {after_us} {endpoint} {reason}")
            }
            Self::NotConnected {
                after_us,
                endpoint,
                reason,
            } => write!(line, "c {after_us} {endpoint} {reason}"),
        }
    }
}

impl Record {
    /// Reads one line, without its end.
    pub fn parse(line: &str) -> Result<Self> {
        let mut fields = Fields {
            line,
            rest: line.split(' '),
        };
        let record = match fields.text()? {
            "L" => {
                let version = fields.text()?;
                if version != "1" {
                    bail!("this ledger is of format {version:?}, and only format 1 is known");
                }
                Self::Start {
                    process: fields.owned()?,
                    at_us: fields.number()?,
                }
            }
            "h" => Self::Endpoint {
                number: fields.number()?,
                address: fields.owned()?,
            },
            "a" => Self::Attempt {
                operation: fields.number()?,
                after_us: fields.number()?,
                write: fields.write()?,
            },
            "k" => Self::Acknowledged {
                operation: fields.number()?,
                after_us: fields.number()?,
                endpoint: fields.number()?,
                answer: fields
                    .rest
                    .next()
                    .map(str::parse)
                    .transpose()
                    .with_context(|| format!("read the answer in ledger line {line:?}"))?,
            },
            "e" => Self::Failed {
                operation: fields.number()?,
                after_us: fields.number()?,
                endpoint: fields.number()?,
                reason: fields.owned()?,
            },
            "c" => Self::NotConnected {
                after_us: fields.number()?,
                endpoint: fields.number()?,
                reason: fields.owned()?,
            },
            _ => bail!("ledger line {line:?} begins with an unknown letter"),
        };
        if fields.rest.next().is_some() {
            bail!("ledger line {line:?} has more fields than expected");
        }
        Ok(record)
    }
}

struct Fields<'line> {
    line: &'line str,
    rest: std::str::Split<'line, char>,
}

impl<'line> Fields<'line> {
    fn text(&mut self) -> Result<&'line str> {
        let field = self.rest.next().filter(|field| !field.is_empty());
        field.with_context(|| format!("ledger line {:?} has fewer fields than expected", self.line))
    }

    fn owned(&mut self) -> Result<String> {
        self.text().map(str::to_owned)
    }

    fn number<N: std::str::FromStr<Err = std::num::ParseIntError>>(&mut self) -> Result<N> {
        let field = self.text()?;
        field
            .parse()
            .with_context(|| format!("{field:?} in ledger line {:?} is no number", self.line))
    }

    fn write(&mut self) -> Result<Write> {
        Ok(match self.text()? {
            "m" => Write::Marker {
                database: self.number()?,
                key: self.owned()?,
                value: self.number()?,
            },
            "c" => Write::Counter {
                database: self.number()?,
                key: self.owned()?,
            },
            "z" => Write::Score {
                database: self.number()?,
                key: self.owned()?,
                member: self.owned()?,
                score: self.number()?,
            },
            "p" => Write::Push { job: self.owned()? },
            "t" => Write::Take { job: self.owned()? },
            "d" => Write::Done { job: self.owned()? },
            "o" => Write::Hold { job: self.owned()? },
            "b" => Write::PutBack { job: self.owned()? },
            other => bail!("ledger line {:?} names an unknown kind of write {other:?}", self.line),
        })
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
        };
        let records = [
            Record::Start {
                process: "web.1.mfx".into(),
                at_us: 1_763_856_000_123_456,
            },
            Record::Endpoint {
                number: 0,
                address: "10.77.0.1:6390".into(),
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
                endpoint: 0,
                answer: None,
            },
            Record::Acknowledged {
                operation: 18,
                after_us: 1950,
                endpoint: 0,
                answer: Some(-4),
            },
            Record::Failed {
                operation: 19,
                after_us: 2000,
                endpoint: 1,
                reason: "io".into(),
            },
            Record::NotConnected {
                after_us: 2100,
                endpoint: 1,
                reason: "refused".into(),
            },
        ];
        for record in records {
            assert_eq!(Record::parse(&record.to_string()).unwrap(), record);
        }
    }

    #[test]
    fn damaged_lines_are_refused() {
        for line in [
            "",
            "x 1",
            "k 17",
            "k 17 1950 0 1234 9",
            "a 1 2 q 3",
            "k one 2 3",
            "L 2 web.1 5",
        ] {
            assert!(Record::parse(line).is_err(), "{line:?} was accepted");
        }
    }
}
