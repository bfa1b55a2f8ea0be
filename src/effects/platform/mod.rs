//! Where the app runs: its config vars, processes and releases, read and changed step by step.
//!
//! [`Platform`] is the Heroku API or the user's own commands. Values that may be URLs are
//! [`crate::model::secret::Secret`]s. After a lost answer a change is looked for before it is
//! repeated: platforms know no idempotency keys, and every change restarts the app.
//!
//! Deliberately not here: what to change and when (see `cutover`), removing an add-on, and rolling
//! back to a release, which would roll back code too.

pub mod command;
pub mod heroku;

pub use command::Hook;
pub use heroku::{Attachment, ConfigVars, Crashed, Dyno, Formation, Heroku, Release, ReleaseStatus};

use crate::model::error::Result;
use crate::model::secret::Secret;
use crate::ui::Step;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

/// One app, with access to the platform that runs it.
#[derive(Clone)]
pub enum Platform {
    Heroku(Heroku),
    Command(Hook),
}

/// An app with its vars and attachments, which a command reads once and hands on.
pub struct KnownApp {
    pub platform: Platform,
    pub vars: ConfigVars,
    pub attachments: Vec<Attachment>,
}

/// Where connections of an app's processes come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Egress {
    /// From any address.
    Anywhere,
    /// Only from the addresses of this Private Space.
    Space { name: String, addresses: Vec<Ipv4Addr> },
}

/// Holds how an app ran before it was stopped.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
pub struct Standing {
    pub formation: Formation,
    pub maintenance: bool,
    #[serde(default, skip_serializing_if = "Crashed::is_empty")]
    pub crashed: Crashed,
}

/// Says which process types were not waited for; empty if there are none.
pub fn not_waited_for(crashed: &Crashed) -> String {
    if crashed.is_empty() {
        return String::new();
    }
    let kinds: Vec<&str> = crashed.iter().map(String::as_str).collect();
    format!("; not waited for, since it had crashed before: {}", kinds.join(", "))
}

impl Platform {
    pub fn app_name(&self) -> &str {
        match self {
            Platform::Heroku(heroku) => heroku.app_name(),
            Platform::Command(hook) => hook.app_name(),
        }
    }

    /// Returns `None` if the app runs on another platform.
    pub fn heroku(&self) -> Option<&Heroku> {
        match self {
            Platform::Heroku(heroku) => Some(heroku),
            Platform::Command(_) => None,
        }
    }

    pub async fn config_vars(&self) -> Result<ConfigVars> {
        match self {
            Platform::Heroku(heroku) => heroku.config_vars().await,
            Platform::Command(hook) => hook.config_vars().await,
        }
    }

    /// Sets vars, or removes those with `None`, in one change. Returns the newest release before
    /// it; `None` if all vars are as wanted already.
    pub async fn set_config_vars(&self, wanted: &BTreeMap<String, Option<Secret>>) -> Result<Option<u64>> {
        match self {
            Platform::Heroku(heroku) => heroku.set_config_vars(wanted).await,
            Platform::Command(hook) => hook.set_config_vars(wanted).await,
        }
    }

    /// Returns an error if the platform would refuse a change of vars. Changes nothing.
    pub async fn refusal_foreseen(&self) -> Result<()> {
        match self {
            Platform::Heroku(heroku) => heroku.refusal_foreseen().await,
            Platform::Command(_) => Ok(()),
        }
    }

    pub async fn attachments(&self) -> Result<Vec<Attachment>> {
        match self {
            Platform::Heroku(heroku) => heroku.attachments().await,
            Platform::Command(_) => Ok(Vec::new()),
        }
    }

    /// Reads vars and attachments.
    pub async fn known(&self) -> Result<KnownApp> {
        let (vars, attachments) = tokio::try_join!(self.config_vars(), self.attachments())?;
        Ok(KnownApp {
            platform: self.clone(),
            vars,
            attachments,
        })
    }

    /// Returns the AWS region of the app, if the platform reports it.
    pub async fn aws_region(&self) -> Result<Option<String>> {
        match self {
            Platform::Heroku(heroku) => heroku.aws_region().await.map(Some),
            Platform::Command(_) => Ok(None),
        }
    }

    /// Returns where connections of the app come from: anywhere, if the platform has only commands.
    pub async fn egress(&self) -> Result<Egress> {
        match self {
            Platform::Heroku(heroku) => heroku.egress().await,
            Platform::Command(_) => Ok(Egress::Anywhere),
        }
    }

    pub async fn maintenance(&self) -> Result<bool> {
        match self {
            Platform::Heroku(heroku) => Ok(heroku.app().await?.maintenance),
            Platform::Command(_) => Ok(false),
        }
    }

    pub async fn set_maintenance(&self, on: bool) -> Result<()> {
        match self {
            Platform::Heroku(heroku) => heroku.set_maintenance(on).await,
            Platform::Command(_) => Ok(()),
        }
    }

    /// Returns true if old processes outlive a change unseen.
    pub async fn preboot(&self) -> Result<bool> {
        match self {
            Platform::Heroku(heroku) => heroku.preboot().await,
            Platform::Command(_) => Ok(false),
        }
    }

    pub async fn set_preboot(&self, on: bool) -> Result<()> {
        match self {
            Platform::Heroku(heroku) => heroku.set_preboot(on).await,
            Platform::Command(_) => Ok(()),
        }
    }

    pub async fn newest_release(&self) -> Result<Option<Release>> {
        match self {
            Platform::Heroku(heroku) => heroku.newest_release().await,
            Platform::Command(_) => Ok(None),
        }
    }

    /// Waits until the newest release after number `after` has ended, in success or failure.
    pub async fn terminal_release(&self, after: u64, deadline: Duration, step: &Step) -> Result<Release> {
        match self {
            Platform::Heroku(heroku) => heroku.terminal_release(after, deadline, step).await,
            Platform::Command(_) => Ok(Release {
                version: after,
                status: ReleaseStatus::Succeeded,
                description: String::new(),
            }),
        }
    }

    /// Returns the process types of which every process has crashed.
    pub async fn crashed(&self) -> Result<Crashed> {
        match self {
            Platform::Heroku(heroku) => heroku.crashed().await,
            Platform::Command(_) => Ok(Crashed::new()),
        }
    }

    /// Waits until all wanted processes run this release or a later one, and no older one is shown.
    /// One-off processes keep their vars: see the source's list of clients for those.
    pub async fn await_processes(
        &self,
        release: u64,
        crashed: &Crashed,
        deadline: Duration,
        step: &Step,
    ) -> Result<()> {
        match self {
            Platform::Heroku(heroku) => heroku.await_processes(release, crashed, deadline, step).await,
            Platform::Command(hook) => hook.await_processes(deadline, step).await,
        }
    }

    /// Returns how the app runs, for [`Platform::start`]. An error if nothing can stop it.
    pub async fn standing(&self) -> Result<Standing> {
        match self {
            Platform::Heroku(heroku) => {
                let (app, formation, crashed) = tokio::try_join!(heroku.app(), heroku.formation(), heroku.crashed())?;
                Ok(Standing {
                    formation,
                    maintenance: app.maintenance,
                    crashed,
                })
            }
            Platform::Command(hook) => hook.may_stop().map(|()| Standing::default()),
        }
    }

    /// Stops every process that the platform keeps running. May be repeated.
    pub async fn stop(&self) -> Result<()> {
        match self {
            Platform::Heroku(heroku) => {
                let (app, formation) = tokio::try_join!(heroku.app(), heroku.formation())?;
                if !app.maintenance {
                    heroku.set_maintenance(true).await?;
                }
                let running: Formation = formation
                    .into_iter()
                    .filter(|(_, quantity)| *quantity > 0)
                    .map(|(kind, _)| (kind, 0))
                    .collect();
                if running.is_empty() {
                    return Ok(());
                }
                heroku.scale(&running).await
            }
            Platform::Command(hook) => hook.stop().await,
        }
    }

    /// Starts the app as it ran before. May be repeated.
    pub async fn start(&self, standing: &Standing) -> Result<()> {
        match self {
            Platform::Heroku(heroku) => {
                if heroku.formation().await? != standing.formation && !standing.formation.is_empty() {
                    heroku.scale(&standing.formation).await?;
                }
                if standing.maintenance {
                    return Ok(());
                }
                heroku.set_maintenance(false).await
            }
            Platform::Command(hook) => hook.start().await,
        }
    }
}
