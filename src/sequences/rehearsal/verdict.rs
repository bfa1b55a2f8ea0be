//! Turns what a scratch server saw into a verdict with its reason. Pure.

use crate::effects::platform::heroku::ENDED;
use serde::{Deserialize, Serialize};

/// The scratch server's view of the app's process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Evidence {
    /// Writes that changed something.
    pub writes: u64,
    /// Keys that were asked for.
    pub reads: u64,
    pub handshakes: Vec<Handshake>,
    /// Logins that were refused: the user that was named, `default` for a password alone.
    pub refused_logins: Vec<String>,
    /// Commands before any login (NOAUTH).
    pub without_login: u64,
    /// Refusals to the user `app`: commands, keys, channels.
    pub refusals: Vec<Refusal>,
    pub ended: bool,
    /// Its exit status; `None` if the platform's log does not show it.
    pub status: Option<i32>,
    pub printed: Vec<String>,
}

/// Why a handshake failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Handshake {
    /// The client did not speak TLS.
    Plain,
    /// The client rejected our certificate.
    Untrusted,
    /// The client hung up in the middle.
    Broken,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub kind: Refused,
    /// The command, key or channel.
    pub what: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    Command,
    Key,
    Channel,
}

#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(tag = "verdict", rename_all = "lowercase")]
pub enum Verdict {
    Passed {
        writes: u64,
        reads: u64,
    },
    Failed {
        reason: String,
        remedy: String,
    },
    /// The app got in, and its own check may have failed or not.
    Unknown {
        reason: String,
        remedy: String,
    },
}

impl Verdict {
    pub fn passed(&self) -> bool {
        matches!(self, Verdict::Passed { .. })
    }
}

/// Returns what a log line says of a handshake; `None` for other lines. The words are OpenSSL's.
pub fn handshake(line: &str) -> Option<Handshake> {
    let line = line.to_lowercase();
    if !line.contains("accepting a client connection") {
        return None;
    }
    let any = |words: &[&str]| words.iter().any(|word| line.contains(word));
    Some(
        if any(&[
            "wrong version number",
            "http request",
            "unknown protocol",
            "packet length too long",
            "unexpected message",
        ]) {
            Handshake::Plain
        } else if any(&[
            "unknown ca",
            "bad certificate",
            "certificate unknown",
            "unsupported certificate",
            "certificate expired",
            "decrypt error",
        ]) {
            Handshake::Untrusted
        } else {
            Handshake::Broken
        },
    )
}

/// Passes an app that read and wrote and was refused nothing. Attempts of strangers do not count.
pub fn judge(evidence: &Evidence) -> Verdict {
    let failed = |reason: String, remedy: &str| Verdict::Failed {
        reason,
        remedy: remedy.into(),
    };
    if let Some(refusal) = evidence.refusals.first() {
        return refused(refusal);
    }
    if evidence.writes > 0 && evidence.reads > 0 {
        if let Some(status) = evidence.status.filter(|status| *status != 0) {
            return failed(
                format!(
                    "the app got in, wrote and read, and its check ended with status {status}{}",
                    printed(evidence)
                ),
                "see what it found wrong: its exit status must be 0",
            );
        }
        if !evidence.ended {
            return failed(
                "the app got in, but its check did not end in time".into(),
                "let the command of app.rehearse end by itself",
            );
        }
        if evidence.status.is_none() {
            return Verdict::Unknown {
                reason: "the app got in, wrote and read, but the platform's log does not say how its check ended"
                    .into(),
                remedy: "see with `heroku logs --ps run` whether its exit status was 0".into(),
            };
        }
        return Verdict::Passed {
            writes: evidence.writes,
            reads: evidence.reads,
        };
    }
    let tried = |kind: Handshake| evidence.handshakes.contains(&kind);
    if evidence.refused_logins.iter().any(|user| user == "default") {
        return failed(
            "the app sends the password without the user name".into(),
            "let its client take the user from the URL too (AUTH app PASSWORD): many take it by themselves when they are given the whole URL; a library before Redis 6 \
             wants an update",
        );
    }
    if let Some(user) = evidence.refused_logins.first() {
        return failed(
            format!("the app logs in as {user:?} with another password than its URL has"),
            "see where its client takes user and password from: only the URL is right",
        );
    }
    if evidence.writes > 0 || evidence.reads > 0 {
        let (did, not) = if evidence.writes > 0 {
            ("wrote", "read")
        } else {
            ("read", "wrote")
        };
        return failed(
            format!("the app got in and {did}, but {not} nothing"),
            "let the command of app.rehearse both write and read a key that begins with INFRA_REHEARSAL_PREFIX",
        );
    }
    if evidence.without_login > 0 {
        return failed(
            "the app does not log in: it sends neither user nor password".into(),
            "let its client take user and password from the URL",
        );
    }
    if tried(Handshake::Plain) {
        return failed(
            "the app speaks no TLS".into(),
            "let its client honour rediss:// in the URL: some want a setting of their own for TLS beside it",
        );
    }
    if tried(Handshake::Untrusted) {
        return failed(
            "the app does not trust the authority: it ignores the config var that holds the certificate (REDIS_CA)"
                .into(),
            "let its client verify the server by the PEM in that var (see app.ca_config_var)",
        );
    }
    if tried(Handshake::Broken) {
        return failed(
            "the app hung up during the TLS handshake: most likely it does not trust the authority".into(),
            "let its client verify the server by the PEM in the config var of app.ca_config_var; what the process printed says more",
        );
    }
    failed(
        if evidence.ended {
            format!("the app's process ended without connecting{}", printed(evidence))
        } else {
            "the app's process did not connect and did not end".into()
        },
        "see what it printed (`heroku logs --ps run`): the command may be missing, or use another var; and hosts.app_cidrs must let the app in",
    )
}

fn printed(evidence: &Evidence) -> String {
    match evidence.printed.as_slice() {
        [] => String::new(),
        lines => format!("; it printed: {}", lines.join(" / ")),
    }
}

/// Returns the exit status and the last lines of a process from its platform's log.
pub fn read_log(lines: &[String]) -> (Option<i32>, Vec<String>) {
    let mut status = None;
    let mut printed = Vec::new();
    for line in lines {
        let text = line.split_once("]: ").map_or(line.as_str(), |(_, text)| text);
        if let Some(rest) = text.split(ENDED).nth(1) {
            status = rest.split_whitespace().next().and_then(|word| word.parse().ok());
        } else if line.contains(" app[") && !text.trim().is_empty() {
            printed.push(text.trim().chars().take(200).collect());
        }
    }
    let skip = printed.len().saturating_sub(3);
    (status, printed.split_off(skip))
}

fn refused(refusal: &Refusal) -> Verdict {
    let what = &refusal.what;
    let (reason, remedy) = match refusal.kind {
        Refused::Command => (
            format!("the app runs {} and may not", what.to_uppercase()),
            format!(
                "allow it in infra.yml: `redis: {{app_commands: [{}]}}`, then run `infra up`",
                what.to_lowercase()
            ),
        ),
        Refused::Key => (
            format!("the app's check uses the key {what:?}, outside its scratch prefix"),
            "let every key of the check begin with INFRA_REHEARSAL_PREFIX".into(),
        ),
        Refused::Channel => (
            format!("the app may not use the channel {what:?}"),
            "that is not as it should be: report it".into(),
        ),
    };
    Verdict::Failed { reason, remedy }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Evidence {
        Evidence {
            writes: 2,
            reads: 1,
            ended: true,
            status: Some(0),
            ..Evidence::default()
        }
    }

    #[test]
    fn without_an_exit_status_an_app_that_got_in_has_not_passed() {
        let unknown = Evidence { status: None, ..good() };
        assert!(matches!(judge(&unknown), Verdict::Unknown { .. }));
        assert!(!judge(&unknown).passed());
    }

    fn nothing() -> Evidence {
        Evidence {
            ended: true,
            ..Evidence::default()
        }
    }

    #[test]
    fn strangers_at_the_open_port_do_not_matter_to_an_app_that_got_in() {
        let noisy = Evidence {
            handshakes: vec![Handshake::Plain, Handshake::Broken],
            refused_logins: vec!["default".into(), "root".into()],
            without_login: 3,
            ..good()
        };
        assert_eq!(judge(&noisy), Verdict::Passed { writes: 2, reads: 1 });
    }

    #[test]
    fn each_way_to_fail_has_its_reason() {
        let refusal = |kind, what: &str| Evidence {
            refusals: vec![Refusal {
                kind,
                what: what.into(),
            }],
            ..good()
        };
        let cases = [
            (
                Evidence {
                    handshakes: vec![Handshake::Plain],
                    ..nothing()
                },
                "speaks no TLS",
            ),
            (
                Evidence {
                    handshakes: vec![Handshake::Untrusted],
                    ..nothing()
                },
                "does not trust the authority",
            ),
            (
                Evidence {
                    handshakes: vec![Handshake::Broken],
                    ..nothing()
                },
                "hung up",
            ),
            (
                Evidence {
                    refused_logins: vec!["default".into()],
                    ..nothing()
                },
                "without the user name",
            ),
            (
                Evidence {
                    refused_logins: vec!["app".into()],
                    ..nothing()
                },
                "another password",
            ),
            (
                Evidence {
                    without_login: 1,
                    ..nothing()
                },
                "does not log in",
            ),
            (Evidence { writes: 1, ..nothing() }, "wrote, but read nothing"),
            (Evidence { reads: 1, ..nothing() }, "read, but wrote nothing"),
            (Evidence { ended: false, ..good() }, "did not end in time"),
            (
                Evidence {
                    status: Some(2),
                    ..good()
                },
                "ended with status 2",
            ),
            (nothing(), "ended without connecting"),
            (
                Evidence {
                    printed: vec!["no such file".into()],
                    ..nothing()
                },
                "it printed: no such file",
            ),
            (Evidence::default(), "did not connect and did not end"),
            (refusal(Refused::Command, "keys"), "runs KEYS and may not"),
            (refusal(Refused::Key, "users:1"), "outside its scratch prefix"),
        ];
        for (evidence, expected) in cases {
            let Verdict::Failed { reason, remedy } = judge(&evidence) else {
                panic!("{evidence:?} passed")
            };
            assert!(
                reason.contains(expected) && !remedy.is_empty(),
                "{reason}, not {expected}"
            );
        }
    }

    #[test]
    fn status_and_last_lines_are_read_off_the_platform_s_log() {
        let lines = [
            "2025-11-23T03:00:00+00:00 heroku[run.1000]: Starting process with command `bin/check`",
            "2025-11-23T03:00:01+00:00 app[run.1000]: one",
            "2025-11-23T03:00:01+00:00 app[run.1000]: two",
            "2025-11-23T03:00:01+00:00 app[run.1000]: ",
            "2025-11-23T03:00:01+00:00 app[run.1000]: three",
            "2025-11-23T03:00:01+00:00 app[run.1000]: four",
            "2025-11-23T03:00:02+00:00 heroku[run.1000]: Process exited with status 127",
        ]
        .map(String::from);
        assert_eq!(
            read_log(&lines),
            (Some(127), ["two", "three", "four"].map(String::from).to_vec())
        );
        assert_eq!(read_log(&[]), (None, Vec::new()));
    }

    #[test]
    fn a_handshake_is_read_off_the_log() {
        let line = |said: &str| {
            format!(
                "Error accepting a client connection: error:0A00010B:SSL routines::{said} (addr=192.0.2.1:5 laddr=…)"
            )
        };
        assert_eq!(handshake(&line("wrong version number")), Some(Handshake::Plain));
        assert_eq!(handshake(&line("tlsv1 alert unknown ca")), Some(Handshake::Untrusted));
        assert_eq!(
            handshake(&line("sslv3 alert bad certificate")),
            Some(Handshake::Untrusted)
        );
        assert_eq!(
            handshake(&line("unexpected eof while reading")),
            Some(Handshake::Broken)
        );
        assert_eq!(handshake("Ready to accept connections tls"), None);
    }
}
