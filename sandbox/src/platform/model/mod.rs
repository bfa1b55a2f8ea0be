//! The platform's knowledge and the meaning of its operations. Pure: time comes in as a value, ids come
//! from a seed, and what is to be done about processes goes out as [`Action`]s.

mod behaviour;
mod changes;
mod dynos;
mod identifiers;
mod one_offs;
mod pipelines;
mod refusal;
mod removal;
mod rolling;
mod rotation;

use std::collections::{BTreeMap, VecDeque};

use jiff::Timestamp;
use serde::Serialize;
use uuid::Uuid;

pub use behaviour::{Behaviour, Failures, Logs, Mask, MaskedVars, ReleasePhase, Scheduler};
pub use changes::{AttachRequest, Change};
pub use dynos::{Action, AfterExit, Dyno, DynoState, Timing};
use identifiers::Identifiers;
pub use one_offs::OneOffRequest;
pub use pipelines::{Coupling, Stage};
pub use refusal::Refusal;
pub use rolling::Turn;

/// Everything that the platform knows.
#[derive(Clone)]
pub struct Platform {
    pub apps: Vec<App>,
    pub addons: Vec<Addon>,
    pub attachments: Vec<Attachment>,
    pub dynos: Vec<Dyno>,
    pub couplings: Vec<Coupling>,
    /// Private Spaces by name, with the addresses that their dynos come from.
    pub spaces: BTreeMap<String, Vec<String>>,
    identifiers: Identifiers,
}

#[derive(Clone, Debug)]
pub struct App {
    pub id: Uuid,
    pub name: String,
    pub region: String,
    /// The Private Space that it is in: there its dynos are restarted a few at a time.
    pub space: Option<String>,
    pub maintenance: bool,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    /// Only the plain ones: those of attachments are added when they are asked for.
    pub vars: BTreeMap<String, String>,
    pub formation: BTreeMap<String, ProcessType>,
    /// By version, from 1 on.
    pub releases: Vec<Release>,
    /// Changes whose release phase is not over, oldest first, by release version.
    pub pending: VecDeque<(u64, Change)>,
    pub behaviour: Behaviour,
}

/// A line of the app's formation.
#[derive(Clone, Debug)]
pub struct ProcessType {
    pub id: Uuid,
    pub command: Vec<String>,
    pub quantity: u32,
    pub size: String,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// A change of the app's code or configuration.
#[derive(Clone, Debug)]
pub struct Release {
    pub id: Uuid,
    pub version: u64,
    pub description: String,
    pub status: ReleaseStatus,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ReleaseStatus {
    Pending,
    Succeeded,
    Failed,
}

/// A rented service.
#[derive(Clone, Debug)]
pub struct Addon {
    pub id: Uuid,
    pub name: String,
    pub plan: String,
    /// The app that pays.
    pub owner: Uuid,
    /// Its values for an attachment, by the name after the attachment's: `URL`, `TLS_URL`.
    pub values: BTreeMap<String, String>,
    /// Its variables' names under the first attachment; they stay when that one goes.
    pub config_vars: Vec<String>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// An add-on under a name in an app.
#[derive(Clone, Debug)]
pub struct Attachment {
    pub id: Uuid,
    pub name: String,
    pub addon: Uuid,
    pub app: Uuid,
    pub state: AttachmentState,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// Where an attachment stands while the release that makes or ends it is pending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttachmentState {
    /// Listed; its variables are not there yet.
    Attaching,
    Attached,
    /// No longer listed; its variables still are.
    Detaching,
}

impl AttachmentState {
    pub fn is_listed(self) -> bool {
        self != Self::Detaching
    }

    fn has_variables(self) -> bool {
        self != Self::Attaching
    }
}

impl Platform {
    /// `seed` makes the ids.
    pub fn new(seed: &str) -> Self {
        let identifiers = Identifiers::new(seed);
        Self {
            apps: Vec::new(),
            addons: Vec::new(),
            attachments: Vec::new(),
            dynos: Vec::new(),
            couplings: Vec::new(),
            spaces: BTreeMap::new(),
            identifiers,
        }
    }

    pub fn app(&self, name: &str) -> Result<&App, Refusal> {
        let found = self.apps.iter().find(|app| app.is(name));
        found.ok_or_else(|| Refusal::not_found("app"))
    }

    pub(crate) fn app_mut(&mut self, name: &str) -> Result<&mut App, Refusal> {
        let found = self.apps.iter_mut().find(|app| app.is(name));
        found.ok_or_else(|| Refusal::not_found("app"))
    }

    fn app_of(&mut self, id: Uuid) -> Option<&mut App> {
        self.apps.iter_mut().find(|app| app.id == id)
    }

    /// Returns an add-on by name or id.
    pub fn addon(&self, name: &str) -> Result<&Addon, Refusal> {
        let found = self.addons.iter().find(|addon| addon.is(name));
        found.ok_or_else(|| Refusal::not_found("add-on"))
    }

    pub fn attachment(&self, id: &str) -> Result<&Attachment, Refusal> {
        let found = self
            .attachments
            .iter()
            .find(|item| item.state.is_listed() && item.id.to_string() == id);
        found.ok_or_else(|| Refusal::not_found("attachment"))
    }

    pub fn attachments_of_app(&self, app: Uuid) -> Vec<&Attachment> {
        self.attachments
            .iter()
            .filter(|item| item.state.is_listed() && item.app == app)
            .collect()
    }

    /// Returns the listed attachments of an add-on, in all apps.
    pub fn attachments_of_addon(&self, addon: Uuid) -> Vec<&Attachment> {
        self.attachments
            .iter()
            .filter(|item| item.state.is_listed() && item.addon == addon)
            .collect()
    }

    /// Returns the page size of a list over all apps: the smallest of any app.
    pub fn shortest_page(&self) -> usize {
        let sizes = self.apps.iter().map(|app| app.behaviour.page_size);
        sizes.min().unwrap_or(Behaviour::default().page_size)
    }

    /// Returns the variables in force as the API shows them, with some values masked.
    pub fn shown_vars(&self, app: &App) -> BTreeMap<String, Option<String>> {
        let masked = &app.behaviour.masked_vars;
        let show = |(name, value): (String, String)| {
            let shown = match masked.names.contains(&name).then_some(masked.shown_as) {
                None => Some(value),
                Some(Mask::Null) => None,
                Some(Mask::Stars) => Some("****".to_owned()),
            };
            (name, shown)
        };
        self.config_vars(app).into_iter().map(show).collect()
    }

    /// Returns all variables in force: plain ones and those of attachments.
    pub fn config_vars(&self, app: &App) -> BTreeMap<String, String> {
        let attached = self.attached_vars(app.id, AttachmentState::has_variables);
        app.vars.clone().into_iter().chain(attached).collect()
    }

    /// Returns the variables that attachments own, whether in force yet or not.
    fn owned_vars(&self, app: Uuid) -> Vec<String> {
        self.attached_vars(app, |_| true).map(|(name, _)| name).collect()
    }

    fn attached_vars(
        &self,
        app: Uuid,
        counts: impl Fn(AttachmentState) -> bool,
    ) -> impl Iterator<Item = (String, String)> {
        let attached = self
            .attachments
            .iter()
            .filter(move |item| item.app == app && counts(item.state));
        attached.flat_map(|item| {
            let addons = self.addons.iter().filter(|addon| addon.id == item.addon);
            let values = addons.flat_map(|addon| &addon.values);
            values.map(|(suffix, value)| (format!("{}_{suffix}", item.name), value.clone()))
        })
    }

    fn next_id(&mut self) -> Uuid {
        self.identifiers.next()
    }
}

/// Things that a request may name by their name or their id.
macro_rules! named_or_identified {
    ($($thing:ident),*) => {
        $(impl $thing {
            /// Returns whether this is its name or its id.
            pub fn is(&self, word: &str) -> bool {
                self.name == word || self.id.to_string() == word
            }
        })*
    };
}

named_or_identified!(Addon, App, Attachment, Dyno);

impl App {
    /// Returns the release that dynos run: the last one that succeeded.
    pub fn current_release(&self) -> Option<&Release> {
        self.releases
            .iter()
            .rev()
            .find(|release| release.status == ReleaseStatus::Succeeded)
    }
}
