//! The lines of dynos and those of the platform about them, in the form of Heroku's log drain.
//!
//! A process writes directly to the file of its dyno name, so no line is lost if the platform ends.
//! A line has no time of its own; it shows that of the file's last one.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use serde::Deserialize;

use super::Server;
use super::model::{App, Dyno, Platform};

/// Returns the file to which processes under this dyno's name write.
pub(super) fn file(state_dir: &Path, app: &str, dyno: &str) -> PathBuf {
    state_dir.join("logs").join(app).join(format!("{dyno}.log"))
}

/// A client's selection of lines.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Selection {
    /// A name or a type: `run.1000`, `web`.
    #[serde(alias = "dyno_name", alias = "type")]
    dyno: Option<String>,
    /// `app` for what processes wrote, `heroku` for what the platform says about them.
    source: Option<String>,
    /// How many of the last lines.
    pub(crate) lines: Option<usize>,
}

/// Selections, by the secret in the URL that was given out for each.
#[derive(Default)]
pub(crate) struct Sessions(Mutex<HashMap<String, (String, Selection)>>);

impl Sessions {
    pub fn add(&self, secret: String, app: String, selection: Selection) {
        let mut sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.insert(secret, (app, selection));
    }

    /// Returns the app's name and the selection.
    pub fn get(&self, secret: &str) -> Option<(String, Selection)> {
        let sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.get(secret).cloned()
    }
}

struct Line {
    at: Timestamp,
    source: &'static str,
    dyno: String,
    text: String,
}

/// Returns the selected lines, oldest first.
pub(super) fn read(server: &Server, platform: &Platform, app: &App, selection: &Selection) -> String {
    let dynos: Vec<&Dyno> = platform
        .dynos
        .iter()
        .filter(|dyno| dyno.app == app.id && selection.wants(dyno))
        .collect();
    let mut lines: Vec<Line> = dynos.iter().flat_map(|dyno| life(dyno)).collect();
    let names: BTreeSet<&str> = dynos.iter().map(|dyno| dyno.name.as_str()).collect();
    for name in names {
        lines.extend(written(&file(&server.options.state_dir, &app.name, name), name));
    }
    lines.retain(|line| selection.source.as_deref().is_none_or(|source| source == line.source));
    let late = Duration::from_secs_f64(app.behaviour.logs.late_seconds.max(0.0));
    lines.retain(|line| Timestamp::now().duration_since(line.at).unsigned_abs() >= late);
    lines.sort_by_key(|line| line.at);
    let skipped = lines.len().saturating_sub(selection.lines.unwrap_or(usize::MAX));
    lines.iter().skip(skipped).map(Line::shown).collect()
}

impl Selection {
    fn wants(&self, dyno: &Dyno) -> bool {
        self.dyno
            .as_ref()
            .is_none_or(|wanted| dyno.name == *wanted || dyno.process_type == *wanted)
    }
}

/// Returns what the platform says about a dyno.
fn life(dyno: &Dyno) -> Vec<Line> {
    let timing = &dyno.timing;
    let said = [
        (
            timing.started_at,
            format!("Starting process with command `{}`", dyno.shown_command()),
        ),
        (timing.started_at, "State changed from starting to up".to_owned()),
        (timing.signalled_at, "Stopping all processes with SIGTERM".to_owned()),
        (timing.killed_at, "Stopping process with SIGKILL".to_owned()),
        (
            timing.ended_at,
            format!("Process exited with status {}", status(timing.exit.as_deref())),
        ),
        (timing.ended_at, "State changed from up to complete".to_owned()),
    ];
    said.into_iter()
        .filter_map(|(at, text)| {
            Some(Line {
                at: at?,
                source: "heroku",
                dyno: dyno.name.clone(),
                text,
            })
        })
        .collect()
}

/// Returns the exit status as a shell counts: 128 more than the signal.
fn status(exit: Option<&str>) -> String {
    let exit = exit.unwrap_or("unknown");
    if let Some(code) = exit.strip_prefix("exit status: ") {
        return code.to_owned();
    }
    let signal = exit
        .strip_prefix("signal: ")
        .and_then(|rest| rest.split(' ').next()?.parse::<u32>().ok());
    signal.map_or_else(|| exit.to_owned(), |signal| (128 + signal).to_string())
}

/// Returns what processes under a name wrote; nothing before the first one starts.
fn written(path: &Path, name: &str) -> Vec<Line> {
    let at = std::fs::metadata(path)
        .and_then(|data| data.modified())
        .ok()
        .and_then(|time| Timestamp::try_from(time).ok());
    let (Some(at), Ok(bytes)) = (at, std::fs::read(path)) else {
        return Vec::new();
    };
    String::from_utf8_lossy(&bytes)
        .lines()
        .map(|text| Line {
            at,
            source: "app",
            dyno: name.to_owned(),
            text: text.to_owned(),
        })
        .collect()
}

impl Line {
    fn shown(&self) -> String {
        let at = self.at.strftime("%Y-%m-%dT%H:%M:%S%.6f+00:00");
        format!("{at} {}[{}]: {}\n", self.source, self.dyno, self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exit_is_shown_as_a_shell_counts() {
        assert_eq!(status(Some("exit status: 3")), "3");
        assert_eq!(status(Some("signal: 9 (SIGKILL)")), "137");
        assert_eq!(status(Some("signal: 11 (SIGSEGV) (core dumped)")), "139");
        assert_eq!(
            status(Some("ended while it was starting")),
            "ended while it was starting"
        );
    }

    #[test]
    fn a_line_has_time_source_and_dyno() {
        let line = Line {
            at: Timestamp::from_microsecond(1_763_856_000_123_456).unwrap(),
            source: "app",
            dyno: "run.1000".to_owned(),
            text: "no CA".to_owned(),
        };
        assert_eq!(line.shown(), "2025-11-23T00:00:00.123456+00:00 app[run.1000]: no CA\n");
    }
}
