//! Applies a host's plan in one round trip. All input goes through stdin, also secrets.

use super::description::{Content, Description, File};
use super::facts::Facts;
use super::plan::{Action, Plan, plan};
use super::{lockdown, templates};
use crate::effects::fault;
use crate::effects::remote::Session;
use crate::model::error::{Error, Result};
use crate::ui;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::fmt::Write;
use std::time::Duration;
use zeroize::Zeroizing;

/// Time limit for packages over a slow mirror, or while another apt holds the lock.
const APPLY: Duration = Duration::from_secs(15 * 60);

/// Time limit for a few megabytes over a slow link.
const SEND: Duration = Duration::from_secs(10 * 60);

/// The result of an application.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Number of steps that were done; with 0 nothing was written.
    pub changes: usize,
    pub warnings: Vec<String>,
}

/// Looks, compares, applies. Takes one round trip if nothing is to do, two otherwise.
pub async fn converge(session: &Session, description: &Description, step: &ui::Step) -> Result<Outcome> {
    step.update("looking");
    let facts = Facts::fetch(session, description).await?;
    let plan = plan(description, &facts)?;
    apply(session, description, &facts, &plan, None, step).await
}

/// Applies a plan made from `facts`. A host that has seen a higher `epoch` refuses all of it.
pub async fn apply(
    session: &Session,
    description: &Description,
    facts: &Facts,
    plan: &Plan,
    epoch: Option<u64>,
    step: &ui::Step,
) -> Result<Outcome> {
    let mut outcome = Outcome {
        changes: plan.steps.len(),
        warnings: plan.warnings.clone(),
    };
    let pending = plan.pending(facts, description);
    if plan.is_empty() && pending.is_empty() {
        return Ok(outcome);
    }
    send_programs(session, plan, step).await?;
    let input = script(plan, &pending, epoch);
    let watched = step.clone();
    let doing = format!("make {} what it should be", session.label());
    let applying = session.run_within("sudo -n bash -s", Some(input.as_bytes()), APPLY, move |line| {
        if let Some(text) = line.strip_prefix("doing ") {
            watched.update(text);
        }
    });
    let output = fault::around(&format!("apply on {}", session.label()), applying).await?;
    let text = output.text();
    outcome.warnings.extend(
        text.lines()
            .filter_map(|line| line.strip_prefix("warning "))
            .map(String::from),
    );
    if let Some(failure) = text.lines().find_map(|line| line.strip_prefix("failed ")) {
        let last = text.lines().filter_map(|line| line.strip_prefix("doing ")).next_back();
        let failed = plan.steps.iter().find(|step| Some(step.text.as_str()) == last);
        let hint = match failed.map(|step| &step.action) {
            Some(Action::TryReach(reach)) => reach.hint(),
            _ => "what was done stays and is right: run the same command again".into(),
        };
        return Err(Error::partial(doing)
            .because(format!("{}: {}", last.unwrap_or("its first step"), failure.trim()))
            .hint(hint));
    }
    let output = output.expect_success(&doing)?;
    if output.text().lines().next_back() != Some("done") {
        return Err(Error::partial(doing)
            .because("its answer broke off")
            .hint("run the same command again"));
    }
    Ok(outcome)
}

/// Sends programs before any change, since the list of actions is read line by line.
async fn send_programs(session: &Session, plan: &Plan, step: &ui::Step) -> Result<()> {
    for planned in &plan.steps {
        let Action::PutFile(File {
            path,
            content: Content::Program(program),
            ..
        }) = &planned.action
        else {
            continue;
        };
        let doing = format!("send {path} to {}", session.label());
        step.update(format!(
            "sending {path}, {}",
            crate::model::size::bytes(program.bytes().len() as u64)
        ));
        let incoming = "/var/lib/infra/incoming";
        let command = format!(
            "sudo -n sh -c 'umask 077 && mkdir -p {incoming} && cat >{incoming}/{}'",
            program.sha256()
        );
        session
            .run_within(&command, Some(program.bytes()), SEND, |_| ())
            .await?
            .expect_success(&doing)?;
    }
    Ok(())
}

/// Returns the script with its actions. The host remembers reactions before a file changes.
fn script(plan: &Plan, pending: &[String], epoch: Option<u64>) -> Zeroizing<String> {
    let mut lines = Zeroizing::new(templates::APPLY.to_string());
    if let Some(epoch) = epoch {
        line(&mut lines, format_args!("epoch {epoch}"));
    }
    if !pending.is_empty() {
        line(&mut lines, format_args!("pending {}", pending.join(" ")));
    }
    for step in &plan.steps {
        line(&mut lines, format_args!("say {}", step.text));
        match &step.action {
            Action::InstallPackages(names) => line(&mut lines, format_args!("packages {}", names.join(" "))),
            Action::PutDirectory { path, owner, mode } => {
                // With fewer than five digits chmod keeps the setgid bit of the packages.
                line(&mut lines, format_args!("directory {path} {owner} {mode:05o}"));
            }
            Action::PutFile(
                file @ File {
                    content: Content::Program(program),
                    ..
                },
            ) => line(
                &mut lines,
                format_args!(
                    "program {} {}:{} {:04o} {}",
                    file.path,
                    file.owner,
                    file.group,
                    file.mode,
                    program.sha256()
                ),
            ),
            Action::PutFile(file) => {
                let content = Zeroizing::new(STANDARD.encode(file.content.text()));
                line(
                    &mut lines,
                    format_args!(
                        "file {} {}:{} {:04o} {}",
                        file.path,
                        file.owner,
                        file.group,
                        file.mode,
                        content.as_str()
                    ),
                );
            }
            Action::ReloadSsh => line(&mut lines, format_args!("reload-ssh {}", lockdown::SSH_SETTINGS)),
            Action::ReloadUnits => line(&mut lines, format_args!("reload-units")),
            Action::SetSysctl { key, value } => line(&mut lines, format_args!("sysctl {key} {value}")),
            Action::TellEngine(commands) => {
                let commands = Zeroizing::new(STANDARD.encode(commands.expose()));
                line(&mut lines, format_args!("engine {}", commands.as_str()));
            }
            Action::TryReach(reach) => line(&mut lines, format_args!("reach {}", reach.words())),
            Action::ApplyRole => line(&mut lines, format_args!("role")),
            Action::Unit(verb, unit) => line(&mut lines, format_args!("{verb} {unit}")),
        }
    }
    line(&mut lines, format_args!("settled"));
    line(&mut lines, format_args!("end"));
    lines
}

fn line(lines: &mut String, words: std::fmt::Arguments) {
    // Writing to a String cannot fail.
    let _ = writeln!(lines, "{words}");
}
