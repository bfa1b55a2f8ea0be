//! The stages of a rotation. Each is stored before its effect, so the next run continues where a dead
//! one stopped.

use crate::effects::host;
use crate::effects::redis::{Server, control};
use crate::effects::state::Held;
use crate::effects::wait::{Look, Wait};
use crate::model::error::{Error, Kind, Result};
use crate::model::role::Role;
use crate::model::rotation::{ConnectionMark, Rotation, Stage};
use crate::model::secret::Secret;
use crate::model::secrets::{RedisUser, Secrets, parameter};
use crate::model::state::State;
use crate::sequences::context::{Addresses, Context, Environment, host_server};
use crate::sequences::rotation::{app, proof};
use crate::sequences::setup::follow::still_follows;
use crate::sequences::setup::state_writer::StateWriter;
use crate::sequences::up;
use crate::ui::Step;
use jiff::Timestamp;
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// An agent that got another password reports within this time.
const AGENT: Duration = Duration::from_secs(60);

#[derive(Serialize)]
pub(super) struct Rotated {
    pub user: RedisUser,
    pub seconds: f64,
    /// The release of each app that was given the new password.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    releases: BTreeMap<String, u64>,
    /// Connections that were disconnected because of `--cut-off`.
    #[serde(rename = "severed")]
    disconnected: usize,
}

pub(super) struct Work<'a> {
    pub context: &'a Context,
    pub environment: &'a Environment,
    pub addresses: Addresses,
    pub writer: StateWriter,
    pub lock: &'a Held,
    pub limits: app::Limits,
    pub cut_off: bool,
}

impl Work<'_> {
    /// Runs this rotation, and those that come after it.
    pub async fn rotate(&self, first: Rotation) -> Result<Vec<Rotated>> {
        let mut rotated = Vec::new();
        let mut rotation = first;
        loop {
            rotated.push(self.one(&rotation).await?);
            match rotation.next(Timestamp::now()) {
                Some(next) => rotation = next,
                None => return Ok(rotated),
            }
        }
    }

    async fn one(&self, rotation: &Rotation) -> Result<Rotated> {
        let (user, begun) = (rotation.user, Instant::now());
        let mut rotated = Rotated {
            user,
            seconds: 0.0,
            releases: BTreeMap::new(),
            disconnected: 0,
        };
        if rotation.stage <= Stage::Adding {
            self.add(rotation).await?;
        }
        if rotation.stage <= Stage::Switching {
            self.switch(rotation, &mut rotated).await?;
        }
        self.remove(rotation).await?;
        rotated.seconds = begun.elapsed().as_secs_f64();
        Ok(rotated)
    }

    /// Makes both hosts accept a new password beside the old one.
    async fn add(&self, rotation: &Rotation) -> Result<()> {
        let user = rotation.user;
        let step = self.context.ui.step(format!("{user}: a second password"));
        let (parameters, name) = (self.environment.parameters(), parameter::next_password(user));
        if self.writer.state().await.rotation.is_none() {
            // An earlier rotation that died at its very end left the password in use here.
            parameters.delete(&name).await?;
        }
        parameters.make(&name, &Secret::generate(), true).await?;
        self.enter(rotation, Stage::Adding).await?;
        up::bring_hosts(self.context, self.environment, self.lock, &step).await?;
        let secrets = self.secrets().await?;
        let (old, new) = (secrets.password(user)?, secrets.next_password(user)?);
        for admin in self.servers(&secrets)? {
            proof::accepts(&admin, user, &[old, new]).await?;
        }
        step.done("both hosts accept both");
        Ok(())
    }

    /// Makes all users of the password use the new one.
    async fn switch(&self, rotation: &Rotation, rotated: &mut Rotated) -> Result<()> {
        let user = rotation.user;
        let step = self.context.ui.step(format!("{user}: the new one in use"));
        let agents = self.agents(user).await?;
        self.enter(rotation, Stage::Switching).await?;
        up::bring_hosts(self.context, self.environment, self.lock, &step).await?;
        match user {
            RedisUser::App => self.hand_over(&step, rotated).await?,
            RedisUser::Backup => self.await_agents(&agents, &step).await?,
            RedisUser::Replication => self.await_link(&step).await?,
            RedisUser::Monitoring => self.leave_to_the_user().await?,
            RedisUser::Admin => {}
        }
        step.done(match user {
            RedisUser::App => format!("{} apps, and nobody holds the old one", rotated.releases.len()),
            _ => "on both hosts".into(),
        });
        Ok(())
    }

    /// Makes both hosts refuse the old password.
    async fn remove(&self, rotation: &Rotation) -> Result<()> {
        let user = rotation.user;
        let step = self.context.ui.step(format!("{user}: the old one away"));
        self.lock.confirm(Duration::ZERO).await?;
        let secrets = self.secrets().await?;
        let (old, new) = (secrets.password(user)?.clone(), secrets.next_password(user)?.clone());
        // The password is stored before a host drops the old one, so a reader of the stored one can
        // log in before and after.
        let parameters = self.environment.parameters();
        parameters.replace(&parameter::password(user), &new).await?;
        self.enter(rotation, Stage::Removing).await?;
        up::bring_hosts(self.context, self.environment, self.lock, &step).await?;
        for admin in self.servers(&self.secrets().await?)? {
            proof::accepts(&admin, user, &[&new]).await?;
            if old != new {
                proof::refuses(&admin, user, &old).await?;
            }
        }
        let next = rotation.next(Timestamp::now());
        if let Some(next) = &next {
            // The next user's new password must exist before its rotation is begun.
            let name = parameter::next_password(next.user);
            parameters.delete(&name).await?;
            parameters.make(&name, &Secret::generate(), true).await?;
        }
        self.writer.change(|state| state.rotation = next).await?;
        parameters.delete(&parameter::next_password(user)).await?;
        step.done("both hosts refuse it");
        Ok(())
    }

    async fn enter(&self, rotation: &Rotation, stage: Stage) -> Result<()> {
        self.writer
            .change(|state| {
                let told = state.rotation.take().and_then(|begun| begun.told);
                state.rotation = Some(Rotation {
                    stage,
                    told,
                    ..rotation.clone()
                });
            })
            .await
    }

    /// Gives every app the new password, and waits until nobody is left who holds only the old one.
    async fn hand_over(&self, step: &Step, rotated: &mut Rotated) -> Result<()> {
        let state = self.writer.state().await;
        let endpoints = self.context.endpoint_names(state.endpoint.as_deref());
        let secrets = self.secrets().await?;
        let password = secrets.next_password(RedisUser::App)?;
        let master = self.server(Role::Master, &secrets)?;
        for app in self.context.apps()? {
            app::settle(&app, self.limits, step).await?;
            let vars = app.config_vars().await?;
            // An unreadable var may hold the password, so it is an error.
            vars.get(&self.context.config.app.config_var)?;
            let wanted = app::renewed(&vars, &endpoints, password);
            if wanted.is_empty() {
                continue;
            }
            if !app::knows(&app, &wanted).await? {
                self.remember(app::mark(&master).await?).await?;
            }
            step.update(format!("{} gets it", app.app_name()));
            self.lock.confirm(Duration::ZERO).await?;
            let handed_over = app::tell(&app, &wanted, self.limits, step).await;
            let release = handed_over.map_err(|error| refused(error, !rotated.releases.is_empty()))?;
            rotated.releases.insert(app.app_name().to_string(), release);
        }
        if let Some(told) = self.writer.state().await.rotation.and_then(|rotation| rotation.told) {
            rotated.disconnected = app::await_gone(&master, &told, self.limits.leaving, self.cut_off, step).await?;
        }
        Ok(())
    }

    /// Returns when each host's agent last reported.
    async fn agents(&self, user: RedisUser) -> Result<Vec<(Role, i64)>> {
        let mut agents = Vec::new();
        if user == RedisUser::Backup {
            let pair = self.environment.pair().await?;
            for role in Role::ALL {
                let seen = host::backup::look(&pair.log_in(role).await?).await?;
                agents.extend(seen.agent.map(|agent| (role, agent.at)));
            }
        }
        Ok(agents)
    }

    async fn await_agents(&self, before: &[(Role, i64)], step: &Step) -> Result<()> {
        if before.is_empty() {
            return Ok(());
        }
        let pair = self.environment.pair().await?;
        for (role, before) in before {
            let what = format!("the agent of the {role} to work with its new password");
            let session = pair.log_in(*role).await?;
            Wait::new(
                &what,
                AGENT,
                "`journalctl -u infra-agent` on the host says more; then run `infra rotate` again",
            )
            .until(step, || async {
                let seen = host::backup::look(&session).await?.agent;
                Ok(match seen {
                    Some(agent) if agent.at > *before && agent.troubles.is_empty() => Look::Ready(()),
                    Some(agent) => Look::NotYet(format!("the {role}'s agent: {}", agent.troubles.join("; "))),
                    None => Look::NotYet(format!("the {role}'s agent says nothing")),
                })
            })
            .await?;
        }
        Ok(())
    }

    /// Leaves the change to the operator, who alone reaches what watches the pair.
    async fn leave_to_the_user(&self) -> Result<()> {
        let was_told = |state: State| state.rotation.is_some_and(|rotation| rotation.told.is_some());
        if was_told(self.writer.state().await) || self.cut_off {
            return Ok(());
        }
        let secrets = self.secrets().await?;
        let mut watching = 0;
        for admin in self.servers(&secrets)? {
            let clients = control::clients(&mut admin.connect(0).await?).await?;
            watching += clients
                .iter()
                .filter(|client| client.user == RedisUser::Monitoring.name())
                .count();
        }
        if watching == 0 {
            return Ok(());
        }
        let told = app::mark(&self.server(Role::Master, &secrets)?).await?;
        self.remember(told).await?;
        Err(Error::partial(format!(
            "replace the password of monitoring: {watching} connections use it, and nobody here knows whose they are"
        ))
        .hint(format!(
            "both are accepted: give whatever watches the pair the new one (SSM parameter {}), then run `infra rotate` again",
            self.environment.parameters().full(&parameter::next_password(RedisUser::Monitoring))
        )))
    }

    async fn remember(&self, told: ConnectionMark) -> Result<()> {
        self.writer
            .change(|state| {
                if let Some(rotation) = &mut state.rotation {
                    rotation.told = Some(told);
                }
            })
            .await
    }

    async fn await_link(&self, step: &Step) -> Result<()> {
        let replica = self.server(Role::Replica, &self.secrets().await?)?;
        Wait::new("the replica's link to be up", AGENT, "`infra status` shows the link")
            .until(step, || async {
                let info = replica.connect(0).await?.info().await?;
                still_follows("replica", &info)?;
                let is_up = info.link.is_some_and(|link| link.up);
                Ok(Look::when(is_up, "the link is down"))
            })
            .await
    }

    async fn secrets(&self) -> Result<Secrets> {
        self.environment.secrets().await
    }

    fn server(&self, role: Role, secrets: &Secrets) -> Result<Server> {
        host_server(role, self.addresses.of(role)?, secrets)
    }

    fn servers(&self, secrets: &Secrets) -> Result<Vec<Server>> {
        Role::ALL.into_iter().map(|role| self.server(role, secrets)).collect()
    }
}

/// Returns the error of a refused password. It blocks nobody, since both are accepted meanwhile.
fn refused(error: Error, some_have_it: bool) -> Error {
    if !error.nothing_changed() {
        return error;
    }
    let error = if some_have_it {
        error.with_kind(Kind::Partial)
    } else {
        error
    };
    error
        .while_doing("hand the app its new password: the app runs on with the old one, and both are accepted")
        .hint("mend what the platform says, then run `infra rotate app` again")
}
