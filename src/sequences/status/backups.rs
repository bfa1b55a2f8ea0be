//! Asks the bucket and the agents for the backups, and judges what is missing, late or untried.

use super::agents::KeptGeneration;
use super::{age_text, agents, unseen};
use crate::decide::preflight::Finding;
use crate::decide::room::{Size, Use};
use crate::effects::backup::prove::SILENT;
use crate::effects::backup::{self, BackupSummary, Recent, drill};
use crate::effects::host;
use crate::model::error::Result;
use crate::model::role::Role;
use crate::model::size;
use crate::sequences::context::{Context, Environment, KnownPair};
use infra_agent::record::{CopyStatus, TunnelStatus};
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::time::Duration;

/// The remedy where the log is missing.
const AGENT_LOG: &str = "see `infra ssh master -- sudo journalctl -u infra-agent`";
/// A week without a drill is an alarm.
const DRILL: Duration = Duration::from_secs(7 * 86_400);

/// The answers of bucket and agents about backups. Each is a result, since any may fail alone.
pub(super) struct Backups {
    recent: Result<Option<Recent>>,
    log: Result<Option<backup::Log>>,
    drill: Result<Option<drill::Report>>,
    pub(super) agents: [(&'static str, Result<host::backup::Backups>); 2],
    /// The report of the master's tunnel, read in the same session; `None` without a session.
    pub(super) tunnel: Result<Option<TunnelStatus>>,
    /// The report of the master's copy, in the same way.
    pub(super) copy: Result<Option<CopyStatus>>,
}

pub(super) async fn look(context: &Context, environment: &Environment, pair: &KnownPair) -> Backups {
    let (bucket, env, generation) = (environment.store.bucket(), context.env(), pair.state.generation);
    let master = async {
        match pair.log_in(Role::Master).await {
            Ok(session) => {
                let backups = host::backup::look(&session).await;
                let tunnel = host::tunnel::look(&session).await;
                (backups, tunnel, host::copy::look(&session).await)
            }
            Err(error) => (Err(error), Ok(None), Ok(None)),
        }
    };
    let replica = async { host::backup::look(&pair.log_in(Role::Replica).await?).await };
    let (recent, log, drill, (master, tunnel, copy), replica) = tokio::join!(
        backup::recent(bucket, env, generation),
        backup::log(bucket, env),
        drill::newest(bucket, env),
        master,
        replica,
    );
    Backups {
        recent,
        log,
        drill,
        agents: [("master", master), ("replica", replica)],
        tunnel,
        copy,
    }
}

/// The backups as `status` shows them.
pub(super) struct BackupView {
    pub(super) newest: Option<BackupSummary>,
    /// Every second up to this one can be restored.
    pub(super) log_until: Option<Timestamp>,
    pub(super) drill: Option<drill::Report>,
    pub(super) kept: BTreeMap<&'static str, KeptGeneration>,
    /// Sizes of the newest base and of an earlier one.
    pub(super) bases: Option<[Size; 2]>,
    pub(super) disks: BTreeMap<&'static str, Use>,
}

/// Judges what is known of backups, and adds what is wrong to the findings.
pub(super) fn judge(context: &Context, backups: Backups, born: i64, findings: &mut Vec<Finding>) -> BackupView {
    let recent = backups.recent.unwrap_or_else(|error| {
        findings.push(unseen("backups-unseen", "backups", &error));
        None
    });
    let (newest, earlier) = recent.map_or((None, None), |recent| (Some(recent.newest), recent.earlier));
    let log = backups.log.unwrap_or_else(|error| {
        findings.push(unseen("log-unseen", "the log's segments", &error));
        None
    });
    let drill = backups.drill.unwrap_or_else(|error| {
        findings.push(unseen("drill-unseen", "the last drill", &error));
        None
    });
    if let Some(newest) = &newest
        && let Some(fell_from) = newest.fell_from
    {
        findings.push(Finding::warning(
            "keys-fell",
            format!(
                "the newest base has {} keys, the one before it had {}",
                size::count(newest.keys),
                size::count(fell_from)
            ),
            "see whether keys were deleted by mistake; the earlier base is kept: `infra backup list`",
        ));
    }
    let now = Timestamp::now();
    let late = SILENT + Duration::from_secs(context.config.backup.rpo_s);
    let late = i64::try_from(late.as_secs()).unwrap_or(i64::MAX);
    let until = log.as_ref().and_then(|log| log.until);
    match until.map(|until| now.duration_since(until).as_secs()) {
        None if log.is_some() || newest.is_some() => findings.push(Finding::warning(
            "no-log",
            "there is no log in the bucket: only bases can be restored",
            AGENT_LOG,
        )),
        Some(age) if age > late => {
            let found = format!("the log in the bucket ends {} ago", age_text(age));
            findings.push(Finding::warning("log-late", found, AGENT_LOG));
        }
        _ => {}
    }
    let gaps = log.iter().flat_map(|log| &log.gaps);
    findings.extend(gaps.map(|gap| {
        Finding::warning(
            "log-gap",
            format!("a gap in the log: {gap}"),
            "these seconds cannot be restored; `infra backup list` shows which can",
        )
    }));
    let tried = drill.as_ref().map_or(born, |drill| drill.drilled_at.as_second());
    if u64::try_from(now.as_second() - tried).is_ok_and(|age| age > DRILL.as_secs()) {
        findings.push(Finding::warning(
            "no-drill",
            "no restore was tried for more than a week",
            "run `infra backup drill`",
        ));
    }
    let disks = agents::disks(&backups.agents);
    let kept = agents::judge(backups.agents, now, findings);
    let bases = newest.as_ref().zip(earlier.as_ref());
    let bases = bases.map(|(newest, earlier)| [newest, earlier].map(size_of));
    BackupView {
        newest,
        log_until: until,
        drill,
        kept,
        bases,
        disks,
    }
}

fn size_of(base: &BackupSummary) -> Size {
    Size {
        at: base.finished_at,
        bytes: base.bytes,
    }
}
