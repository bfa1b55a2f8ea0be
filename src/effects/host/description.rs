//! A host as one value. Pure.

use super::engine::Layout;
use super::programs::Binary;
use crate::model::secret::Secret;

/// What should be on a host. Applying it twice changes nothing the second time.
#[derive(Clone, Debug)]
pub struct Description {
    /// What messages call the host.
    pub label: String,
    /// Which engine reactions speak to.
    pub engine: Layout,
    /// Packages of the distribution, installed without starting what they bring.
    pub packages: Vec<String>,
    pub directories: Vec<Directory>,
    pub files: Vec<File>,
    pub sysctls: Vec<Sysctl>,
    pub units: Vec<Unit>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directory {
    pub path: String,
    pub owner: String,
    pub group: String,
    pub mode: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    pub path: String,
    pub owner: String,
    pub group: String,
    pub mode: u32,
    pub content: Content,
    /// What has to happen on the host when the content has changed.
    pub on_change: Option<Reaction>,
}

/// What a file holds. Neither kind is ever shown; a plan says only that it changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    Plain(String),
    Secret(Secret),
    Program(Binary),
}

impl Content {
    /// Empty for a program.
    pub fn text(&self) -> &str {
        match self {
            Content::Plain(text) => text,
            Content::Secret(secret) => secret.expose(),
            Content::Program(_) => "",
        }
    }

    /// SHA-256, hexadecimal.
    pub fn digest(&self) -> String {
        match self {
            Content::Plain(_) | Content::Secret(_) => infra_agent::digest::of(self.text().as_bytes()),
            Content::Program(program) => program.sha256().into(),
        }
    }
}

/// What follows from a changed file, softest first. A reaction that was interrupted is remembered on the host and done by the next run.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reaction {
    /// systemd reads its units again.
    ReloadUnits,
    /// The kernel settings are applied.
    LoadSysctls,
    /// sshd takes its settings, if it finds nothing wrong with them; else those from before stay.
    ReloadSsh,
    /// Redis reads its users again.
    LoadUsers,
    /// Redis reads its certificates again.
    LoadCertificates,
    /// Redis takes the changed settings; live where it can, by a restart where it must. [`super::redis_conf::consequence`] decides.
    Configure,
    /// The engine's unit is restarted.
    RestartEngine,
    /// A unit other than the engine's is restarted, if it runs.
    Restart(String),
}

impl Reaction {
    /// The word that stands for it in the host's list of unfinished work.
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

    /// The reaction that a word stands for; a word of a newer version that we do not know means a restart, the strongest one.
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

/// A kernel setting, as sysctl names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sysctl {
    pub key: String,
    pub value: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unit {
    pub name: String,
    pub enabled: bool,
    /// Whether it should run; nothing where that is the unit's own business (a oneshot job, one that a timer starts).
    pub active: Option<bool>,
}

/// A file that belongs to root alone.
pub(super) fn root_file(path: &str, mode: u32, text: String, on_change: Option<Reaction>) -> File {
    File {
        path: path.into(),
        owner: "root".into(),
        group: "root".into(),
        mode,
        content: Content::Plain(text),
        on_change,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reaction_is_found_again_from_its_word() {
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
