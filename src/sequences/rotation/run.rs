//! `infra rotate`: a new password in the place of an old one, with no error for whoever uses it.

use super::app;
use super::work::Work;
use crate::effects::state::Held;
use crate::model::error::{Error, ExitCode, Result};
use crate::model::rotation::Rotation;
use crate::model::secrets::RedisUser;
use crate::model::size;
use crate::model::state::State;
use crate::sequences::arguments::Rotate;
use crate::sequences::context::{Context, Environment};
use crate::sequences::setup::state_writer::StateWriter;
use crate::sequences::up;
use jiff::Timestamp;
use serde_json::json;
use std::time::Duration;

/// How long a release may take, and after it the processes to run it.
const RELEASE: Duration = Duration::from_secs(30 * 60);

pub async fn run(context: &Context, arguments: &Rotate) -> Result<ExitCode> {
    let environment = context.environment().await?;
    let state = environment.state().await?;
    state.refuse_failover()?;
    refuse_during_a_cutover(context, &environment).await?;
    let asked = match arguments.user {
        Some(user) => vec![user],
        None => RedisUser::ALL.to_vec(),
    };
    let rotation = goes_on_or_begins(&state, &asked);
    let plan = lines(context, &rotation, state.rotation.is_some());
    if arguments.change.dry_run {
        context.ui.report(json!({ "would": plan }), plan);
        return Ok(ExitCode::Done);
    }
    if state.rotation.is_none() {
        up::refuse_changes(context, &environment).await?;
    }
    plan.iter().for_each(|line| context.ui.note(line));
    context.agree(arguments.change.yes, "Go on?")?;
    let replacing = async |lock: &Held| {
        let stored = environment.state().await?;
        if stored.rotation != state.rotation {
            return Err(
                Error::failed("replace passwords: another run went on with it meanwhile")
                    .hint("run `infra rotate` again"),
            );
        }
        let work = Work {
            context,
            environment: &environment,
            addresses: environment.addresses().await?,
            writer: StateWriter::open(&environment.store, stored).await?,
            lock,
            limits: app::Limits {
                release: RELEASE,
                grace: arguments.grace,
                leaving: arguments.wait,
            },
            cut_off: arguments.cut_off,
        };
        work.rotate(rotation).await
    };
    let work = async |lock: &Held| context.interrupt.or(replacing(lock)).await;
    let rotated = context.locked(&environment, "infra rotate", work).await?;
    let lines = rotated.iter().map(|one| {
        format!(
            "{:<12} has a new password, the old one is refused ({})",
            one.user,
            size::duration(Duration::from_secs_f64(one.seconds))
        )
    });
    context.ui.report(json!({ "rotated": rotated }), lines);
    Ok(ExitCode::Done)
}

/// Fails during a cutover, which hands out the app's password and relies on the users of the pair.
async fn refuse_during_a_cutover(context: &Context, environment: &Environment) -> Result<()> {
    match context.history(environment).await?.unfinished(Timestamp::now()) {
        Some(unfinished) => Err(Error::failed(format!("replace passwords: {unfinished}"))
            .hint("bring the cutover to its end, or back, then run `infra rotate` again")),
        None => Ok(()),
    }
}

/// Returns the rotation to run: one that was begun comes first, then what is asked for.
fn goes_on_or_begins(state: &State, asked: &[RedisUser]) -> Rotation {
    let now = Timestamp::now();
    match &state.rotation {
        Some(begun) => {
            let mut rotation = begun.clone();
            // Without a name the begun rotation goes on with its own list.
            if let [user] = asked
                && *user != begun.user
                && !begun.left.contains(user)
            {
                rotation.left.push(*user);
            }
            rotation
        }
        None => Rotation::begin(asked[0], asked[1..].to_vec(), now),
    }
}

fn lines(context: &Context, rotation: &Rotation, was_begun: bool) -> Vec<String> {
    let mut lines = Vec::new();
    if was_begun {
        lines.push(format!(
            "goes on with {}, begun at {}: {}",
            rotation.user, rotation.begun_at, rotation.stage
        ));
    }
    for user in std::iter::once(&rotation.user).chain(&rotation.left) {
        lines.push(match user {
            RedisUser::App => format!(
                "app: both passwords are accepted, the vars of {} that name the endpoint are changed, which restarts its processes, then the old one is refused",
                context.config.app.name
            ),
            user => format!("{user}: both passwords are accepted, the hosts use the new one, then the old one is refused"),
        });
    }
    lines
}

/// Fails while a password is being replaced, for commands that would hand out the app's password.
pub fn refuse_unfinished(state: &State) -> Result<()> {
    state.refuse_failover()?;
    match &state.rotation {
        Some(rotation) => Err(Error::failed(format!(
            "begin: the password of {} is being replaced since {}",
            rotation.user, rotation.begun_at
        ))
        .hint("run `infra rotate` to bring that to its end")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::rotation::Stage;

    #[test]
    fn a_begun_rotation_comes_first_and_no_user_comes_twice() {
        let mut state = State::begin(Timestamp::UNIX_EPOCH);
        let fresh = goes_on_or_begins(&state, &[RedisUser::App, RedisUser::Admin]);
        assert_eq!(
            (fresh.user, fresh.left.clone()),
            (RedisUser::App, vec![RedisUser::Admin])
        );
        state.rotation = Some(Rotation {
            stage: Stage::Switching,
            ..fresh
        });
        let all = goes_on_or_begins(&state, &RedisUser::ALL);
        assert_eq!(
            (all.user, all.stage, all.left.len()),
            (RedisUser::App, Stage::Switching, 1)
        );
        let one = goes_on_or_begins(&state, &[RedisUser::Backup]);
        assert_eq!(one.left, [RedisUser::Admin, RedisUser::Backup]);
        assert_eq!(goes_on_or_begins(&state, &[RedisUser::App]).left, [RedisUser::Admin]);
    }
}
