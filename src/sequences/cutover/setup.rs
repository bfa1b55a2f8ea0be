//! What a cutover is given: both sides, the app's platform, where to keep entries, and how long things may take.

use super::pair::Pair;
use super::record::Record;
use crate::decide::vars::{Naming, Place};
use crate::effects::interrupt::Interrupt;
use crate::effects::platform::Platform;
use crate::effects::redis::Server;
use crate::model::phase::FenceKind;
use crate::ui::Ui;
use std::path::PathBuf;
use std::time::Duration;

pub struct Setup<R: Record, P: Pair> {
    /// The hosted Redis, as whoever may replicate from it and pause it.
    pub source: Server,
    /// Our master at the address that the operator reaches, as its administrator; so the replica.
    pub master: Server,
    pub replica: Server,
    /// Our master as the app will see it: the stable address, and the `app` user with its password.
    pub endpoint: Server,
    /// A domain of the user's own that stands for the endpoint: an app that names it is there too.
    pub domain: Option<String>,
    /// The authority of the endpoint's certificate (PEM) and the var that receives it; nothing where the endpoint speaks plain TCP.
    pub authority: Option<Authority>,
    pub pair: P,
    pub record: R,
    /// The app, and whichever others move with it.
    pub apps: Vec<Platform>,
    /// The apps' var that names their Redis, such as `REDIS_URL`.
    pub config_var: String,
    /// How their vars name the source.
    pub naming: Naming,
    /// How the source is fenced; where nothing is named, by its pause if it allows one.
    pub fence: Option<FenceKind>,
    /// Somebody said that a source which lost a good part of its keys is to be followed all the same.
    pub accept_loss: bool,
    /// On this computer, for lists that are too long to be shown.
    pub folder: PathBuf,
    pub limits: Limits,
    pub ui: Ui,
    pub interrupt: Interrupt,
}

impl<R: Record, P: Pair> Setup<R, P> {
    /// Every place that the source answers at, its own first.
    pub fn source_places(&self) -> Vec<Place> {
        self.naming.places(&self.source)
    }

    /// Their names, for people.
    pub fn app_names(&self) -> String {
        self.apps.iter().map(Platform::app_name).collect::<Vec<_>>().join(", ")
    }
}

#[derive(Clone, Debug)]
pub struct Authority {
    pub var: String,
    pub pem: String,
}

/// How long things last and may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How long `promote` lets the pause run for `switch-app`.
    pub hold: Duration,
    /// How long the source stays paused once the change is about to be sent, should we die. It must outlast a release phase, and the processes that the release replaces.
    pub long_pause: Duration,
    /// How long a release may take to end, and after it the processes to run it.
    pub release: Duration,
    /// How long a process that was asked to stop may live on, unseen by its platform: Heroku kills it after 30 s. The source stays shut for so long.
    pub grace: Duration,
    /// How long nobody may be seen on the source, and nothing be written there, before it counts as left by everybody.
    pub away: Duration,
    /// How long a client that has only looked so far is watched before the fence, to see whether it does anything else.
    pub onlookers: Duration,
    /// How long late writes are watched for after the pause.
    pub settle: Duration,
    /// How long a full copy may take when the master follows again.
    pub sync: Duration,
    /// In how many rounds the full comparison may converge.
    pub rounds: u32,
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
        }
    }
}
