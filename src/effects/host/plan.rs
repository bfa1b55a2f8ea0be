//! Finds the changes of a host: its description against its facts. Pure.

use super::description::{Description, File, Reaction, Unit};
use super::facts::{Facts, FoundUnit};
use super::lockdown::FIREWALL;
use super::reach::Reach;
use super::redis_conf::{self, Consequence};
use super::tunnel;
use crate::model::error::{Error, Result};
use crate::model::secret::Secret;
use std::collections::BTreeSet;

/// The steps in their order. Debug shows no secret.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    pub steps: Vec<Step>,
    /// Changes that the machine does not allow. They are reported and not made.
    pub warnings: Vec<String>,
}

/// One action, with its text for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    pub text: String,
    pub action: Action,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    InstallPackages(Vec<String>),
    PutDirectory {
        path: String,
        owner: String,
        mode: u32,
    },
    PutFile(File),
    ReloadUnits,
    ReloadSsh,
    SetSysctl {
        key: String,
        value: String,
    },
    /// Commands for the running engine, as redis-cli reads them from its standard input.
    TellEngine(Secret),
    /// Tries to reach the source from the host. If it fails, nothing after it is done.
    TryReach(Reach),
    /// Gives the running engine the role in its file.
    ApplyRole,
    /// Lets systemd do something with a unit, such as `restart`.
    Unit(&'static str, String),
}

impl Plan {
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Returns the words of the reactions that the host must remember until all is done.
    pub fn pending(&self, facts: &Facts, description: &Description) -> Vec<String> {
        let changed = changed_files(description, facts);
        let mut words: BTreeSet<String> = facts.pending.iter().cloned().collect();
        words.extend(
            changed
                .iter()
                .filter_map(|file| file.on_change.as_ref())
                .map(Reaction::word),
        );
        words.into_iter().collect()
    }
}

/// Compares description and facts. Returns an error if the change would be dangerous.
pub fn plan(description: &Description, facts: &Facts) -> Result<Plan> {
    refuse_another_engine(description, facts)?;
    refuse_demotion(description, facts)?;
    let mut planner = Planner {
        description,
        facts,
        plan: Plan::default(),
    };
    let missing: Vec<String> = description
        .packages
        .iter()
        .filter(|name| !facts.packages.contains_key(*name))
        .cloned()
        .collect();
    if !missing.is_empty() {
        planner.add(
            format!("install {}", missing.join(", ")),
            Action::InstallPackages(missing),
        );
    }
    for directory in &description.directories {
        let wanted = (directory.mode, directory.owner.as_str(), directory.group.as_str());
        let found = facts.files.get(&directory.path);
        if found.map(|found| (found.mode, found.owner.as_str(), found.group.as_str())) != Some(wanted) {
            let verb = if found.is_some() {
                "set owner and mode of"
            } else {
                "make"
            };
            planner.add(
                format!("{verb} the folder {}", directory.path),
                Action::PutDirectory {
                    path: directory.path.clone(),
                    owner: format!("{}:{}", directory.owner, directory.group),
                    mode: directory.mode,
                },
            );
        }
    }
    let mut reactions: BTreeSet<Reaction> = facts.pending.iter().map(|word| Reaction::from_word(word)).collect();
    let resumed = !reactions.is_empty();
    let mut consequence = Consequence::default();
    for file in changed_files(description, facts) {
        let found = facts.files.get(&file.path);
        if content_differs(file, facts) {
            reactions.extend(file.on_change.clone());
        }
        let mut text = format!("{} {}", verb(file, facts), file.path);
        if file.on_change == Some(Reaction::Configure) {
            let before = found.and_then(|found| found.text.as_ref()).map(Secret::expose);
            consequence = redis_conf::consequence(before, file.content.text());
            text += &consequence.names();
        }
        planner.add(text, Action::PutFile(file.clone()));
    }
    if resumed
        && reactions.contains(&Reaction::Configure)
        && let Some(file) = configuration(description)
    {
        consequence = Consequence {
            restart_for: consequence.restart_for,
            ..redis_conf::everything(file.content.text())
        };
    }
    planner.origins();
    planner.kernel();
    planner.react(&reactions, &consequence);
    planner.units();
    Ok(planner.plan)
}

/// Returns the verb that lets a unit run that does not. One that systemd starts in a moment may run
/// by then, with the files of before.
fn to_run(found: Option<&FoundUnit>) -> &'static str {
    match found {
        Some(found) if found.restarting => "restart",
        _ => "start",
    }
}

/// A plan in the making, with what it is made from.
struct Planner<'a> {
    description: &'a Description,
    facts: &'a Facts,
    plan: Plan,
}

impl Planner<'_> {
    fn add(&mut self, text: impl Into<String>, action: Action) {
        self.plan.steps.push(Step {
            text: text.into(),
            action,
        });
    }

    fn unit(&mut self, verb: &'static str, unit: &str) {
        self.add(format!("{verb} {unit}"), Action::Unit(verb, unit.into()));
    }

    /// Warns if the engine cannot use the module: only passwords then protect the port.
    fn origins(&mut self) {
        let package = self.description.engine.server_package;
        if let Some(version) = self.facts.packages.get(package)
            && !self.description.engine.asks_at_login(version)
        {
            self.plan.warnings.push(format!(
                "{package} {version} cannot tell from where a user logs in: whoever has the password of `replication` may copy the data from anywhere that \
                 `hosts.app_cidrs` lets in; an image with Redis 7.2 or later, as Debian 13's, can"
            ));
        }
    }

    fn kernel(&mut self) {
        for wanted in &self.description.sysctls {
            match self.facts.sysctls.get(&wanted.key) {
                Some(found) if found.value == wanted.value => {}
                Some(found) if !found.writable => self.plan.warnings.push(format!(
                    "this machine does not let its kernel setting {} be changed from {} to {}",
                    wanted.key, found.value, wanted.value
                )),
                found => {
                    let before = found.map_or("nothing", |found| found.value.as_str());
                    self.add(
                        format!("set the kernel's {} from {before} to {}", wanted.key, wanted.value),
                        Action::SetSysctl {
                            key: wanted.key.clone(),
                            value: wanted.value.clone(),
                        },
                    );
                }
            }
        }
    }

    fn react(&mut self, reactions: &BTreeSet<Reaction>, consequence: &Consequence) {
        let about_units = |reaction: &Reaction| {
            matches!(
                reaction,
                Reaction::ReloadUnits | Reaction::RestartEngine | Reaction::Restart(_)
            )
        };
        if reactions.iter().any(about_units) {
            self.add("let systemd read its units again", Action::ReloadUnits);
        }
        if reactions.contains(&Reaction::ReloadSsh) {
            self.add("let sshd read its settings again", Action::ReloadSsh);
        }
        self.lead_to_source(reactions, consequence);
        let engine_unit = self.description.engine.unit;
        let running = self.facts.units.get(engine_unit).is_some_and(|unit| unit.active);
        if running {
            if !consequence.restart_for.is_empty() {
                self.add(
                    format!("restart {engine_unit} for {}", consequence.restart_for.join(", ")),
                    Action::Unit("restart", engine_unit.into()),
                );
            } else if reactions.contains(&Reaction::RestartEngine) {
                self.add(
                    format!("restart {engine_unit} for its unit"),
                    Action::Unit("restart", engine_unit.into()),
                );
            } else {
                self.tell(reactions, consequence);
            }
        }
        for reaction in reactions {
            if let Reaction::Restart(unit) = reaction
                && unit != tunnel::UNIT
                && self.facts.units.get(unit).is_some_and(|unit| unit.active)
            {
                self.unit("restart", unit);
            }
        }
    }

    /// Starts the tunnel and tries the way to the source, before the engine is told to follow it.
    fn lead_to_source(&mut self, reactions: &BTreeSet<Reaction>, consequence: &Consequence) {
        let Some(reach) = &self.description.source else {
            return;
        };
        let before = self.plan.steps.len();
        if reach.trust.is_some() {
            let found = self.facts.units.get(tunnel::UNIT);
            let changed = reactions.contains(&Reaction::Restart(tunnel::UNIT.into()));
            if !found.is_some_and(|unit| unit.enabled) {
                self.unit("enable", tunnel::UNIT);
            }
            if !found.is_some_and(|unit| unit.active) {
                self.unit(to_run(found), tunnel::UNIT);
            } else if changed {
                self.unit("restart", tunnel::UNIT);
            }
        }
        let runs = self
            .facts
            .units
            .get(self.description.engine.unit)
            .is_some_and(|unit| unit.active);
        if self.plan.steps.len() > before || consequence.role || !runs {
            self.add(
                format!("try to reach the source {reach} from this host"),
                Action::TryReach(reach.clone()),
            );
        }
    }

    /// Adds the commands that change a running engine without a restart.
    fn tell(&mut self, reactions: &BTreeSet<Reaction>, consequence: &Consequence) {
        let engine = &self.description.engine;
        if reactions.contains(&Reaction::LoadCertificates) {
            // Setting these paths anew makes the engine read the files. Both files must match.
            let command = format!(
                "CONFIG SET tls-cert-file {} tls-key-file {} tls-ca-cert-file {}\n",
                engine.certificate_file, engine.key_file, engine.authorities_file
            );
            self.add(
                "let the engine read its certificates again",
                Action::TellEngine(Secret::new(command)),
            );
        }
        if reactions.contains(&Reaction::LoadUsers) {
            self.add(
                "let the engine read its users again",
                Action::TellEngine(Secret::new("ACL LOAD\n")),
            );
        }
        if !consequence.live.is_empty() {
            let names: BTreeSet<&str> = consequence.live.iter().map(|(name, _)| name.as_str()).collect();
            let commands: String = consequence
                .live
                .iter()
                .map(|(name, value)| format!("CONFIG SET {name} {}\n", value.expose()))
                .collect();
            self.add(
                format!(
                    "set {} in the running engine",
                    names.into_iter().collect::<Vec<_>>().join(", ")
                ),
                Action::TellEngine(Secret::new(commands)),
            );
        }
        if consequence.role {
            let text = match &self.description.source {
                Some(reach) if reach.trust.is_some() && followed_directly(self.description, self.facts) => {
                    format!("let the running engine follow the source through {}", tunnel::UNIT)
                }
                _ => "tell the running engine its role".into(),
            };
            self.add(text, Action::ApplyRole);
        }
    }

    fn units(&mut self) {
        // A tunnel that should run was started before the engine was told its role.
        let is_done = |unit: &&Unit| unit.name == tunnel::UNIT && unit.enabled;
        for unit in self.description.units.iter().filter(|unit| !is_done(unit)) {
            let found = self.facts.units.get(&unit.name);
            let enabled = found.is_some_and(|found| found.enabled);
            match (enabled, unit.enabled) {
                (false, true) => self.unit("enable", &unit.name),
                (true, false) => self.unit("disable", &unit.name),
                _ => {}
            }
            let active = found.is_some_and(|found| found.active);
            match unit.active {
                Some(true) if !active => self.unit(to_run(found), &unit.name),
                // The unit has run and its rules are gone, so somebody flushed them.
                Some(true) if unit.name == FIREWALL && !self.facts.firewall => self.unit("restart", &unit.name),
                Some(false) if active || found.is_some_and(|found| found.restarting) => self.unit("stop", &unit.name),
                // A oneshot that has just been enabled for the next boots also runs for this one.
                None if unit.enabled && !enabled => {
                    self.add(format!("run {}", unit.name), Action::Unit("start", unit.name.clone()));
                }
                _ => {}
            }
        }
    }
}

/// Returns redis.conf, the only file that is compared line by line.
fn configuration(description: &Description) -> Option<&File> {
    description
        .files
        .iter()
        .find(|file| file.on_change == Some(Reaction::Configure))
}

/// Returns true if the engine follows the source by TLS of its own, as hosts of before do.
fn followed_directly(description: &Description, facts: &Facts) -> bool {
    let found = configuration(description).and_then(|file| facts.files.get(&file.path));
    let text = found.and_then(|found| found.text.as_ref());
    text.is_some_and(|text| redis_conf::follows_directly_by_tls(text.expose()))
}

/// Refuses another engine: its data would be empty, on the port of the engine with the data.
fn refuse_another_engine(description: &Description, facts: &Facts) -> Result<()> {
    let other = description.engine.other_unit();
    if !facts.units.get(other).is_some_and(|unit| unit.active) {
        return Ok(());
    }
    Err(Error::failed(format!(
        "run {} on {}: {other} runs there, with the data",
        description.engine.unit, description.label
    ))
    .hint("set `redis.engine` back to what it was; another engine wants a pair of its own (another `--env`)"))
}

/// Refuses to make a promoted host follow: it has writes that its old upstream lacks.
fn refuse_demotion(description: &Description, facts: &Facts) -> Result<()> {
    let Some(file) = configuration(description) else {
        return Ok(());
    };
    let found = facts.files.get(&file.path).and_then(|found| found.text.as_ref());
    let found = found.and_then(|text| redis_conf::role_of(text.expose()));
    let wanted = redis_conf::role_of(file.content.text());
    if found == Some("master") && wanted != Some("master") && !description.demoted {
        return Err(Error::failed(format!(
            "make {} follow somebody: it is a promoted master, and what was written to it would be gone",
            description.label
        ))
        .hint("`infra status` shows who is what; `infra switch-app --back` is the way back before the app has written to it"));
    }
    Ok(())
}

fn changed_files<'a>(description: &'a Description, facts: &Facts) -> Vec<&'a File> {
    description
        .files
        .iter()
        .filter(|file| content_differs(file, facts) || about_differs(file, facts))
        .collect()
}

fn content_differs(file: &File, facts: &Facts) -> bool {
    facts
        .files
        .get(&file.path)
        .is_none_or(|found| found.sha256 != file.content.digest())
}

fn about_differs(file: &File, facts: &Facts) -> bool {
    facts.files.get(&file.path).is_none_or(|found| {
        (found.mode, found.owner.as_str(), found.group.as_str())
            != (file.mode, file.owner.as_str(), file.group.as_str())
    })
}

fn verb(file: &File, facts: &Facts) -> &'static str {
    if !facts.files.contains_key(&file.path) {
        "write"
    } else if content_differs(file, facts) {
        "change the content of"
    } else {
        "set owner and mode of"
    }
}

#[cfg(test)]
mod exporters;
#[cfg(test)]
mod listed;
#[cfg(test)]
mod tests;
