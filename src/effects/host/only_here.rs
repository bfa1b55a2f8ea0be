//! The keys that only a replaced master has, listed before it copies its successor.

use super::templates;
use crate::effects::fault;
use crate::effects::remote::Session;
use crate::model::error::{Error, Result};
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

/// Loading the data of a small instance takes seconds, and comparing some thousand keys a second more.
const COMPARE: Duration = Duration::from_secs(15 * 60);

/// The differences of a replaced master's last writes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OnlyHere {
    pub keys: Vec<Difference>,
    /// A command may have written further keys.
    pub more: bool,
    /// The file on the host that lists them.
    pub file: Option<String>,
}

/// A key whose value is another one on the replaced master. Types are Redis's own words; `none` for
/// a key that is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    pub database: u32,
    /// Quoted as the engine's client reads it.
    pub key: String,
    pub here: String,
    pub there: String,
}

/// More keys than this are in the file on the host alone.
const MOST_SHOWN: usize = 50;

impl OnlyHere {
    /// Returns one line on all, and one for each key; nothing if both sides have the same.
    pub fn lines(&self, seconds: u64) -> Vec<String> {
        if self.keys.is_empty() && !self.more {
            return Vec::new();
        }
        let file = self.file.as_deref().unwrap_or_default();
        let more = if self.more { ", and perhaps others" } else { "" };
        let first = format!(
            "the replaced master has {} keys{more} of its last {seconds} s that the new one does not have as they were; \
             `infra ssh replica sudo cat {file}` lists them, and its data is kept as docs/backups.md says",
            self.keys.len()
        );
        let keys = self.keys.iter().take(MOST_SHOWN).map(ToString::to_string);
        std::iter::once(first).chain(keys).collect()
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Difference {
            database,
            key,
            here,
            there,
        } = self;
        match (here.as_str(), there.as_str()) {
            (_, "none") => write!(
                f,
                "{key} in database {database}: a {here} that the new master does not have"
            ),
            ("none", _) => write!(
                f,
                "{key} in database {database}: removed, and a {there} on the new master"
            ),
            _ => write!(
                f,
                "{key} in database {database}: a {here} with another value than on the new master"
            ),
        }
    }
}

/// Compares what the last `seconds` of a replaced master's log wrote with the new master. `None` if
/// the host has no data of its own any more.
pub async fn only_here(session: &Session, new_master: IpAddr, seconds: u64) -> Result<Option<OnlyHere>> {
    let doing = format!("list what only {} has", session.label());
    let script = format!(
        "PEER={new_master}\nSECONDS_AT_STAKE={seconds}\n{}",
        templates::ONLY_HERE
    );
    let running = session.run_within("sudo -n bash -s", Some(script.as_bytes()), COMPARE, |_| ());
    let output = fault::around("list what only the old master has", running).await?;
    let text = output.expect_success(&doing)?.text();
    parse(&text).ok_or_else(|| Error::failed(doing).because(format!("its answer was {text:?}")))
}

/// Returns `None` for an answer that is not understood.
fn parse(text: &str) -> Option<Option<OnlyHere>> {
    let mut found = OnlyHere::default();
    for line in text.lines() {
        match line.split(' ').collect::<Vec<_>>()[..] {
            ["no-data"] => return Some(None),
            ["more"] => found.more = true,
            ["kept", file] => found.file = Some(file.into()),
            [database, here, there, key] => found.keys.push(Difference {
                database: database.parse().ok()?,
                key: key.into(),
                here: here.into(),
                there: there.into(),
            }),
            _ => return None,
        }
    }
    // The file comes last: without it the answer is not whole.
    found.file.is_some().then_some(Some(found))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_is_told_with_what_differs() {
        let text =
            "0 string none \"a\"\n3 none list \"b\\x20\"\n0 hash hash \"c\"\nmore\nkept /var/lib/infra/only-here\n";
        let found = parse(text).unwrap().unwrap();
        let told: Vec<String> = found.keys.iter().map(ToString::to_string).collect();
        assert_eq!(
            told,
            [
                "\"a\" in database 0: a string that the new master does not have",
                "\"b\\x20\" in database 3: removed, and a list on the new master",
                "\"c\" in database 0: a hash with another value than on the new master",
            ]
        );
        assert!(found.more);
        assert_eq!(found.file.as_deref(), Some("/var/lib/infra/only-here"));
    }

    #[test]
    fn an_answer_that_was_cut_off_is_no_answer() {
        assert_eq!(parse("no-data\n"), Some(None));
        for text in ["", "0 string none \"a\"\n", "kept\n", "x string none \"a\"\nkept f\n"] {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }
}
