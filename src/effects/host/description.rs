//! A description of a host, as one value. Pure.

use super::engine::Layout;
use super::programs::Binary;
use super::reach::Reach;
use crate::model::secret::Secret;

/// Describes what should be on a host. Applying it a second time changes nothing.
#[derive(Clone, Debug)]
pub struct Description {
    /// The host's name in messages.
    pub label: String,
    /// The engine that reactions work on.
    pub engine: Layout,
    /// Packages of the distribution, installed without a start of their units.
    pub packages: Vec<String>,
    pub directories: Vec<Directory>,
    pub files: Vec<File>,
    pub sysctls: Vec<Sysctl>,
    pub units: Vec<Unit>,
    /// The source that the host has to reach before its engine follows it.
    pub source: Option<Reach>,
    /// Another host took its place as the master, so that it may be made to follow.
    pub demoted: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directory {
    pub path: String,
    pub owner: String,
    pub group: String,
    pub mode: u32,
}

impl Directory {
    pub(super) fn of_root(path: &str, group: &str, mode: u32) -> Self {
        Directory {
            path: path.into(),
            owner: "root".into(),
            group: group.into(),
            mode,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    pub path: String,
    pub owner: String,
    pub group: String,
    pub mode: u32,
    pub content: Content,
    /// The work on the host that a change of the content needs.
    pub on_change: Option<Reaction>,
}

/// The content of a file. No kind is ever shown; a plan says only that it changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    Plain(String),
    Secret(Secret),
    Program(Binary),
}

impl From<String> for Content {
    fn from(text: String) -> Self {
        Content::Plain(text)
    }
}

impl From<&str> for Content {
    fn from(text: &str) -> Self {
        Content::Plain(text.into())
    }
}

impl From<Secret> for Content {
    fn from(secret: Secret) -> Self {
        Content::Secret(secret)
    }
}

impl From<Binary> for Content {
    fn from(program: Binary) -> Self {
        Content::Program(program)
    }
}

impl Content {
    /// Returns the text; empty for a program.
    pub fn text(&self) -> &str {
        match self {
            Content::Plain(text) => text,
            Content::Secret(secret) => secret.expose(),
            Content::Program(_) => "",
        }
    }

    /// Returns the SHA-256 in hexadecimal.
    pub fn digest(&self) -> String {
        match self {
            Content::Plain(_) | Content::Secret(_) => infra_agent::digest::of(self.text().as_bytes()),
            Content::Program(program) => program.sha256().into(),
        }
    }
}

/// The effect of a changed file, mildest first. Hosts remember interrupted ones for the next run.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reaction {
    /// systemd reads its units again.
    ReloadUnits,
    /// The kernel settings are applied.
    LoadSysctls,
    /// sshd reads its settings if they are valid; otherwise the old ones stay.
    ReloadSsh,
    /// Redis reads its users again.
    LoadUsers,
    /// Redis reads its certificates again.
    LoadCertificates,
    /// Redis takes changed settings, live or by a restart: see [`super::redis_conf::consequence`].
    Configure,
    /// The engine's unit is restarted.
    RestartEngine,
    /// A unit other than the engine's is restarted, if it runs.
    Restart(String),
}

impl Reaction {
    /// Returns the word for it in the host's list of unfinished work.
    pub fn word(&self) -> String {
        match self {
            Reaction::ReloadUnits => "reload-units".into(),
            Reaction::LoadSysctls => "load-sysctls".into(),
            Reaction::ReloadSsh => "reload-ssh".into(),
            Reaction::LoadUsers => "load-users".into(),
            Reaction::LoadCertificates => "load-certificates".into(),
            Reaction::Configure => "configure".into(),
            Reaction::RestartEngine => "restart-engine".into(),
            Reaction::Restart(unit) => format!("restart={unit}"),
        }
    }

    /// Returns the reaction of a word. An unknown word means a restart, the strongest.
    pub fn from_word(word: &str) -> Self {
        match word {
            "reload-units" => Reaction::ReloadUnits,
            "load-sysctls" => Reaction::LoadSysctls,
            "reload-ssh" => Reaction::ReloadSsh,
            "load-users" => Reaction::LoadUsers,
            "load-certificates" => Reaction::LoadCertificates,
            "configure" => Reaction::Configure,
            _ => match word.strip_prefix("restart=") {
                Some(unit) => Reaction::Restart(unit.into()),
                None => Reaction::RestartEngine,
            },
        }
    }
}

/// A kernel setting by its sysctl name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sysctl {
    pub key: String,
    pub value: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unit {
    pub name: String,
    pub enabled: bool,
    /// True if it should run; `None` if the unit decides (a oneshot, or one that a timer starts).
    pub active: Option<bool>,
}

impl Unit {
    /// Returns a unit that runs now and after every boot.
    pub(super) fn running(name: &str) -> Self {
        Unit {
            name: name.into(),
            enabled: true,
            active: Some(true),
        }
    }
}

/// Returns a file that belongs to root.
pub(super) fn root_file(path: &str, mode: u32, content: impl Into<Content>, on_change: Option<Reaction>) -> File {
    File {
        path: path.into(),
        owner: "root".into(),
        group: "root".into(),
        mode,
        content: content.into(),
        on_change,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reaction_can_be_read_from_its_word() {
        let all = [
            Reaction::ReloadUnits,
            Reaction::LoadSysctls,
            Reaction::ReloadSsh,
            Reaction::LoadUsers,
            Reaction::LoadCertificates,
            Reaction::Configure,
            Reaction::RestartEngine,
            Reaction::Restart("infra-backup.timer".into()),
        ];
        for reaction in all {
            assert_eq!(Reaction::from_word(&reaction.word()), reaction);
        }
        assert_eq!(Reaction::from_word("from-the-future"), Reaction::RestartEngine);
    }
}
