//! Judges the platform: who owns the app's var, what its change sets off, what keeps the old URL.

use super::{Facts, Finding};
use crate::effects::platform::heroku::{AppSurvey, ChangeProbe};
use serde::Serialize;

/// The owner of the app's config var.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Owner {
    /// An attachment must be detached before the var can be set, and takes its other vars with it.
    Attachment {
        attachment: String,
        addon: String,
        vars: Vec<String>,
    },
    /// A plain config var.
    Plain,
    /// The app has no such var.
    Absent,
}

/// A plain var that was copied from the add-on's var, compared with the add-on's value now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Copy {
    /// There is no copy, or both have the same value.
    Fresh,
    /// Both name one server, with different passwords or users.
    Rotated { var: String, hosted: String },
    /// Both name different servers, and neither is ours.
    Moved { var: String, hosted: String },
}

pub(super) fn judge(facts: &Facts, findings: &mut Vec<Finding>) {
    findings.push(judge_owner(facts));
    match &facts.copy {
        Copy::Fresh => {}
        Copy::Rotated { var, hosted } => findings.push(Finding::blocker(
            "stale-copy",
            format!("{var} and {hosted} name the same server with different credentials: the add-on's were changed since {var} was set"),
            format!("set {var} to what {hosted} says (`heroku config:get {hosted}`), and see that the app works"),
        )),
        Copy::Moved { var, hosted } => findings.push(Finding::blocker(
            "stale-copy",
            format!("{var} and {hosted} name different servers, and neither is the endpoint"),
            format!("find out which one the app's data is on; name it in `source`, and set {var} to it"),
        )),
    }
    match &facts.app {
        Err(unseen) => findings.push(Finding::unseen("app", unseen)),
        Ok(Some(app)) => judge_app(app, facts, findings),
        Ok(None) => {}
    }
}

fn judge_owner(facts: &Facts) -> Finding {
    let var = &facts.config_var;
    match &facts.owner {
        Err(unseen) => Finding::unseen("owner", unseen),
        Ok(Owner::Plain) => Finding::ok(
            "owner",
            format!("{var} is a plain config var: one change moves the app"),
        ),
        Ok(Owner::Attachment {
            attachment,
            addon,
            vars,
        }) => Finding::ok(
            "owner",
            format!(
                "{var} belongs to the attachment {attachment} of {addon}: `switch-app` attaches it as HOSTED_{attachment} and sets {} as plain vars first",
                vars.join(", ")
            ),
        ),
        Ok(Owner::Absent) => Finding::blocker(
            "owner",
            format!("the app has no config var {var}"),
            "correct app.config_var in infra.yml",
        ),
    }
}

fn judge_app(app: &AppSurvey, facts: &Facts, findings: &mut Vec<Finding>) {
    findings.push(if app.region == facts.region {
        Finding::ok("region", format!("app and pair are both in {}", app.region))
    } else {
        Finding::warning(
            "region",
            format!(
                "the app runs in {}, the pair in {}: every command pays for the way",
                app.region, facts.region
            ),
            format!("set region to {} in infra.yml, before the first `infra up`", app.region),
        )
    });
    if let ChangeProbe::Denied(reason) = &app.change {
        findings.push(Finding::blocker(
            "app-config",
            format!("the platform would refuse a change of the app's config: {reason}"),
            "settle what it says of the app or the account, or use the key of an account that may deploy and configure the app",
        ));
    }
    if !app.masked.is_empty() {
        let ours = app.masked.contains(&facts.config_var);
        let found = format!("the platform does not show the value of {}", app.masked.join(", "));
        let remedy = "use the key of an account that may see config vars (`heroku access`), or an authorization that is not read-only";
        findings.push(if ours {
            Finding::blocker("masked", found, remedy)
        } else {
            Finding::warning(
                "masked",
                format!("{found}: it is not known whether they name the source too"),
                remedy,
            )
        });
    }
    if app.preboot {
        findings.push(Finding::warning(
            "preboot",
            "preboot is on: old web processes would serve for minutes beside the new ones",
            "nothing to do: `switch-app` turns it off for the switch and on again after it, so this one deploy is without it",
        ));
    }
    if app.release_phase {
        findings.push(Finding::warning(
            "release-phase",
            "the app has a release phase: a config change takes effect only when its command has succeeded, and the source's writes wait as long",
            "see that it is quick and does not need to write to Redis; if it fails, the app stays on the source",
        ));
    }
    if let Some(space) = &app.space {
        findings.push(Finding::warning(
            "space",
            format!("the app runs in the Private Space {space}: its processes restart a quarter at a time"),
            "the writes of those not restarted yet wait that much longer; with many processes raise --longest-pause",
        ));
    }
    if !app.one_offs.is_empty() {
        findings.push(Finding::warning(
            "one-offs",
            format!("one-off processes are running: {}", app.one_offs.join(", ")),
            "a config change does not restart them and they keep the old URL: let them end, or stop them, before the switch",
        ));
    }
    if !app.schedulers.is_empty() {
        findings.push(Finding::warning(
            "scheduler",
            format!(
                "{} starts one-off processes by itself, also under maintenance",
                app.schedulers.join(", ")
            ),
            "see that no job runs during the switch: one that began before it keeps the old URL",
        ));
    }
    if app.maintenance {
        findings.push(Finding::warning(
            "maintenance",
            "the app is under maintenance",
            "it stays so: whoever turned it on turns it off",
        ));
    }
}
