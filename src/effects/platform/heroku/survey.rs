//! Facts of an app beside its vars: where it runs, what a change starts, who keeps an old URL.

use super::http::Refusal;
use super::{ConfigVars, Heroku};
use crate::model::error::Result;
use serde::Deserialize;
use std::collections::BTreeMap;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AppSurvey {
    /// AWS's name of the region.
    pub region: String,
    /// The Private Space of the app, if it runs in one.
    pub space: Option<String>,
    pub maintenance: bool,
    pub preboot: bool,
    /// True if a command runs before each release takes effect. It may fail.
    pub release_phase: bool,
    /// Names of running one-off processes, such as `run.4711`.
    pub one_offs: Vec<String>,
    /// Add-ons that start processes by themselves.
    pub schedulers: Vec<String>,
    /// The plans of the app's add-ons, such as `heroku-redis:premium-0`, by the add-on's name.
    pub plans: BTreeMap<String, String>,
    /// Vars whose values the platform does not show.
    pub masked: Vec<String>,
    pub change: ChangeProbe,
}

/// Says if the key may change the app's config.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ChangeProbe {
    Denied(String),
    /// No reason for a refusal was found.
    #[default]
    Open,
}

/// Parts of the names of services that start processes at set times.
const SCHEDULERS: [&str; 3] = ["scheduler", "cron", "temporize"];

#[derive(Deserialize)]
struct Addon {
    name: String,
    addon_service: super::Named,
    #[serde(default)]
    plan: Option<super::Named>,
}

fn schedulers(addons: &[Addon]) -> Vec<String> {
    addons
        .iter()
        .filter(|addon| SCHEDULERS.iter().any(|word| addon.addon_service.name.contains(word)))
        .map(|addon| format!("{} ({})", addon.addon_service.name, addon.name))
        .collect()
}

impl Heroku {
    pub async fn survey(&self, vars: &ConfigVars) -> Result<AppSurvey> {
        let (app, region, formation, preboot, dynos, addons) = tokio::try_join!(
            self.app(),
            self.aws_region(),
            self.formation(),
            self.preboot(),
            self.dynos(),
            self.addons(),
        )?;
        let one_offs = dynos.into_iter().filter(super::Dyno::is_one_off);
        Ok(AppSurvey {
            region,
            space: app.space,
            maintenance: app.maintenance,
            preboot,
            release_phase: formation.contains_key("release"),
            one_offs: one_offs.map(|dyno| dyno.name).collect(),
            schedulers: schedulers(&addons),
            plans: addons
                .into_iter()
                .filter_map(|addon| Some((addon.name, addon.plan?.name)))
                .collect(),
            masked: vars.masked().map(str::to_string).collect(),
            change: self.probe_change().await,
        })
    }

    async fn addons(&self) -> Result<Vec<Addon>> {
        let doing = format!("list the add-ons of app {}", self.app);
        self.http.list(&self.path("/addons"), &doing).await
    }

    /// Sends a change that cannot be parsed, so nothing changes. Only a refusal proves anything.
    async fn probe_change(&self) -> ChangeProbe {
        match self.denial().await {
            Some(refusal) if refusal.message.is_empty() => ChangeProbe::Denied(refusal.status.to_string()),
            Some(refusal) => ChangeProbe::Denied(refusal.message),
            None => ChangeProbe::Open,
        }
    }

    /// Returns an error if a change of the config vars would be refused.
    pub(in crate::effects::platform) async fn refusal_foreseen(&self) -> Result<()> {
        let doing = format!("change the config vars of app {}", self.app_name());
        match self.denial().await {
            Some(refusal) => Err(refusal.error(&doing)),
            None => Ok(()),
        }
    }

    async fn denial(&self) -> Option<Refusal> {
        let refusal = self.http.refusal_of_nothing(&self.path("/config-vars")).await;
        refusal.filter(Refusal::is_about_the_account)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::Stand;
    use super::*;
    use serde_json::json;

    #[tokio::test]
    async fn a_refusal_of_changes_is_found_beforehand_and_nothing_is_changed() {
        let stand = Stand::new().await;
        let release = stand.heroku.newest_release().await.unwrap();
        for (status, id, denied) in [
            (401, "unauthorized", true),
            (402, "delinquent", true),
            (403, "forbidden", true),
            (403, "suspended", true),
            (404, "not_found", true),
            (422, "verification_needed", true),
            (423, "locked", true),
            // The platform may answer so to an unreadable body.
            (400, "bad_request", false),
            (422, "invalid_params", false),
            (429, "rate_limit", false),
            (503, "service_unavailable", false),
        ] {
            let failures = json!({"status": status, "id": id, "count": 1, "method": "PATCH"});
            stand
                .admin("apps/demo/behaviour", json!({"api_failures": failures}))
                .await;
            let foreseen = stand.heroku.refusal_foreseen().await;
            assert_eq!(foreseen.is_err(), denied, "{status} {id}: {foreseen:?}");
            if let Err(error) = foreseen {
                assert!(
                    error.to_string().contains(&status.to_string()) && error.next_step().is_some(),
                    "{error:?}"
                );
            }
        }
        assert_eq!(stand.heroku.newest_release().await.unwrap(), release);
    }

    #[tokio::test]
    async fn an_app_is_seen_as_it_is_and_looking_changes_nothing() {
        let stand = Stand::new().await;
        let quiet = stand
            .heroku
            .survey(&stand.heroku.config_vars().await.unwrap())
            .await
            .unwrap();
        assert_eq!(
            quiet,
            AppSurvey {
                region: "us-east-1".into(),
                plans: quiet.plans.clone(),
                ..AppSurvey::default()
            }
        );
        let formation = json!({"web": {"command": ["sleep", "600"]}, "release": {"command": ["true"]}});
        stand
            .admin(
                "apps",
                json!({"name": "busy", "region": "eu", "formation": formation, "config": {"SECRET_URL": "****"}}),
            )
            .await;
        stand
            .admin(
                "apps/busy/addons",
                json!({"name": "clock-1", "plan": "scheduler:standard", "url": "https://clock.test", "attachment": "SCHEDULER"}),
            )
            .await;
        let busy = stand.heroku.of("busy");
        busy.set_preboot(true).await.unwrap();
        busy.set_maintenance(true).await.unwrap();
        // The release phase still runs, and only an ended release has stable facts.
        let step = crate::ui::Ui::silent().step("");
        let before = busy
            .terminal_release(1, std::time::Duration::from_secs(30), &step)
            .await
            .unwrap();
        let survey = busy.survey(&busy.config_vars().await.unwrap()).await.unwrap();
        assert!(
            survey.preboot && survey.maintenance && survey.release_phase,
            "{survey:?}"
        );
        assert_eq!(survey.region, "eu-west-1");
        assert_eq!(survey.schedulers, ["scheduler (clock-1)"]);
        assert_eq!(survey.plans["clock-1"], "scheduler:standard");
        assert_eq!(survey.masked, ["SECRET_URL"]);
        assert_eq!(survey.change, ChangeProbe::Open);
        assert_eq!(busy.newest_release().await.unwrap(), Some(before));
    }
}
