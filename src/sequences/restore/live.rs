//! Restores into the master: all data in the place of its own, or some keys beside it.

use super::name;
use crate::effects::backup;
use crate::effects::backup::catalogue::{Catalogue, Choice, Wish, moment};
use crate::effects::backup::read;
use crate::effects::backup::restore;
use crate::effects::backup::restore::Altered;
use crate::effects::cloud::s3::Bucket;
use crate::effects::host;
use crate::effects::host::backup as agent;
use crate::effects::host::restore as on_host;
use crate::effects::host::restore::Checked;
use crate::effects::redis::Server;
use crate::effects::remote::Session;
use crate::effects::state::Held;
use crate::effects::wait::{Look, Wait};
use crate::model::error::{Error, ExitCode, Result};
use crate::model::role::Role;
use crate::model::size;
use crate::sequences::arguments::Confirmed;
use crate::sequences::context::{Context, Environment};
use crate::sequences::setup::follow;
use crate::ui::Ui;
use infra_agent::pick::Picked;
use infra_agent::rebuild::Built;
use jiff::Timestamp;
use serde_json::{Value, json};
use std::time::Duration;

/// Time for the replica's full copy of what was restored.
const SYNC: Duration = Duration::from_secs(20 * 60);
const SHIPPING: Duration = Duration::from_secs(180);

/// The master, and what a restore needs there.
pub(super) struct Master<'a> {
    pub ui: &'a Ui,
    pub bucket: &'a Bucket,
    pub session: Session,
    pub master: Server,
    pub replica: Server,
}

/// A restore that is about to happen.
struct Live<'a> {
    on: Master<'a>,
    env: &'a str,
    choice: Choice<'a>,
    altered: &'a Altered,
}

pub async fn restore(
    context: &Context,
    environment: &Environment,
    wish: &Wish,
    altered: &Altered,
    confirmed: &Confirmed,
) -> Result<ExitCode> {
    let catalogue = read::catalogue(environment.store.bucket(), context.env()).await?;
    restore_from(context, environment, &catalogue, wish, altered, confirmed).await
}

/// As `restore`, from a catalogue that was read before.
pub(super) async fn restore_from(
    context: &Context,
    environment: &Environment,
    catalogue: &Catalogue,
    wish: &Wish,
    altered: &Altered,
    confirmed: &Confirmed,
) -> Result<ExitCode> {
    let ui = &context.ui;
    let step = ui.step("look");
    let on = Master::reach(context, environment).await?;
    let choice = restore::choose(catalogue, wish)?;
    let words = super::words(&choice, altered);
    let from = format!("{} and {} segments of the log", choice.base.place, choice.steps.len());
    step.done(format!("{words}: {from}"));
    let live = Live {
        on,
        env: context.env(),
        choice,
        altered,
    };
    let all = altered.keys.is_none();
    let (would, question) = if all {
        (
            format!("put {words} in the place of the master's data, from {from}"),
            format!(
                "This stops the master for some seconds and puts {words} in the place of its data. What was written since is kept on the host, in a folder of its own."
            ),
        )
    } else {
        (
            format!("put {words} into the master, in the place of keys of the same names, from {from}"),
            format!(
                "This puts {words} into the master while it serves: keys of the same names are replaced, all others stay."
            ),
        )
    };
    if !context.goes_on(confirmed, would, &question)? {
        return Ok(ExitCode::Done);
    }
    let work = async |lock: &Held| {
        let restoring = async {
            live.on.recover().await?;
            if all {
                live.all(lock, context).await
            } else {
                live.some(lock, context).await
            }
        };
        context.interrupt.or(restoring).await
    };
    let (json, said) = context.locked(environment, "infra restore", work).await?;
    ui.report(json, [said]);
    Ok(ExitCode::Done)
}

impl Live<'_> {
    /// Puts all data in the place of the master's, which is kept.
    async fn all(&self, lock: &Held, context: &Context) -> Result<(Value, String)> {
        let name = name();
        let built = self.build(&name).await?;
        let checked = self.on.load_beside(&name, context, self.altered.keep_life).await?;
        if self.altered.keep_life {
            let step = self.on.ui.step("let keys end later");
            if let Checked::NoRoom(why) = &checked {
                on_host::forget(&self.on.session, &name).await?;
                return Err(no_room(why));
            }
            let wanted = self.altered.wanted(&self.choice, &built);
            on_host::shift(&self.on.session, &name, &wanted).await?;
            step.done(format!("{} s later than they would have", wanted.shift_ms / 1000));
        }
        self.on.still_ours(lock).await?;
        let (kept, keys) = self.on.put_in_force(&name, &checked).await?;
        let expired = if self.altered.keep_life { 0 } else { checked.expired() };
        Ok((
            json!({"keys": keys, "kept": kept, "expired": expired}),
            format!(
                "the master serves {}: {} keys{}. What it had before is on it in {kept}",
                super::words(&self.choice, self.altered),
                size::count(keys),
                super::expired(expired)
            ),
        ))
    }

    /// Puts some keys into the engine while it serves.
    async fn some(&self, lock: &Held, context: &Context) -> Result<(Value, String)> {
        let name = name();
        let built = self.build(&name).await?;
        if let Checked::NoRoom(why) = self.on.load_beside(&name, context, true).await? {
            on_host::forget(&self.on.session, &name).await?;
            return Err(no_room(&why));
        }
        self.on.still_ours(lock).await?;
        let step = self.on.ui.step("put in place");
        let before = Timestamp::now();
        let wanted = self.altered.wanted(&self.choice, &built);
        let picked = on_host::pick(&self.on.session, &name, &wanted).await?;
        step.done(format!("{} keys", size::count(picked.keys)));
        Ok((json!({"picked": picked, "before": before}), self.said(&picked, before)))
    }

    fn said(&self, picked: &Picked, before: Timestamp) -> String {
        let second = moment(before.as_second() - 1);
        format!(
            "the master has {}: {} keys{}. They were as before until {second}: that second can be restored once the log is shipped",
            super::words(&self.choice, self.altered),
            size::count(picked.keys),
            super::expired(picked.expired)
        )
    }

    async fn build(&self, name: &str) -> Result<Built> {
        let bytes = self.choice.base.plain_bytes + self.choice.log_bytes();
        on_host::room(&self.on.session, bytes).await?;
        let step = self.on.ui.step("build");
        let built = restore::build_signed(self.on.bucket, self.env, &self.choice, 2, async |plan| {
            on_host::build(&self.on.session, name, &plan, &step).await
        });
        let built = built.await?;
        step.done(format!(
            "{} of base and {} of log, last write {}",
            size::bytes(built.base_bytes),
            size::bytes(built.log_bytes),
            built.last_second.map_or("in the base".into(), moment)
        ));
        Ok(built)
    }
}

impl<'a> Master<'a> {
    /// Connects to the master. Fails if it follows another server.
    pub async fn reach(context: &'a Context, environment: &'a Environment) -> Result<Master<'a>> {
        let pair = environment.pair().await?;
        let session = pair.log_in(Role::Master).await?;
        if !host::role::observe(&session).await?.is_master() {
            return Err(Error::failed(
                "restore live data: the master follows the source, which would write over it at once",
            )
            .hint("restore into a folder with `--to file DIR`, or let the app move first"));
        }
        Ok(Master {
            ui: &context.ui,
            bucket: environment.store.bucket(),
            session,
            master: pair.server(Role::Master)?,
            replica: pair.server(Role::Replica)?,
        })
    }

    /// Confirms before data is replaced that the lock is ours and no later holder has acted here.
    pub async fn still_ours(&self, lock: &Held) -> Result<()> {
        lock.confirm(Duration::ZERO).await?;
        host::role::raise_epoch(&self.session, lock.epoch()).await
    }

    /// Puts back what an earlier run left half done.
    pub async fn recover(&self) -> Result<()> {
        if let Some(what) = on_host::recover(&self.session).await? {
            self.ui.note(format!(
                "an earlier run had moved the data aside and died: {what} is in force again"
            ));
        }
        Ok(())
    }

    /// Has a second engine load it, if the host has room; `plain` also writes it as commands.
    pub async fn load_beside(&self, name: &str, context: &Context, plain: bool) -> Result<Checked> {
        let step = self.ui.step("load it beside");
        let checked = if plain {
            on_host::plain(&self.session, name).await
        } else {
            on_host::check(&self.session, name).await
        };
        let checked = match checked {
            Ok(checked) => checked,
            Err(error) => {
                step.failed("it does not load");
                context.warn_of(on_host::forget(&self.session, name).await);
                return Err(error);
            }
        };
        match &checked {
            Checked::Loads {
                keys, expired, version, ..
            } => step.done(format!(
                "{version} loads {} keys, {} of which have reached their end since",
                size::count(*keys),
                size::count(*expired)
            )),
            Checked::NoRoom(why) => step.unchanged(format!(
                "{why}: the data is tested only by the swap, which puts the old data back if it does not load"
            )),
        }
        Ok(checked)
    }

    /// Swaps the data, waits for replica and log. Returns the folder of the old data, and the keys.
    pub async fn put_in_force(&self, name: &str, checked: &Checked) -> Result<(String, u64)> {
        let before = agent::look(&self.session)
            .await?
            .agent
            .map_or_else(String::new, |agent| agent.timeline);
        let step = self.ui.step("swap");
        let (kept, keys) = on_host::swap(&self.session, name, checked).await?;
        step.done(format!(
            "the master has {} keys; what it had before is in {kept}",
            size::count(keys)
        ));
        follow::in_sync(self.ui, None, &self.master, &self.replica, SYNC).await?;
        self.shipped_again(&before).await?;
        Ok((kept, keys))
    }

    /// Waits until the log is shipped on another timeline, and makes a base of what was restored.
    async fn shipped_again(&self, before: &str) -> Result<()> {
        let step = self.ui.step("shipping");
        let wait = Wait::new(
            "the log to be shipped again, on a timeline of its own",
            SHIPPING,
            "`infra status` shows what the agent says; `journalctl -u infra-agent` on the master says more",
        );
        let timeline = wait.until(&step, || shipping(&self.session, before)).await?;
        let commit = agent::run_now(&self.session).await?;
        let summary = backup::read_back(self.bucket, &commit).await?;
        step.done(format!(
            "timeline {timeline} has a base of {} keys, read back",
            size::count(summary.keys)
        ));
        Ok(())
    }
}

fn no_room(why: &str) -> Error {
    Error::failed(format!("restore keys on the master: {why}")).hint(
        "nothing was changed there. Take them out on this computer with `--to file DIR`, and put them in with `infra redis-cli master --pipe < DIR/commands.resp`",
    )
}

/// Returns the name of the agent's timeline, once it is another one than before.
async fn shipping(session: &Session, before: &str) -> Result<Look<String>> {
    shipped(agent::look(session).await?, before)
}

fn shipped(seen: agent::Backups, before: &str) -> Result<Look<String>> {
    if let Some(why) = seen.refused {
        return Err(Error::failed("ship the log again: the engine is not started")
            .because(why)
            .hint("`infra status` shows the reason until the engine runs"));
    }
    let Some(agent) = seen.agent else {
        return Ok(Look::NotYet("the agent says nothing".into()));
    };
    if agent.timeline.is_empty() || agent.timeline == before {
        return Ok(Look::NotYet("the agent is still on the old timeline".into()));
    }
    Ok(Look::Ready(agent.timeline))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_that_is_not_started_is_not_waited_for() {
        let seen = |refused: Option<&str>| agent::Backups {
            agent: None,
            failed: None,
            refused: refused.map(str::to_string),
        };
        assert!(matches!(shipped(seen(None), "a"), Ok(Look::NotYet(_))));
        let Err(error) = shipped(seen(Some("its data is missing")), "a") else {
            panic!("it waits")
        };
        assert!(error.chain().contains(&"its data is missing".to_string()), "{error:?}");
    }
}
