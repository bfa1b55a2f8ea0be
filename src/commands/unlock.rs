//! `infra unlock`: removes the lock of an owner who is gone, named by its id.

use crate::effects::state::{Lock, LockRecord, Standing};
use crate::model::error::{Error, ExitCode, Result};
use crate::model::size;
use crate::sequences::arguments::Unlock;
use crate::sequences::context::Context;
use serde_json::json;

pub async fn run(context: &Context, arguments: &Unlock) -> Result<ExitCode> {
    let environment = context.environment().await?;
    let Some(standing) = Lock::standing(&environment.store).await? else {
        show(context, "nobody holds the lock", None);
        return Ok(ExitCode::Done);
    };
    let owner = standing.record.clone();
    if owner.id != arguments.id {
        return Err(Error::locked(format!(
            "remove the lock {} of {}: another lock is there now",
            arguments.id,
            context.env()
        ))
        .because(owner.to_string())
        .hint(format!(
            "if that command is gone for good, run `infra unlock {}`",
            owner.id
        )));
    }
    let question = format!(
        "{}\nRemove this lock? Its owner, should it still run, stops before its next change.",
        described(&standing)
    );
    context.agree(arguments.yes, &question)?;
    if !Lock::remove(&environment.store, standing).await? {
        return Err(Error::locked(format!(
            "remove the lock {}: it was given back or taken over meanwhile",
            owner.id
        ))
        .hint("nothing was removed; run the refused command again: it shows who holds the lock now"));
    }
    show(
        context,
        &format!("removed the lock {}: {owner}", owner.id),
        Some(&owner),
    );
    Ok(ExitCode::Done)
}

/// Describes the holder of the lock: who, from where, since when, and whether it still renews it.
fn described(standing: &Standing) -> String {
    let renewed = match standing.renewed_ago {
        Some(ago) => format!("renewed {} ago", size::duration(ago)),
        None => "last renewal unknown".into(),
    };
    let record = &standing.record;
    format!("{record}; taken on {}, {renewed}", record.since.strftime("%Y-%m-%d"))
}

fn show(context: &Context, said: &str, removed: Option<&LockRecord>) {
    context.ui.report(json!({ "removed": removed }), [said]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_lock_is_described_by_its_owner_and_its_last_renewal() {
        let standing = |renewed_ago| Standing::new(crate::commands::tests::holder(), renewed_ago);
        insta::assert_snapshot!(described(&standing(Some(Duration::from_secs(190)))), @"ada on laptop (process 4711) runs `infra switch-app` since 12:00:00 UTC, lock 00ff; taken on 2026-03-01, renewed 3 min 10 s ago");
        insta::assert_snapshot!(described(&standing(None)), @"ada on laptop (process 4711) runs `infra switch-app` since 12:00:00 UTC, lock 00ff; taken on 2026-03-01, last renewal unknown");
    }
}
