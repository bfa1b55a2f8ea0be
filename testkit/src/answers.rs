//! The output and the exit code of a command of `infra`.

use serde_json::Value;
use std::process::Output;

pub struct Answer {
    /// The words after `infra`.
    shown: String,
    code: Option<i32>,
    out: String,
    err: String,
}

impl Answer {
    pub fn of(arguments: &[&str], output: &Output) -> Self {
        Answer {
            shown: arguments.join(" "),
            code: output.status.code(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    #[track_caller]
    pub fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{}", self.printed());
        self
    }

    /// Returns true if it ended as by `kill -9`.
    pub fn was_killed(&self) -> bool {
        self.code.is_none()
    }

    pub fn code(&self) -> Option<i32> {
        self.code
    }

    /// Returns the first line of its error.
    pub fn reason(&self) -> Option<String> {
        let line = self.err.lines().find(|line| line.starts_with("error: "))?;
        Some(line.trim_start_matches("error: ").to_string())
    }

    /// Returns all that it printed, below the command itself.
    pub fn printed(&self) -> String {
        format!("`infra {}` printed:\n{}\n{}", self.shown, self.out, self.err)
    }

    /// Returns what it printed to standard output.
    pub fn output(&self) -> &str {
        &self.out
    }

    /// Returns what it printed to standard error.
    pub fn errors(&self) -> &str {
        &self.err
    }

    #[track_caller]
    pub fn says(&self, words: &str) {
        assert!(
            self.out.contains(words) || self.err.contains(words),
            "{}",
            self.printed()
        );
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error} in what {}", self.printed()))
    }
}
