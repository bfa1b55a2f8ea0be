//! Decides what stands in the way of a move, from what was seen. Pure.
//!
//! Every finding has a stable id for scripts, what was found, and a remedy. A blocker makes a move
//! unsafe or impossible; a warning is what the app's owner should know before.

pub mod app;
pub mod commands;
pub mod connections;
pub mod consumers;
mod copied;
pub mod denials;
mod fence;
mod left_out;
pub mod private;
pub mod reach;
mod replication;
mod source;
#[cfg(test)]
mod tests;
pub mod vars;
mod version;
mod way;

pub use app::{Copy, Owner};
pub use denials::{Denied, DeniedBy};
pub use private::Private;
pub use source::{Certificate, RENEWED_LATE_DAYS, SourceFacts};
pub use version::{OwnEngine, own_engine};
pub use way::Way;

use super::access::{Admins, Apps};
use crate::effects::platform::heroku::AppSurvey;
use crate::model::follow::Follower;
use crate::model::size;
use serde::Serialize;

/// Everything that was looked at; `Err` says why it could not be seen.
pub struct Facts {
    pub source: Result<SourceFacts, Unseen>,
    pub own: OwnEngine,
    /// Eviction and number of databases in `redis.settings` of infra.yml; `None` if not set.
    pub own_policy: Option<String>,
    pub own_databases: Option<u32>,
    pub instance_type: String,
    /// Memory of the instance type in bytes.
    pub instance_memory: Result<u64, Unseen>,
    /// The network that the instance type has all the time, in bytes a second; `None` if it is not known.
    pub network: Option<u64>,
    pub image: String,
    pub image_id: Result<String, Unseen>,
    pub config_var: String,
    pub owner: Result<Owner, Unseen>,
    /// `None` if the platform is known by commands alone.
    pub app: Result<Option<AppSurvey>, Unseen>,
    /// A sign that the source's add-on can only be reached from within its space.
    pub private: Option<Private>,
    /// Where the hosts' connections come from, if `up` has made that address.
    pub endpoint: Option<String>,
    /// The app's var compared with the add-on's own value.
    pub copy: Copy,
    /// The AWS region of the pair.
    pub region: String,
    /// True if the last rehearsal on the endpoint went well; `None` if there was none.
    pub rehearsed: Option<bool>,
    /// Bytes that Redis may use on a host.
    pub maxmemory: u64,
    pub admins: Result<Admins, Unseen>,
    pub apps: Result<Apps, Unseen>,
    /// Days until each host's certificate ends, for hosts that stand and answer.
    pub certificates: Vec<(&'static str, i64)>,
    /// The way from the master host to the source; `None` if there is no host that could try it.
    pub way: Option<Way>,
}

/// A certificate that ends within this many days is a warning; `up` renews twice as early.
const ENDING_DAYS: i64 = 30;

/// Why something could not be seen, and what to try.
#[derive(Clone, Debug)]
pub struct Unseen {
    pub why: String,
    pub remedy: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    Ok,
    Warning,
    Blocker,
}

/// One thing that was looked at, and what it means for the move.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub severity: Severity,
    /// A stable word for scripts.
    pub id: &'static str,
    pub found: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

impl Finding {
    fn ok(id: &'static str, found: impl Into<String>) -> Self {
        Finding {
            severity: Severity::Ok,
            id,
            found: found.into(),
            remedy: None,
        }
    }

    pub fn warning(id: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Finding {
            remedy: Some(remedy.into()),
            ..Finding::alarm(id, found)
        }
    }

    /// Returns a warning for which no remedy is known here.
    pub fn alarm(id: &'static str, found: impl Into<String>) -> Self {
        Finding {
            severity: Severity::Warning,
            ..Finding::ok(id, found)
        }
    }

    fn blocker(id: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Finding {
            severity: Severity::Blocker,
            ..Finding::warning(id, found, remedy)
        }
    }

    fn unseen(id: &'static str, unseen: &Unseen) -> Self {
        Finding::blocker(id, unseen.why.clone(), unseen.remedy.clone())
    }

    pub fn line(&self) -> String {
        match &self.remedy {
            Some(remedy) => format!("{}: {remedy}", self.found),
            None => self.found.clone(),
        }
    }
}

/// Judges everything that was seen. The order is the order of the move.
pub fn judge(facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    findings.extend(private::judge(facts));
    match &facts.source {
        Err(unseen) => findings.push(Finding::unseen("source", unseen)),
        Ok(source) => {
            source::judge(source, facts, &mut findings);
            findings.extend(left_out::judge(source));
            findings.extend(match source.follower {
                Follower::Copy => copied::judge(source, facts.network),
                Follower::Replication => replication::judge(source),
            });
            findings.extend(connections::judge(source));
            findings.extend(reach::of_ipv6(source));
            fence::judge(source, &mut findings);
            commands::judge(source, &mut findings);
            findings.extend(commands::login(source, facts.rehearsed));
        }
    }
    findings.push(match &facts.instance_memory {
        Ok(memory) => Finding::ok(
            "instance-type",
            format!(
                "{} has {}; Redis may use {}",
                facts.instance_type,
                size::bytes(*memory),
                size::bytes(facts.maxmemory)
            ),
        ),
        Err(unseen) => Finding::unseen("instance-type", unseen),
    });
    findings.push(match &facts.image_id {
        Ok(id) => Finding::ok("image", format!("{} is {id}", facts.image)),
        Err(unseen) => Finding::unseen("image", unseen),
    });
    findings.extend(judge_certificates(&facts.certificates));
    findings.extend(facts.way.as_ref().and_then(way::judge));
    findings.extend(reach::judge(&facts.admins, &facts.apps));
    findings.extend(reach::of_the_source(facts));
    app::judge(facts, &mut findings);
    findings
}

/// `up` renews certificates long before their end, so one near its end means that no `up` ran.
fn judge_certificates(certificates: &[(&'static str, i64)]) -> Option<Finding> {
    let (host, days) = certificates.iter().min_by_key(|(_, days)| *days)?;
    Some(if *days < ENDING_DAYS {
        Finding::warning(
            "certificates",
            format!("the certificate of the {host} ends in {days} days; clients refuse it then"),
            "run `infra up`: it renews certificates without a restart",
        )
    } else {
        Finding::ok("certificates", format!("the hosts' certificates have {days} days left"))
    })
}
