//! `infra backup drill`: restores a second to see that it works, here or on an instance of its own.

use super::temporary;
use crate::effects::backup::catalogue::{Choice, Wish};
use crate::effects::backup::drill;
use crate::effects::backup::drill::Report;
use crate::effects::backup::sample;
use crate::effects::backup::sample::Sampled;
use crate::effects::backup::{load, read, restore};
use crate::effects::cloud::ec2;
use crate::effects::cloud::ec2::Purpose;
use crate::effects::redis::Server;
use crate::model::error::{Doing, Error, ExitCode, Result};
use crate::model::role::Role;
use crate::model::size;
use crate::sequences::arguments::Drill;
use crate::sequences::context::{Context, Environment};
use crate::sequences::restore::instance::Instance;
use crate::sequences::restore::proof;
use crate::ui::Step;
use jiff::Timestamp;
use serde_json::json;
use std::time::Instant;

pub async fn run(context: &Context, environment: &Environment, arguments: &Drill) -> Result<ExitCode> {
    let begun = Instant::now();
    let bucket = environment.store.bucket();
    let catalogue = context.interrupt.or(read::catalogue(bucket, context.env())).await?;
    let wish = match arguments.at {
        Some(at) => Wish::At(at),
        None if arguments.latest => Wish::Latest,
        None => drill::some_second(&catalogue).map_or(Wish::Latest, Wish::At),
    };
    let choice = restore::choose(&catalogue, &wish)?;
    let mut report = if arguments.local {
        context.interrupt.or(here(context, environment, &choice)).await?
    } else {
        on_an_instance(context, environment, &choice).await?
    };
    report.seconds = (begun.elapsed().as_secs_f64() * 10.0).round() / 10.0;
    drill::remember(bucket, context.env(), &report).await?;
    let restored = format!(
        "restored {} from {} on {} and thrown away again: {} keys{}, {:.1} s",
        report.at.map_or("the latest state".into(), |at| at.to_string()),
        report.base,
        report.place,
        size::count(report.keys),
        match report.expired {
            0 => String::new(),
            expired => format!(" and {} that have expired since", size::count(expired)),
        },
        report.seconds
    );
    let compared = match &report.sampled {
        Some(sampled) => words(sampled),
        None => "no key was compared with the live master".into(),
    };
    context.ui.report(json!({"drill": report}), [restored, compared]);
    Ok(ExitCode::Done)
}

fn words(sampled: &Sampled) -> String {
    format!(
        "of {} of its keys the live master has {} unchanged, {} were written to since and {} are gone",
        sampled.keys, sampled.same, sampled.different, sampled.missing
    )
}

async fn here(context: &Context, environment: &Environment, choice: &Choice<'_>) -> Result<Report> {
    let step = context.ui.step("drill");
    let folder = temporary()?;
    let bucket = environment.store.bucket();
    let nothing = restore::Altered::default();
    let mut restored = restore::to_folder(bucket, context.env(), choice, folder.path(), true, &nothing, &step).await?;
    let place = proof::complete(context, environment, choice, &mut restored, &step).await?;
    let mut report = Report::new(&restored);
    report.place = place.into();
    step.done(format!(
        "{} keys, of {:.1} s the engine took {:.1}",
        size::count(report.keys),
        restored.build_s + restored.load_s,
        restored.load_s
    ));
    if place == proof::REPLICA {
        // Its engine listens to nobody.
        return Ok(report);
    }
    let step = context.ui.step("compare keys with the live master");
    let engine = load::Engine::start_reachable(folder.path(), restore::LOADING).await?;
    let sampled = sampled(context, environment, engine.server(), &step).await;
    engine.stop().await;
    report.sampled = sampled;
    Ok(report)
}

/// Drills on an instance that is made for it. The instance is ended, even if the drill fails.
async fn on_an_instance(context: &Context, environment: &Environment, choice: &Choice<'_>) -> Result<Report> {
    forget_the_dead(context, environment).await?;
    let (instance, report) = {
        let instance = Instance::begin(context, environment, Purpose::Drill).await?;
        let work = async {
            let ready = instance.set_up(context).await?;
            let restored = ready
                .restore(context, environment, choice, &restore::Altered::default())
                .await?;
            let step = context.ui.step("compare keys with the live master");
            Ok::<_, Error>(Report {
                drilled_at: Timestamp::now(),
                at: choice.until.and_then(|second| Timestamp::from_second(second).ok()),
                base: choice.base.place.clone(),
                keys: restored.keys.saturating_sub(restored.expired),
                expired: restored.expired,
                seconds: 0.0,
                engine: restored.version.clone(),
                place: format!("the instance {}", instance.id()),
                sampled: sampled(context, environment, Ok(ready.server()), &step).await,
            })
        };
        let report = context.interrupt.or(work).await;
        (instance, report)
    };
    let ended = instance.end(context, environment).await;
    match report {
        Ok(report) => ended.map(|()| report),
        Err(error) => {
            context.warn_of(ended);
            Err(error)
        }
    }
}

/// Ends the instances that dead drills left: a live drill does not take that long.
async fn forget_the_dead(context: &Context, environment: &Environment) -> Result<()> {
    let dead: Vec<String> = ec2::restore_instances(&environment.cloud, &environment.names)
        .await?
        .into_iter()
        .filter(drill::is_left_over)
        .map(|temporary| temporary.instance)
        .collect();
    if dead.is_empty() {
        return Ok(());
    }
    context
        .ui
        .note(format!("an earlier drill died and left {}: ended now", dead.join(", ")));
    ec2::terminate(&environment.cloud, &dead).await
}

/// Returns `None` if the master cannot be asked: that the data loads is proven without it.
async fn sampled(
    context: &Context,
    environment: &Environment,
    restored: Result<Server>,
    step: &Step,
) -> Option<Sampled> {
    let work = async {
        let live = environment.pair().await?.server(Role::Master)?;
        sample::against(&restored?, &live).await
    };
    match work.await.doing(|| "compare keys with the live master".into()) {
        Ok(sampled) => {
            step.done(words(&sampled));
            Some(sampled)
        }
        Err(error) => {
            step.failed("the master could not be asked");
            context.ui.warn(error.chain().join(": "));
            None
        }
    }
}
