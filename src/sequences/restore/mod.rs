//! `infra restore`: builds any covered second in a new place, checks it, and puts it where asked.

mod file;
mod import;
pub mod instance;
mod live;
mod pair;
pub mod proof;

use crate::effects::backup::catalogue::{Choice, Wish, moment};
use crate::effects::backup::restore::Altered;
use crate::model::error::{Error, ExitCode, Result};
use crate::model::size;
use crate::sequences::arguments::{Restore, Target};
use crate::sequences::context::Context;
use jiff::Timestamp;

pub async fn run(context: &Context, arguments: &Restore) -> Result<ExitCode> {
    if arguments.remove {
        let environment = context.environment().await?;
        return context
            .interrupt
            .or(instance::remove(context, &environment, &arguments.confirmed))
            .await;
    }
    if let Some(path) = &arguments.from {
        let target = arguments.target()?;
        let file = import::RdbFile::open(path)?;
        let environment = context.environment().await?;
        return if target == Target::Instance {
            instance::import(context, &environment, file, &arguments.confirmed).await
        } else {
            import::import(context, &environment, file, &arguments.confirmed).await
        };
    }
    let wish = match (arguments.at, arguments.latest, &arguments.backup) {
        (Some(at), false, None) => Wish::At(at),
        (None, true, None) => Wish::Latest,
        (None, false, Some(base)) => Wish::Base(base.clone()),
        _ => {
            return Err(Error::usage("know what to restore")
                .hint("name one of --at TIME, --latest, --backup ID and --from FILE"));
        }
    };
    let altered = Altered {
        keys: arguments.keys.clone(),
        keep_life: arguments.shift_ttl,
    };
    let environment = context.environment().await?;
    match arguments.target()? {
        Target::Instance => instance::restore(context, &environment, &wish, &altered, &arguments.confirmed).await,
        Target::Pair => pair::restore(context, &environment, &wish, &altered, &arguments.confirmed).await,
        Target::Live => live::restore(context, &environment, &wish, &altered, &arguments.confirmed).await,
        Target::File(folder) => {
            let work = file::restore(context, &environment, &wish, &altered, &folder, arguments.without_load);
            context.interrupt.or(work).await
        }
    }
}

/// Returns a name for what is built on a host, made from the time.
fn name() -> String {
    Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string()
}

fn words(choice: &Choice<'_>, altered: &Altered) -> String {
    let time = choice
        .until
        .map_or("everything that is in the bucket".into(), |second| {
            format!("the data as of {}", moment(second))
        });
    match &altered.keys {
        Some(pattern) => format!("the keys {pattern} of {time}"),
        None => time,
    }
}

/// Describes what became of keys whose time was over.
fn expired(count: u64) -> String {
    match count {
        0 => String::new(),
        count => format!(
            "; {} more have reached the end of their time since and are gone, unless --shift-ttl lets them live on",
            size::count(count)
        ),
    }
}
