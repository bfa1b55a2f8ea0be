//! Waits until the copy has brought every key of the source to the master once.

use crate::effects::host::copy;
use crate::effects::redis::Server;
use crate::effects::remote::Session;
use crate::effects::wait::{Look, Wait};
use crate::model::error::Result;
use crate::model::size;
use crate::ui::{Step, Ui};
use infra_agent::record::CopyStatus;
use std::time::Duration;
use wire::info::Info;

/// Waits for the end of the first sweep. Shows how many keys it has read.
pub async fn once(ui: &Ui, session: &Session, master: &Server, deadline: Duration) -> Result<Info> {
    let step = ui.step(format!("{} copies the source", master.label));
    let wait = Wait::new(
        "the first copy of all keys",
        deadline,
        "`infra status` shows how far the copy is; `source.copy_rate` in infra.yml says how fast it may read",
    );
    let status = wait.until(&step, || look(session, &step)).await?;
    let seen = master.connect(0).await?.info().await?;
    let took = status.last_sweep.map_or(0, |sweep| sweep.ms);
    step.done(format!(
        "{} keys copied, {}; the last walk through all of them took {}",
        size::count(seen.keys()),
        size::bytes(seen.used_memory),
        size::duration(Duration::from_millis(took))
    ));
    Ok(seen)
}

/// Returns true if the copy has ended a sweep of the present source.
pub async fn has_begun(session: &Session) -> Result<bool> {
    Ok(copy::look(session).await?.is_some_and(|status| is_whole(&status)))
}

fn is_whole(status: &CopyStatus) -> bool {
    status.sweeps > 0 && status.last_sweep.is_some()
}

async fn look(session: &Session, step: &Step) -> Result<Look<CopyStatus>> {
    let Some(status) = copy::look(session).await? else {
        return Ok(Look::NotYet("the copy has not begun yet".into()));
    };
    if is_whole(&status) {
        return Ok(Look::Ready(status));
    }
    Ok(Look::NotYet(match &status.trouble {
        Some(why) if !status.connected => format!("the copy is not connected: {why}"),
        _ => format!(
            "{} of {} keys in {}",
            size::count(status.keys_read),
            size::count(status.keys),
            size::duration(step.elapsed())
        ),
    }))
}
