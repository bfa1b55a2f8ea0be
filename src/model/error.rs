//! Errors for the person who reads them, and their exit codes.
//!
//! A message fits after "cannot": what was done, to which host, resource or field. Causes say
//! what was found, the hint what to try. No secret is in a message: `Secret` has no `Display`.

use std::fmt;
use strum::IntoStaticStr;

/// The exit codes of the program, and their meaning for a script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ExitCode {
    /// The command did what was asked, or nothing was left to do.
    Done = 0,
    /// The command failed; its work is undone, or the message says otherwise.
    Failed = 1,
    /// `--detailed-exitcode` was given and there are changes to make.
    ChangesPending = 2,
    /// Somebody else holds the lock of this environment.
    Locked = 3,
    /// Some of the changes were made; the same command makes the rest.
    Partial = 4,
    /// The command could not prove its claim (data not identical, source moved, backup unreadable).
    Unproven = 5,
    /// `backup verify`: nothing new has come for too long.
    BackupStale = 20,
    /// `backup verify`: part of the log, or of a base, is missing.
    BackupGap = 21,
    /// `backup verify`: an object differs from its record.
    BackupChecksum = 22,
    /// `backup verify`: the engine does not load it.
    BackupLoad = 23,
    /// `backup verify`: the bucket could not be read.
    BackupUnreachable = 24,
    /// The command line or a file of the user is wrong.
    Usage = 64,
    /// Interrupted by SIGINT or SIGTERM after cleaning up.
    Interrupted = 130,
}

/// The kinds of error; each has one exit code.
#[derive(Clone, Copy, Debug, IntoStaticStr, PartialEq, Eq)]
#[strum(serialize_all = "snake_case")]
pub enum Kind {
    Failed,
    Locked,
    Partial,
    Unproven,
    Usage,
    Interrupted,
    BackupStale,
    BackupGap,
    BackupChecksum,
    BackupLoad,
    BackupUnreachable,
}

impl Kind {
    pub fn exit_code(self) -> ExitCode {
        match self {
            Kind::Failed => ExitCode::Failed,
            Kind::Locked => ExitCode::Locked,
            Kind::Partial => ExitCode::Partial,
            Kind::Unproven => ExitCode::Unproven,
            Kind::Usage => ExitCode::Usage,
            Kind::Interrupted => ExitCode::Interrupted,
            Kind::BackupStale => ExitCode::BackupStale,
            Kind::BackupGap => ExitCode::BackupGap,
            Kind::BackupChecksum => ExitCode::BackupChecksum,
            Kind::BackupLoad => ExitCode::BackupLoad,
            Kind::BackupUnreachable => ExitCode::BackupUnreachable,
        }
    }

    /// Returns the name of this kind in JSON output.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

type Cause = Box<dyn std::error::Error + Send + Sync + 'static>;

/// An error with its kind, its cause and a next step.
#[derive(Debug)]
pub struct Error(Box<Inner>);

#[derive(Debug)]
struct Inner {
    kind: Kind,
    message: String,
    hint: Option<String>,
    cause: Option<Cause>,
    impostor: bool,
    nothing_changed: bool,
}

pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Error(Box::new(Inner {
            kind,
            message: message.into(),
            hint: None,
            cause: None,
            impostor: false,
            nothing_changed: false,
        }))
    }

    pub fn failed(message: impl Into<String>) -> Self {
        Self::new(Kind::Failed, message)
    }

    pub fn locked(message: impl Into<String>) -> Self {
        Self::new(Kind::Locked, message)
    }

    pub fn partial(message: impl Into<String>) -> Self {
        Self::new(Kind::Partial, message)
    }

    pub fn unproven(message: impl Into<String>) -> Self {
        Self::new(Kind::Unproven, message)
    }

    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Kind::Usage, message)
    }

    pub fn interrupted(message: impl Into<String>) -> Self {
        Self::new(Kind::Interrupted, message)
    }

    /// Sets the next step for the reader: one sentence, imperative.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    #[must_use]
    pub fn because(mut self, cause: impl Into<Cause>) -> Self {
        self.0.cause = Some(cause.into());
        self
    }

    /// Wraps this error in one that says what was being done. Kind and hint stay.
    #[must_use]
    pub fn while_doing(self, message: impl Into<String>) -> Self {
        let kind = self.kind();
        Self::new(kind, message).because(self)
    }

    #[must_use]
    pub fn with_kind(mut self, kind: Kind) -> Self {
        self.0.kind = kind;
        self
    }

    /// Marks an answer of an impostor. No command may succeed after that, whatever else it found.
    #[must_use]
    pub fn by_an_impostor(mut self) -> Self {
        self.0.impostor = true;
        self
    }

    /// Returns true if this error, or a cause of it, is an answer of an impostor.
    pub fn is_by_an_impostor(&self) -> bool {
        self.any_in_chain(|inner| inner.impostor)
    }

    /// Marks a change that was certainly not made: it was refused, or never sent.
    #[must_use]
    pub fn with_nothing_changed(mut self) -> Self {
        self.0.nothing_changed = true;
        self
    }

    /// Returns true if this error, or a cause of it, says that nothing was changed.
    pub fn nothing_changed(&self) -> bool {
        self.any_in_chain(|inner| inner.nothing_changed)
    }

    fn any_in_chain(&self, is: impl Fn(&Inner) -> bool) -> bool {
        self.causes()
            .filter_map(|cause| cause.downcast_ref::<Error>())
            .any(|error| is(&error.0))
    }

    /// Returns this error and its causes, from the outermost to the root.
    fn causes(&self) -> impl Iterator<Item = &(dyn std::error::Error + 'static)> {
        std::iter::successors(Some(self as &(dyn std::error::Error + 'static)), |error| error.source())
    }

    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// Returns this error once more, for a second place that reports it. Its causes become text.
    pub fn repeated(&self) -> Error {
        Error(Box::new(Inner {
            kind: self.kind(),
            message: format!("{self:#}"),
            hint: self.next_step().map(str::to_string),
            cause: None,
            impostor: self.is_by_an_impostor(),
            nothing_changed: self.nothing_changed(),
        }))
    }

    /// Returns the outermost hint of the chain.
    pub fn next_step(&self) -> Option<&str> {
        self.causes()
            .filter_map(|cause| cause.downcast_ref::<Error>())
            .find_map(|error| error.0.hint.as_deref())
    }

    /// Returns the messages from the outermost to the root, without repetitions.
    pub fn chain(&self) -> Vec<String> {
        let mut lines: Vec<String> = Vec::new();
        for line in self.causes().map(ToString::to_string) {
            if lines.last().is_none_or(|last| !last.contains(&line)) {
                lines.push(line);
            }
        }
        lines
    }
}

/// Shows what failed; by `{:#}` in one line with its causes.
impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if f.alternate() {
            return f.write_str(&self.chain().join(": "));
        }
        f.write_str(&self.0.message)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.cause.as_deref().map(|cause| cause as _)
    }
}

/// Adds what was being done to errors from outside.
pub trait Doing<T> {
    /// `what` fits after "cannot", for example `read infra.yml`.
    fn doing(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: Into<Cause>> Doing<T> for std::result::Result<T, E> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|cause| {
            let cause = cause.into();
            match cause.downcast::<Error>() {
                Ok(ours) => ours.while_doing(what()),
                Err(other) => Error::failed(what()).because(other),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kind_and_hint_survive_being_wrapped() {
        let inner: Result<()> = Err(Error::locked("lock is held").hint("wait"));
        let outer = inner.doing(|| "write the state".into()).unwrap_err();
        assert_eq!(outer.kind(), Kind::Locked);
        assert_eq!(outer.next_step(), Some("wait"));
        assert_eq!(outer.chain(), ["write the state", "lock is held"]);
    }

    #[test]
    fn a_foreign_error_becomes_the_cause() {
        let read: std::io::Result<()> = Err(std::io::Error::new(std::io::ErrorKind::NotFound, "no such file"));
        let error = read.doing(|| "read infra.yml".into()).unwrap_err();
        assert_eq!(error.chain(), ["read infra.yml", "no such file"]);
    }
}
