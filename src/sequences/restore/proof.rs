//! Has the replica's engine try restored data that no engine on this computer can judge.

use crate::effects::backup::catalogue::Choice;
use crate::effects::backup::load::Loaded;
use crate::effects::backup::restore::{self, Restored};
use crate::effects::host::restore as on_host;
use crate::effects::host::restore::Checked;
use crate::model::error::{Error, Kind, Result};
use crate::model::role::Role;
use crate::model::secret::Secret;
use crate::sequences::context::{Context, Environment};
use crate::ui::Step;
use std::collections::BTreeMap;
use std::time::Instant;

/// The place of a proof on the replica, as reports name it.
pub const REPLICA: &str = "the replica";

/// Adds to `restored` what the replica's engine loads, if no engine here could judge it. Returns the
/// place of the proof. An error of the kind `Unproven` says that the data is refused, any other that
/// nothing is known of it.
pub async fn complete(
    context: &Context,
    environment: &Environment,
    choice: &Choice<'_>,
    restored: &mut Restored,
    step: &Step,
) -> Result<&'static str> {
    let Some(here) = restored.unjudged_here.clone() else {
        return Ok("this computer");
    };
    step.update("no engine here can judge it: the replica's tries it");
    let begun = Instant::now();
    let loaded = on_replica(context, environment, choice, step).await;
    let loaded = loaded.map_err(|error| {
        if error.kind() == Kind::Unproven || error.is_by_an_impostor() {
            return error;
        }
        Error::failed(format!(
            "have an engine load the restored data: {here}; nor can the replica's: {error:#}"
        ))
        .hint("install an engine of the hosts' version here, or name one by INFRA_REDIS_SERVER; --without-load leaves the proof out")
    })?;
    restored.load_s = begun.elapsed().as_secs_f64();
    restored.loaded = Some(loaded);
    Ok(REPLICA)
}

async fn on_replica(context: &Context, environment: &Environment, choice: &Choice<'_>, step: &Step) -> Result<Loaded> {
    let session = environment.pair().await?.log_in(Role::Replica).await?;
    let bytes = choice.base.plain_bytes + choice.log_bytes();
    on_host::room(&session, bytes).await?;
    let plan = restore::plan(environment.store.bucket(), context.env(), choice, 2).await?;
    let name = format!("proof-{}-{}", super::name(), &Secret::generate().expose()[..6]);
    match on_host::prove(&session, &name, &plan, bytes, step).await? {
        Checked::NoRoom(why) => Err(Error::failed(format!("try it beside the replica's own engine: {why}"))),
        Checked::Loads {
            keys, expired, version, ..
        } => {
            restore::expect_keys(choice, choice.log_bytes(), keys)?;
            Ok(Loaded {
                keys: keys.saturating_sub(expired),
                keyspace: BTreeMap::new(),
                expired,
                engine: format!("the replica's engine {version}"),
            })
        }
    }
}
