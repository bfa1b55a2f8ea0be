//! The facts of a host, fetched in one round trip.

use super::description::Description;
use super::templates;
use crate::effects::remote::Session;
use crate::model::error::{Error, Result};
use crate::model::secret::Secret;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::collections::BTreeMap;
use std::time::Duration;

#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Files and directories that exist.
    pub files: BTreeMap<String, FoundFile>,
    /// Versions by package, installed ones only.
    pub packages: BTreeMap<String, String>,
    /// The available version by package, if it is not the installed one.
    pub upgrades: BTreeMap<String, String>,
    pub units: BTreeMap<String, FoundUnit>,
    pub sysctls: BTreeMap<String, FoundSysctl>,
    /// Words of reactions that an earlier run began and did not finish.
    pub pending: Vec<String>,
    /// The running engine's INFO, or its error instead; `None` if no engine runs.
    pub engine: Option<String>,
    pub boot_id: String,
    /// True if the machine is a container, which may not change its kernel.
    pub container: bool,
    /// True if the kernel has our firewall rules.
    pub firewall: bool,
    /// True if the system asks for a reboot.
    pub reboot_required: bool,
    /// True if the engine runs with libraries that are no longer on the disk.
    pub outdated_libraries: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundFile {
    pub mode: u32,
    pub owner: String,
    pub group: String,
    /// SHA-256 in hexadecimal; `-` for a directory.
    pub sha256: String,
    /// Only for files that are compared line by line.
    pub text: Option<Secret>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundUnit {
    pub enabled: bool,
    pub active: bool,
    /// It does not run, and systemd starts it in a moment, perhaps before its files are changed.
    pub restarting: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundSysctl {
    pub value: String,
    pub writable: bool,
}

impl Facts {
    /// Asks the host for everything that `description` names.
    pub async fn fetch(session: &Session, description: &Description) -> Result<Self> {
        let script = templates::FACTS.to_string() + &questions(description);
        let doing = format!("look at what is on {}", session.label());
        let output = session
            .run_within(
                "sudo -n bash -s",
                Some(script.as_bytes()),
                Duration::from_secs(60),
                |_| (),
            )
            .await?
            .expect_success(&doing)?;
        Self::parse(&output.text()).map_err(|error| error.while_doing(doing))
    }

    fn parse(text: &str) -> Result<Self> {
        let mut facts = Facts::default();
        let mut ended = false;
        for line in text.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            match words.as_slice() {
                ["file", path, mode, owner, group, sha256, rest @ ..] => {
                    let found = FoundFile {
                        mode: u32::from_str_radix(mode, 8).map_err(|_| misread(line))?,
                        owner: (*owner).into(),
                        group: (*group).into(),
                        sha256: (*sha256).into(),
                        text: rest.first().map(|encoded| decode(encoded)).transpose()?,
                    };
                    facts.files.insert((*path).into(), found);
                }
                ["missing", ..] => {}
                ["package", name, version] => {
                    facts.packages.insert((*name).into(), (*version).into());
                }
                ["upgrade", name, version] => {
                    facts.upgrades.insert((*name).into(), (*version).into());
                }
                ["unit", name, enabled, active] => {
                    let unit = FoundUnit {
                        enabled: *enabled == "enabled",
                        active: matches!(*active, "active" | "activating" | "reloading"),
                        restarting: *active == "restarting",
                    };
                    facts.units.insert((*name).into(), unit);
                }
                ["sysctl", key, access, value @ ..] => {
                    let found = FoundSysctl {
                        value: value.join(" "),
                        writable: *access == "writable",
                    };
                    facts.sysctls.insert((*key).into(), found);
                }
                ["pending", words @ ..] => facts.pending = words.iter().map(|word| (*word).into()).collect(),
                ["engine", encoded] => facts.engine = Some(decode(encoded)?.expose().into()),
                ["engine"] => facts.engine = Some(String::new()),
                ["system", "boot_id", id] => facts.boot_id = (*id).into(),
                ["system", "container", kind] => facts.container = *kind != "none",
                ["system", "firewall", answer] => facts.firewall = *answer == "yes",
                ["system", "reboot_required", answer] => facts.reboot_required = *answer == "yes",
                ["system", "outdated_libraries", answer] => facts.outdated_libraries = *answer == "yes",
                ["end"] => ended = true,
                _ => return Err(misread(line)),
            }
        }
        if !ended {
            return Err(Error::failed("read its answer: it broke off"));
        }
        Ok(facts)
    }
}

fn questions(description: &Description) -> String {
    let mut lines = String::new();
    let mut ask = |kind: &str, name: &str| {
        lines.push_str(&format!("{kind} {name}\n"));
    };
    for file in &description.files {
        let by_line = file.on_change == Some(super::description::Reaction::Configure);
        ask(if by_line { "text" } else { "file" }, &file.path);
    }
    for directory in &description.directories {
        ask("directory", &directory.path);
    }
    for package in &description.packages {
        ask("package", package);
    }
    for unit in &description.units {
        ask("unit", &unit.name);
    }
    ask("unit", description.engine.other_unit());
    for sysctl in &description.sysctls {
        ask("sysctl", &sysctl.key);
    }
    lines + "end\n"
}

fn decode(encoded: &str) -> Result<Secret> {
    let bytes = STANDARD.decode(encoded).map_err(|_| misread("(encoded text)"))?;
    Ok(Secret::new(String::from_utf8_lossy(&bytes)))
}

fn misread(line: &str) -> Error {
    let shown: String = line.chars().take(60).collect();
    Error::failed(format!("understand its answer {shown:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_becomes_facts() {
        let text = "file /etc/a 640 root redis abc aGkK\nmissing /etc/b\nfile /etc/c 750 root root -\npackage curl 8.14\nupgrade curl 8.15\nunit x.service enabled active\n\
                    unit y.timer absent inactive\nsysctl vm.overcommit_memory fixed 0\npending configure restart=x\nsystem boot_id \
                    b\nsystem container systemd-nspawn\nsystem firewall yes\nsystem reboot_required no\nsystem outdated_libraries yes\nend\n";
        let facts = Facts::parse(text).unwrap();
        assert_eq!(facts.files["/etc/a"].mode, 0o640);
        assert_eq!(facts.files["/etc/a"].text.as_ref().unwrap().expose(), "hi\n");
        assert!(!facts.files.contains_key("/etc/b"));
        assert!(facts.units["x.service"].enabled && facts.units["x.service"].active);
        assert!(!facts.units["y.timer"].enabled);
        assert!(!facts.sysctls["vm.overcommit_memory"].writable);
        assert_eq!(facts.pending, ["configure", "restart=x"]);
        assert!(facts.container);
        assert_eq!(facts.upgrades["curl"], "8.15");
        assert!(facts.firewall && !facts.reboot_required && facts.outdated_libraries);
    }

    #[test]
    fn no_answer_of_a_host_does_harm() {
        let answer = "file /etc/a 640 root redis abc aGkK\nunit x.service enabled active\nsysctl a fixed 0\nengine aGkK\nsystem boot_id b\nend\n";
        let words = ["file ", "engine ", "system boot_id ", "pending ", "end\n", "aGkK"];
        crate::fuzz::text(&[answer], &words, |input| drop(Facts::parse(input)));
    }

    #[test]
    fn an_answer_that_breaks_off_is_an_error() {
        let error = Facts::parse("system boot_id b\n").unwrap_err();
        assert!(error.to_string().contains("broke off"), "{error}");
    }
}
