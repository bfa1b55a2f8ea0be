//! Restores onto an instance beside the pair. It stays until it is removed, or its drill ends.

use super::import::RdbFile;
use super::name;
use crate::decide::access::Access;
use crate::effects::backup::catalogue::{Choice, Wish, moment};
use crate::effects::backup::{read, restore};
use crate::effects::cloud::ec2;
use crate::effects::cloud::ec2::Purpose;
use crate::effects::cloud::find;
use crate::effects::host;
use crate::effects::host::restore as on_host;
use crate::effects::host::restore::Checked;
use crate::effects::redis::Server;
use crate::effects::remote::KeyPair;
use crate::effects::state::Held;
use crate::model::error::{Error, ExitCode, Result};
use crate::model::size;
use crate::model::state::HostRecord;
use crate::sequences::arguments::Confirmed;
use crate::sequences::context::{Context, Environment};
use crate::sequences::setup::restore_instance;
use crate::sequences::setup::restore_instance::Maker;
use crate::sequences::setup::state_writer::StateWriter;
use crate::sequences::setup::wanted;
use serde_json::json;

pub async fn restore(
    context: &Context,
    environment: &Environment,
    wish: &Wish,
    altered: &restore::Altered,
    confirmed: &Confirmed,
) -> Result<ExitCode> {
    if altered.keys.is_some() {
        return Err(Error::usage("restore some keys onto an instance of its own").hint(
            "leave --keys out: the instance gets all of it, and `infra redis-cli restored` reaches it; or use --keys with `--to file DIR` or `--to live`",
        ));
    }
    let catalogue = context
        .interrupt
        .or(read::catalogue(environment.store.bucket(), context.env()))
        .await?;
    let choice = restore::choose(&catalogue, wish)?;
    let words = super::words(&choice, altered);
    if confirmed.dry_run {
        context.ui.would(format!(
            "make an instance beside the pair and put {words} on it, from {} and {} segments of the log",
            choice.base.place,
            choice.steps.len()
        ));
        return Ok(ExitCode::Done);
    }
    let fill = async |ready: &Ready| ready.restore(context, environment, &choice, altered).await;
    serve(context, environment, &words, fill).await
}

/// Puts an RDB file onto an instance of its own.
pub async fn import(
    context: &Context,
    environment: &Environment,
    file: RdbFile,
    confirmed: &Confirmed,
) -> Result<ExitCode> {
    let words = file.words.clone();
    if confirmed.dry_run {
        context
            .ui
            .would(format!("make an instance beside the pair and put {words} on it"));
        return Ok(ExitCode::Done);
    }
    let fill = async |ready: &Ready| ready.import(context, file).await;
    serve(context, environment, &words, fill).await
}

/// Makes an instance that stays, puts data on it by `fill`, and reports it. Ends it if that fails.
async fn serve(
    context: &Context,
    environment: &Environment,
    words: &str,
    fill: impl AsyncFnOnce(&Ready) -> Result<Restored>,
) -> Result<ExitCode> {
    let instance = Instance::begin(context, environment, Purpose::Restored).await?;
    let work = async {
        let ready = instance.set_up(context).await?;
        let restored = fill(&ready).await?;
        // The host key identifies the instance when it is found again.
        let record = HostRecord {
            instance_id: instance.id.clone(),
            host_key: ready.0.host_key.to_string(),
            next_host_key: None,
        };
        let keep = async |_: &Held| {
            let writer = StateWriter::open(&environment.store, environment.state().await?).await?;
            writer
                .change(|state| {
                    state.restored.insert(record.instance_id.clone(), record.clone());
                })
                .await
        };
        context.locked(environment, "infra restore", keep).await?;
        Ok::<_, Error>((ready.0.address.clone(), restored))
    };
    match context.interrupt.or(work).await {
        Ok((address, restored)) => {
            let alive = restored.keys.saturating_sub(restored.expired);
            let serves = format!(
                "{} at {address} serves {words}: {} keys{}",
                instance.id,
                size::count(alive),
                super::expired(restored.expired)
            );
            let next = "look at it with `infra redis-cli restored` or `infra ssh restored`; remove it with `infra restore --remove`: until then it costs what a host costs";
            context.ui.report(
                json!({"instance": instance.id, "address": address, "keys": alive, "expired": restored.expired}),
                [serves.as_str(), next],
            );
            Ok(ExitCode::Done)
        }
        Err(error) => {
            context.warn_of(instance.end(context, environment).await);
            Err(error)
        }
    }
}

/// Ends all instances that restores have made.
pub async fn remove(context: &Context, environment: &Environment, confirmed: &Confirmed) -> Result<ExitCode> {
    let all = ec2::restore_instances(&environment.cloud, &environment.names).await?;
    let ids: Vec<String> = (all.into_iter())
        .filter(|temporary| temporary.purpose == Purpose::Restored)
        .map(|temporary| temporary.instance)
        .collect();
    if ids.is_empty() {
        context
            .ui
            .report(json!({ "ended": ids }), ["there is no instance of a restore"]);
        return Ok(ExitCode::Done);
    }
    let ended = ids.join(", ");
    let question = format!("This ends {ended} with the data that was restored onto it.");
    if !context.goes_on(confirmed, format!("end {ended}"), &question)? {
        return Ok(ExitCode::Done);
    }
    ec2::terminate(&environment.cloud, &ids).await?;
    let forget = async |_: &Held| {
        let writer = StateWriter::open(&environment.store, environment.state().await?).await?;
        writer
            .change(|state| state.restored.retain(|id, _| !ids.contains(id)))
            .await
    };
    context.locked(environment, "infra restore", forget).await?;
    context.ui.report(json!({ "ended": ids }), [format!("ended {ended}")]);
    Ok(ExitCode::Done)
}

/// An instance beside the pair, from the moment at which it costs money.
pub struct Instance<'a> {
    id: String,
    purpose: Purpose,
    bootstrap: KeyPair,
    maker: Maker<'a>,
}

pub struct Ready(restore_instance::Ready);

/// The keys that an engine on the instance has loaded.
pub struct Restored {
    /// Counts expired keys too.
    pub keys: u64,
    pub expired: u64,
    pub version: String,
}

impl Restored {
    /// `served`: the number of keys of the engine that serves them now.
    fn new(checked: Checked, served: u64, keep_life: bool) -> Self {
        match checked {
            Checked::Loads {
                keys, expired, version, ..
            } => Restored {
                keys,
                expired: if keep_life { 0 } else { expired },
                version,
            },
            Checked::NoRoom(_) => Restored {
                keys: served,
                expired: 0,
                version: String::new(),
            },
        }
    }
}

impl<'a> Instance<'a> {
    pub async fn begin(context: &'a Context, environment: &'a Environment, purpose: Purpose) -> Result<Self> {
        let step = context.ui.step("instance");
        let state = environment.state().await?;
        let wanted = wanted::wanted(
            &context.config,
            &environment.names,
            state.generation,
            environment.cloud.s3_over_tls(),
            // The instance joins the security group, whose rules stay as they are.
            &Access::untouched(),
        );
        let found = find::find(&environment.cloud, &wanted).await?;
        let architecture = found
            .machine_type
            .as_ref()
            .map_or("amd64", |machine| &machine.architecture);
        let programs = host::programs::find(context.agent.as_deref(), architecture)?;
        let maker = Maker {
            cloud: &environment.cloud,
            config: &context.config,
            names: &environment.names,
            state,
            found,
            programs,
        };
        let (id, bootstrap) = maker.begin(purpose, &step).await?;
        step.done(format!("{id}, beside the pair"));
        Ok(Instance {
            id,
            purpose,
            bootstrap,
            maker,
        })
    }

    pub fn id(&self) -> &str {
        &self.id
    }

    pub async fn set_up(&self, context: &Context) -> Result<Ready> {
        let step = context.ui.step(format!("host {}", self.purpose));
        let ready = self
            .maker
            .set_up(&self.id, self.purpose, &self.bootstrap, &step)
            .await?;
        step.done(format!("{} is set up", ready.address));
        Ok(Ready(ready))
    }

    pub async fn end(&self, context: &Context, environment: &Environment) -> Result<()> {
        let step = context.ui.step("end the instance");
        ec2::terminate(&environment.cloud, std::slice::from_ref(&self.id)).await?;
        step.done(&self.id);
        Ok(())
    }
}

impl Ready {
    pub fn server(&self) -> Server {
        self.0.server.clone()
    }

    /// Builds the chosen data on the instance, has an engine try it, and serves it.
    pub async fn restore(
        &self,
        context: &Context,
        environment: &Environment,
        choice: &Choice<'_>,
        altered: &restore::Altered,
    ) -> Result<Restored> {
        let (ui, session) = (&context.ui, &self.0.session);
        let name = name();
        on_host::room(session, choice.base.plain_bytes + choice.log_bytes()).await?;
        let step = ui.step("build");
        let bucket = environment.store.bucket();
        let built = restore::build_signed(bucket, context.env(), choice, 4, async |plan| {
            on_host::build(session, &name, &plan, &step).await
        });
        let built = built.await?;
        step.done(format!(
            "{} of base and {} of log, last write {}",
            size::bytes(built.base_bytes),
            size::bytes(built.log_bytes),
            built.last_second.map_or("in the base".into(), moment)
        ));
        let step = ui.step("load");
        let checked = if altered.keep_life {
            on_host::plain(session, &name).await?
        } else {
            on_host::check(session, &name).await?
        };
        if altered.keep_life {
            if let Checked::NoRoom(why) = &checked {
                return Err(Error::failed(format!("let keys end later: {why}"))
                    .hint("take a larger `hosts.instance_type`, or leave --shift-ttl out"));
            }
            on_host::shift(session, &name, &altered.wanted(choice, &built)).await?;
        }
        let served = on_host::place(session, &name).await?;
        let restored = Restored::new(checked, served, altered.keep_life);
        if !restored.version.is_empty() {
            restore::expect_keys(choice, built.log_bytes, restored.keys)?;
        }
        step.done(format!("{} keys", size::count(restored.keys)));
        Ok(restored)
    }

    /// Sends an RDB file to the instance, has an engine try it, and serves it.
    async fn import(&self, context: &Context, file: RdbFile) -> Result<Restored> {
        let (ui, session) = (&context.ui, &self.0.session);
        let name = name();
        file.send(session, &name, ui).await?;
        let step = ui.step("load");
        let checked = on_host::check(session, &name).await?;
        let served = on_host::place(session, &name).await?;
        let restored = Restored::new(checked, served, false);
        step.done(format!("{} keys", size::count(restored.keys)));
        Ok(restored)
    }
}
