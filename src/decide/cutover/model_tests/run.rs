//! One run of a command in the model: its steps, its death, and its way back after a failure.

use super::*;

/// Returns whether all steps of a list were done, or why not; `None` if the tool died.
fn all(model: &mut Model, run: &Run, steps: &[Step], taken: &mut usize) -> Option<Result<(), &'static str>> {
    for step in steps {
        model.app_writes(run.replicate);
        if *taken == run.dies_after {
            // Two requests were sent at the same time, and either of them may have been carried
            // out.
            if *step == PromoteAndHold {
                let _ = model.perform(if run.replicate { LongPause } else { Promote }, run);
                model.app_writes(run.replicate);
            }
            return None;
        }
        if *taken == run.sleeps_after {
            model.sleep();
            model.app_writes(run.replicate);
        }
        *taken += 1;
        let failed = model.perform(*step, run);
        model.app_writes(run.replicate);
        if let Some(why) = failed {
            return Some(Err(why));
        }
    }
    Some(Ok(()))
}

/// Does what the tool does after a failed step, while it lives.
fn step_back(model: &mut Model, run: &Run, why: &'static str, taken: &mut usize) {
    let left = model.apps.iter().any(|app| app.not_back);
    if model.phase == Some(Phase::Returning) && left {
        return;
    }
    if run.command == Command::Back
        && model.phase == Some(Phase::Returning)
        && model.was_switched
        && model.points() == Points::Endpoint
        && !model.is_pending()
        && model.master == MasterRole::Promoted
        && model.ours.len() == model.promoted_at
        && model.apps.iter().all(|app| !app.sent && !app.unclear)
    {
        model.access = true;
        model.phase = Some(Phase::Settled);
        if model.fenced && model.fence == FenceKind::Pause {
            model.pause = Pause::None;
        }
        return;
    }
    let may_go_back = match model.phase {
        Some(Phase::Promoted | Phase::Returning) => true,
        Some(Phase::Switching) => may_take_back(&Failure {
            given_up: model.given_up,
            nothing_changed: why == "refused",
            sent: model.apps.iter().any(|app| app.sent),
            unclear: model.apps.iter().any(|app| app.unclear),
            moved_before: model.fence == FenceKind::Pause
                && model
                    .seen
                    .is_some_and(|(app, pending)| pending || app != Points::Source),
            access_opened: model.access_opened,
            unused: model.ours.len() == model.promoted_at,
        }),
        _ => false,
    };
    if may_go_back {
        let back = all(model, run, &way_back(model.fence), taken);
        let written = model.ours.len() != model.promoted_at && model.master == MasterRole::Promoted;
        if let (Some(Err(_)), true, true) = (back, written, model.switch_journaled) {
            model.access = true;
            model.phase = Some(match run.command {
                Command::Back if model.was_switched => Phase::Settled,
                _ => Phase::Switching,
            });
        }
    } else if !matches!(model.phase, Some(Phase::Switching | Phase::Switched)) {
        if model.stopped {
            let _ = all(model, run, &restart(), taken);
        } else if model.fenced {
            model.pause = Pause::None;
        }
    }
}

/// Returns whether the command ended; `false` if it failed or the tool died.
pub fn run(model: &mut Model, run: &Run) -> Result<bool, Refusal> {
    let mut taken = 0;
    model.calls = 0;
    model.access_opened = false;
    model.given_up = false;
    for app in &mut model.apps {
        (app.sent, app.unclear, app.not_back) = (false, false, false);
    }
    for _ in 0..4 {
        model.seen = Some((model.points(), model.is_pending()));
        let (steps, again) = match decide(run.command, &model.past(), &model.world()) {
            Next::Do(steps) => (steps, false),
            Next::Then(steps) => (steps, true),
            Next::Wait => {
                model.release_ends();
                continue;
            }
            Next::Nothing(_) => return Ok(true),
            Next::Refuse(refusal) => return Err(refusal),
        };
        match all(model, run, &steps, &mut taken) {
            None => return Ok(false),
            Some(Err(why)) => {
                step_back(model, run, why, &mut taken);
                return Ok(false);
            }
            Some(Ok(())) if !again => return Ok(true),
            Some(Ok(())) => {}
        }
    }
    panic!("decides in circles: {model:?}");
}
