//! The input of a cutover: both sides, the app's platform, the record of entries, and the limits.

use super::pair::Pair;
use super::record::Record;
use crate::decide::follow::LONG;
use crate::decide::vars::{Naming, Place};
use crate::effects::interrupt::Interrupt;
use crate::effects::platform::Platform;
use crate::effects::redis::Server;
use crate::model::phase::FenceKind;
use crate::ui::Ui;
use std::path::PathBuf;
use std::time::Duration;

pub struct Setup<R: Record, P: Pair> {
    /// The source, with credentials for PSYNC and CLIENT PAUSE.
    pub source: Server,
    /// Our master and replica at the addresses that the operator reaches, as administrator.
    pub master: Server,
    pub replica: Server,
    /// Our master as the app will see it: the endpoint's address, the user `app` and its password.
    pub endpoint: Server,
    /// The operator's own domain for the endpoint. An app that names it is on the endpoint.
    pub domain: Option<String>,
    /// The endpoint's certificate authority and the var for it; `None` if the endpoint has no TLS.
    pub authority: Option<Authority>,
    pub pair: P,
    pub record: R,
    /// The app, and those that are switched with it.
    pub apps: Vec<Platform>,
    /// The apps' var that names their Redis, such as `REDIS_URL`.
    pub config_var: String,
    pub naming: Naming,
    /// The kind of fence; `None` means a pause if the source allows one.
    pub fence: Option<FenceKind>,
    /// `--accept-loss`: a source that lost a good part of its keys is followed all the same.
    pub accept_loss: bool,
    /// `--without-watch`: the app may wait for longer than a minute while everything is compared.
    pub without_watch: bool,
    /// Beginnings of names of keys that a copy leaves behind.
    pub leave_out: Vec<String>,
    /// A folder on this computer, for lists that are too long to be shown.
    pub folder: PathBuf,
    pub limits: Limits,
    pub ui: Ui,
    pub interrupt: Interrupt,
}

impl<R: Record, P: Pair> Setup<R, P> {
    /// Returns every address of the source, its own first.
    pub fn source_places(&self) -> Vec<Place> {
        self.naming.places(&self.source)
    }

    /// Returns the apps' names, for people.
    pub fn app_names(&self) -> String {
        self.apps.iter().map(Platform::app_name).collect::<Vec<_>>().join(", ")
    }
}

#[derive(Clone, Debug)]
pub struct Authority {
    pub var: String,
    pub pem: String,
}

#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How long `promote` lets the pause run for `switch-app`.
    pub hold: Duration,
    /// How long the pause lasts if we die after the change was sent; outlasts a release phase.
    pub long_pause: Duration,
    /// How long a release may take to end, and after it the processes to run it.
    pub release: Duration,
    /// How long a process that was asked to stop may live on: Heroku kills it after 30 s.
    pub grace: Duration,
    /// How long nobody may be seen on the source before it counts as left by everybody.
    pub away: Duration,
    /// How long a client that only looked so far is watched before the fence.
    pub onlookers: Duration,
    /// How long late writes are watched for after the pause.
    pub settle: Duration,
    /// How long a full copy may take when the master follows again.
    pub sync: Duration,
    /// Rounds in which the full comparison may converge.
    pub rounds: u32,
    /// How long the app may wait without `--without-watch` while everything is compared.
    pub unwatched: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            hold: Duration::from_secs(120),
            long_pause: Duration::from_secs(65 * 60),
            release: Duration::from_secs(30 * 60),
            grace: Duration::from_secs(31),
            away: Duration::from_secs(2),
            onlookers: Duration::from_secs(15),
            settle: Duration::from_secs(5),
            sync: Duration::from_secs(60 * 60),
            rounds: 30,
            unwatched: LONG,
        }
    }
}
