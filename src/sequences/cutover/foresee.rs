//! Foresees the platform's refusals before the fence: builds the change of vars as it will be sent,
//! and compares it with what attachments own and what the key may do.

use super::app::newest_release;
use super::history::AppSwitch;
use super::pair::Pair;
use super::record::Record;
use super::state::Cutover;
use crate::decide::app_vars::{AppVars, owned_beside, places_beside};
use crate::decide::vars::{Naming, Place};
use crate::effects::platform::{KnownApp, Platform};
use crate::model::error::{Error, Result};
use crate::model::phase::{Command, FenceKind};

/// The vars that do not move.
#[derive(Clone, Copy, Default)]
pub struct Staying<'a> {
    /// Vars by name, in every app.
    pub vars: &'a [String],
    /// Apps whose attachments stay, except the one that owns the app's own var.
    pub apps: &'a [String],
}

/// Returns how the vars of all apps name the source.
pub fn naming(apps: &[KnownApp], config_var: &str, source: &Place, staying: Staying<'_>) -> Naming {
    let mut naming = Naming {
        others: Vec::new(),
        stay: staying.vars.to_vec(),
    };
    for app in apps {
        let (name, vars, attachments) = (app.platform.app_name(), &app.vars, &app.attachments);
        naming.others.extend(places_beside(vars, attachments, name, source));
        if staying.apps.iter().any(|staying| staying == name) {
            naming.stay.extend(owned_beside(vars, attachments, name, config_var));
        }
    }
    naming.others.sort();
    naming.others.dedup();
    naming
}

impl<R: Record, P: Pair> Cutover<R, P> {
    pub(super) fn app_vars<'a>(&'a self, places: &'a [Place], app: &'a KnownApp) -> AppVars<'a> {
        let name = app.platform.app_name();
        let naming = &self.setup.naming;
        naming.of_app(places, name, &self.setup.config_var, &app.vars, &app.attachments)
    }

    /// Fails if the platform would refuse a change of vars. Before the fence an error is cheap.
    pub(super) async fn foresee_refusals(&self) -> Result<()> {
        if self.command == Command::Back {
            return Ok(());
        }
        for app in &self.setup.apps {
            // A change that was sent already is decided by its release.
            if self.history.switch.is_none() {
                self.foresee_refusals_of(app).await?;
            }
            app.refusal_foreseen().await?;
        }
        Ok(())
    }

    async fn foresee_refusals_of(&self, app: &Platform) -> Result<()> {
        if self.command == Command::Promote && self.seen.fence == FenceKind::Pause {
            // Only the detachment is checked, since the attachments are left to `switch-app`.
            let (known, places) = (app.known().await?, self.setup.source_places());
            return self.app_vars(&places, &known).detachment().map(|_| ());
        }
        self.app_switch(app).await.map(|_| ())
    }

    /// Returns the one change of an app's vars, for the journal: names only.
    pub(super) async fn app_switch(&self, app: &Platform) -> Result<AppSwitch> {
        let setup = &self.setup;
        let (known, name) = (app.known().await?, app.app_name());
        if let Some(authority) = &setup.authority
            && known
                .vars
                .get(&authority.var)?
                .is_some_and(|there| there.expose().trim() != authority.pem.trim())
        {
            return Err(Error::failed(format!(
                "set {} of app {name}: the app uses that var for something else",
                authority.var
            ))
            .hint("name another in `app.ca_config_var` of infra.yml"));
        }
        let ca_var = setup
            .authority
            .as_ref()
            .map(|authority| authority.var.clone())
            .unwrap_or_default();
        let further: Vec<&str> = Some(ca_var.as_str())
            .filter(|var| !var.is_empty())
            .into_iter()
            .collect();
        let places = setup.source_places();
        let change = self.app_vars(&places, &known).change(&further)?;
        let mut crashed = app.crashed().await?;
        // A detachment has restarted them, and they need a moment to crash again.
        crashed.extend(self.crashed.get(name).into_iter().flatten().cloned());
        Ok(AppSwitch {
            moved: change.moved,
            ca_var,
            keep_in: change.keep_in,
            release_before: newest_release(app).await?,
            crashed,
        })
    }
}
