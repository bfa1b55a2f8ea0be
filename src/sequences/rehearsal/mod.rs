//! A rehearsal of the switch: a one-off of the app tries its way into a scratch server.
//!
//! Our master is a read-only replica before its promotion, and stays one. So a second server is
//! started beside it ([`scratch`]): the same certificate and rules for the user `app`, no data, and
//! a port that is open only meanwhile. [`evidence`] reads there whether the app got in. [`verdict`]
//! judges it and names the usual faults: no TLS, no trust in our authority, no user name.
//!
//! The live app is not touched. The next rehearsal and `infra up` remove what a killed one leaves.

pub mod evidence;
pub mod record;
pub mod run;
pub mod scratch;
#[cfg(test)]
mod tests;
pub mod verdict;

pub use record::Record;
pub use verdict::{Evidence, Verdict};

use crate::effects::cloud::{Cloud, ec2};
use crate::effects::platform::Heroku;
use crate::effects::redis::{Connection, Server, Trust};
use crate::effects::remote::Session;
use crate::effects::wait::{Look, Pauses, Wait};
use crate::model::cloud::{REHEARSAL_PORT, Rule, rehearsal_rules};
use crate::model::error::{Error, Result};
use crate::model::names::Names;
use crate::model::secret::Secret;
use crate::model::values::Cidr;
use crate::ui::{Step, Ui};
use scratch::Scratch;
use std::collections::BTreeMap;
use std::time::Duration;

/// How long the app's process may take. The scratch server lives a little longer.
const PROCESS: Duration = Duration::from_secs(10 * 60);
const SERVER: Duration = Duration::from_secs(15 * 60);
/// How long the platform's log may take to say how the process ended.
const LOG: Duration = Duration::from_secs(60);
/// How long the server may take to load its certificate and answer.
const START: Duration = Duration::from_secs(30);

pub struct Setup<'a> {
    pub cloud: &'a Cloud,
    pub names: &'a Names,
    pub platform: &'a Heroku,
    /// A session on the master host.
    pub session: &'a Session,
    pub scratch: Scratch,
    pub endpoint: &'a str,
    /// PEM
    pub authority: &'a str,
    pub ca_var: &'a str,
    /// The vars that will name the endpoint, with the database part of their URLs.
    pub vars: BTreeMap<String, String>,
    /// The app's own check.
    pub command: &'a str,
    pub admin_cidrs: &'a [Cidr],
    pub app_cidrs: &'a [Cidr],
    pub ui: &'a Ui,
}

impl Setup<'_> {
    /// Rehearses. [`Setup::clear_away`] has to follow, however it ended.
    pub async fn run(&self) -> Result<Verdict> {
        let step = self.ui.step("scratch server");
        self.open_port().await?;
        self.scratch.start(self.session, SERVER).await?;
        let mut connection = self.connect(&step).await?;
        step.done(format!(
            "beside the master, on port {REHEARSAL_PORT}, for {} at most",
            crate::model::size::duration(SERVER)
        ));

        let step = self.ui.step("rehearsal");
        let name = self
            .platform
            .run_one_off(self.command, &self.environment(), PROCESS)
            .await?;
        step.update(format!("{name} runs `{}`", self.command));
        let ended = self.await_end(&name, &mut connection, &step).await?;
        if !ended {
            self.platform.stop_dyno(&name).await?;
        }
        let log = self.scratch.log(self.session).await?;
        let mut evidence = evidence::gather(&mut connection, &log).await?;
        evidence.ended = ended;
        let lines = self.platform.log_of_ended(&name, LOG, &step).await;
        let lines = lines.unwrap_or_else(|error| {
            self.ui.warn(format!("{error:#}"));
            Vec::new()
        });
        (evidence.status, evidence.printed) = verdict::read_log(&self.without_secrets(lines));
        let verdict = verdict::judge(&evidence);
        match &verdict {
            Verdict::Passed { writes, reads } => step.done(format!(
                "{name} wrote {writes} times and read {reads} times as the user app"
            )),
            Verdict::Failed { reason, .. } | Verdict::Unknown { reason, .. } => step.failed(reason.clone()),
        }
        Ok(verdict)
    }

    /// Removes the scratch server and closes its port.
    pub async fn clear_away(&self) -> Result<()> {
        self.scratch.end(self.session).await?;
        if let Some(group) = ec2::group(self.cloud, self.names).await? {
            for rule in group.rules.iter().filter(|rule| rule.to_port == Some(REHEARSAL_PORT)) {
                ec2::revoke(self.cloud, &group.id, rule).await?;
            }
        }
        Ok(())
    }

    async fn open_port(&self) -> Result<()> {
        let group = ec2::group(self.cloud, self.names).await?.ok_or_else(|| {
            Error::failed("open a port for the rehearsal: there is no security group").hint("run `infra up` first")
        })?;
        let wanted = rehearsal_rules(self.admin_cidrs, self.app_cidrs);
        let missing: Vec<&Rule> = wanted.difference(&group.rules).collect();
        for rule in missing {
            ec2::authorize(self.cloud, &group.id, rule).await?;
        }
        Ok(())
    }

    fn server(&self, user: &str, password: &Secret) -> Server {
        Server {
            label: "scratch server".into(),
            host: self.endpoint.into(),
            port: u16::try_from(REHEARSAL_PORT).unwrap_or_default(),
            user: Some(user.into()),
            password: Some(password.clone()),
            trust: Some(Trust::Authority(self.authority.into())),
        }
    }

    async fn connect(&self, step: &Step) -> Result<Connection> {
        let server = self.server("admin", &self.scratch.admin_password);
        let wait = Wait::new(
            "the scratch server to answer",
            START,
            "see why with `infra ssh master sudo journalctl -u infra-rehearsal`, and that hosts.admin_cidrs has your address",
        );
        wait.until(step, || async {
            Ok(match server.connect(0).await {
                Ok(connection) => Look::Ready(connection),
                Err(error) => Look::NotYet(format!("{error:#}")),
            })
        })
        .await
    }

    /// Removes the app's password from lines that are shown, since a process may print its URL.
    fn without_secrets(&self, lines: Vec<String>) -> Vec<String> {
        let secret = self.scratch.app_password.expose();
        lines.into_iter().map(|line| line.replace(secret, "***")).collect()
    }

    /// Returns the vars for the app's process: as the switch sets them, but for the scratch server.
    fn environment(&self) -> BTreeMap<String, Secret> {
        let url = self.server("app", &self.scratch.app_password).url();
        let mut environment: BTreeMap<String, Secret> = self
            .vars
            .iter()
            .map(|(var, path)| (var.clone(), Secret::new(format!("{}{path}", url.expose()))))
            .collect();
        environment.insert(self.ca_var.into(), Secret::new(self.authority));
        environment.insert(
            "INFRA_REHEARSAL_PREFIX".into(),
            Secret::new(self.scratch.prefix.clone()),
        );
        environment
    }

    /// Returns true if the process ended in time.
    async fn await_end(&self, name: &str, connection: &mut Connection, step: &Step) -> Result<bool> {
        let mut pauses = Pauses::even(PROCESS, Duration::from_millis(500));
        loop {
            let Some(state) = self.platform.dyno_state(name).await? else {
                return Ok(true);
            };
            if matches!(state.as_str(), "crashed" | "complete" | "completed" | "down") {
                return Ok(true);
            }
            let seen = evidence::gather(connection, "").await?;
            step.update(format!(
                "{name} is {state}; {} writes, {} reads",
                seen.writes, seen.reads
            ));
            if !pauses.again().await {
                return Ok(false);
            }
        }
    }
}
