//! Changes of configuration: who may change what, which releases follow, and when they take effect.

use std::collections::BTreeMap;

use jiff::Timestamp;
use uuid::Uuid;

use super::{
    Action, Addon, App, Attachment, AttachmentState, Behaviour, Platform, ProcessType, Refusal, Release, ReleaseStatus,
};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Plain variables are set, or removed where there is no value.
    Vars(BTreeMap<String, Option<String>>),
    /// An attachment's variables appear.
    Attach(Uuid),
    /// An attachment's variables go.
    Detach(Uuid),
    /// An add-on goes, with its attachments and their variables.
    Destroy(Uuid),
}

/// A client's request to attach an add-on.
#[derive(Clone, Debug, Default)]
pub struct AttachRequest {
    /// Name or id.
    pub addon: String,
    /// Name or id.
    pub app: String,
    /// `None` makes one up.
    pub name: Option<String>,
    /// The app's name, to replace what has the name already.
    pub confirm: Option<String>,
}

const COLOURS: [&str; 6] = ["AMBER", "BLUE", "CYAN", "GREEN", "OLIVE", "PURPLE"];

impl Platform {
    /// Makes an app with its first release; no process is started until it is scaled.
    pub fn create_app(
        &mut self,
        name: &str,
        region: &str,
        formation: BTreeMap<String, (Vec<String>, u32)>,
        vars: BTreeMap<String, String>,
        now: Timestamp,
    ) -> Result<(Uuid, Vec<Action>), Refusal> {
        if self.app(name).is_ok() {
            return Err(Refusal::invalid(format!("Name {name} is already taken")));
        }
        let id = self.next_id();
        let formation = formation
            .into_iter()
            .map(|(kind, (command, quantity))| {
                let size = "Basic".to_owned();
                let line = ProcessType {
                    id: self.next_id(),
                    command,
                    quantity,
                    size,
                    created_at: now,
                    updated_at: now,
                };
                (kind, line)
            })
            .collect();
        let (name, region) = (name.to_owned(), region.to_owned());
        self.apps.push(App {
            id,
            name,
            region,
            space: None,
            maintenance: false,
            created_at: now,
            updated_at: now,
            vars,
            formation,
            releases: Vec::new(),
            pending: std::collections::VecDeque::new(),
            behaviour: Behaviour::default(),
        });
        self.add_release(id, "Initial release".to_owned(), ReleaseStatus::Succeeded, now);
        Ok((id, self.reconcile(id, now)))
    }

    /// Rents an add-on to an app and attaches it. `values`: by the name after the attachment's.
    pub fn provide_addon(
        &mut self,
        app: &str,
        name: &str,
        plan: &str,
        values: BTreeMap<String, String>,
        attachment: &str,
        now: Timestamp,
    ) -> Result<Vec<Action>, Refusal> {
        let owner = self.app(app)?.id;
        if self.addon(name).is_ok() {
            return Err(Refusal::invalid(format!("Name {name} is already taken")));
        }
        let config_vars = values.keys().map(|suffix| format!("{attachment}_{suffix}")).collect();
        let id = self.next_id();
        let (name, plan) = (name.to_owned(), plan.to_owned());
        self.addons.push(Addon {
            id,
            name,
            plan,
            owner,
            values,
            config_vars,
            created_at: now,
            updated_at: now,
        });
        let request = AttachRequest {
            addon: id.to_string(),
            app: app.to_owned(),
            name: Some(attachment.to_owned()),
            confirm: None,
        };
        self.attach(request, now).map(|(_, actions)| actions)
    }

    /// Sets and removes plain variables. Changes nothing if one of them belongs to an attachment.
    pub fn patch_vars(
        &mut self,
        app: &str,
        changes: BTreeMap<String, Option<String>>,
        now: Timestamp,
    ) -> Result<Vec<Action>, Refusal> {
        let app = self.app(app)?;
        let id = app.id;
        let owned = self.owned_vars(id);
        let refused: Vec<&str> = changes
            .keys()
            .filter(|name| owned.contains(name))
            .map(String::as_str)
            .collect();
        if !refused.is_empty() {
            return Err(Refusal::invalid(format!(
                "Cannot overwrite attachment values {}.",
                refused.join(", ")
            )));
        }
        if app.pending.is_empty() && changes.iter().all(|(name, value)| app.vars.get(name) == value.as_ref()) {
            return Ok(Vec::new());
        }
        let names = |set: bool| {
            let of_kind = changes.iter().filter(|(_, value)| value.is_some() == set);
            of_kind.map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ")
        };
        let description = match (names(true), names(false)) {
            (set, removed) if removed.is_empty() => format!("Set {set} config vars"),
            (set, removed) if set.is_empty() => format!("Remove {removed} config vars"),
            (set, removed) => format!("Set {set} and remove {removed} config vars"),
        };
        Ok(self.begin(id, Change::Vars(changes), description, now))
    }

    /// Attaches an add-on. If the name is taken, this makes two releases, and each can fail.
    pub fn attach(&mut self, request: AttachRequest, now: Timestamp) -> Result<(Uuid, Vec<Action>), Refusal> {
        let app = self.app(&request.app)?;
        let (app_id, app_name) = (app.id, app.name.clone());
        let addon = self.addon(&request.addon)?;
        let (addon_id, addon_name) = (addon.id, addon.name.clone());
        let name = match request.name {
            Some(name) => name,
            None => self.unused_name(app_id, &addon_name)?,
        };
        let is_letter = |byte: u8| byte.is_ascii_uppercase() || byte == b'_';
        if !name.bytes().all(|byte| is_letter(byte) || byte.is_ascii_digit())
            || !name.bytes().next().is_some_and(is_letter)
        {
            return Err(Refusal::invalid(
                "Name must be of capital letters, digits and underscores",
            ));
        }
        let mut actions = Vec::new();
        let taken_by = self
            .attachments_of_app(app_id)
            .into_iter()
            .find(|item| item.name == name)
            .map(|item| item.id);
        let taken_vars: Vec<String> = self
            .app(&app_name)?
            .vars
            .keys()
            .filter(|var| self.would_own(addon_id, &name, var))
            .cloned()
            .collect();
        if taken_by.is_some() || !taken_vars.is_empty() {
            if request.confirm.as_deref() != Some(app_name.as_str()) {
                let message = format!("{name} is in use on {app_name}. Confirm with the app's name to replace it.");
                return Err(Refusal::new(423, "confirmation_required", message));
            }
            if let Some(old) = taken_by {
                actions.extend(self.detach(&old.to_string(), now)?);
            }
            if !taken_vars.is_empty() {
                let removal = taken_vars.into_iter().map(|var| (var, None)).collect();
                let description = format!("Remove {name} config vars");
                actions.extend(self.begin(app_id, Change::Vars(removal), description, now));
            }
        }
        let id = self.next_id();
        let description = format!("Attach {name} (@ref:{addon_name})");
        self.attachments.push(Attachment {
            id,
            name,
            addon: addon_id,
            app: app_id,
            state: AttachmentState::Attaching,
            created_at: now,
            updated_at: now,
        });
        actions.extend(self.begin(app_id, Change::Attach(id), description, now));
        Ok((id, actions))
    }

    /// Removes an attachment and all its variables, unless it is the last one on the app that pays.
    pub fn detach(&mut self, id: &str, now: Timestamp) -> Result<Vec<Action>, Refusal> {
        let attachment = self.attachment(id)?.clone();
        let addon = self.addon(&attachment.addon.to_string())?;
        let on_owner = self
            .attachments_of_addon(addon.id)
            .into_iter()
            .filter(|item| item.app == addon.owner)
            .count();
        if attachment.app == addon.owner && on_owner == 1 {
            let message = format!(
                "Cannot destroy last attachment to billing app for resource {}",
                addon.name
            );
            return Err(Refusal::invalid(message));
        }
        let description = format!("Detach {} (@ref:{})", attachment.name, addon.name);
        for item in self.attachments.iter_mut().filter(|item| item.id == attachment.id) {
            item.state = AttachmentState::Detaching;
            item.updated_at = now;
        }
        Ok(self.begin(attachment.app, Change::Detach(attachment.id), description, now))
    }

    /// Makes the release of a change. It takes effect at once, unless there is a release phase.
    pub(super) fn begin(&mut self, app: Uuid, change: Change, description: String, now: Timestamp) -> Vec<Action> {
        let waits = self
            .app_of(app)
            .is_some_and(|app| app.has_release_phase() || !app.pending.is_empty());
        if !waits {
            self.add_release(app, description, ReleaseStatus::Succeeded, now);
            self.apply(app, change, now);
            return self.restart_all(app, now);
        }
        let version = self.add_release(app, description, ReleaseStatus::Pending, now);
        if let Some(app) = self.app_of(app) {
            app.pending.push_back((version, change));
        }
        vec![Action::RunReleasePhase { app }]
    }

    /// Returns the version of the oldest change whose release phase is not over.
    pub fn next_pending(&self, app: Uuid) -> Option<u64> {
        let app = self.apps.iter().find(|item| item.id == app)?;
        app.pending.front().map(|(version, _)| *version)
    }

    /// Ends the oldest release phase: the change takes effect, or is undone.
    pub fn finish_release(&mut self, app: Uuid, succeeded: bool, now: Timestamp) -> Vec<Action> {
        let Some((version, change)) = self.app_of(app).and_then(|app| app.pending.pop_front()) else {
            return Vec::new();
        };
        let status = if succeeded {
            ReleaseStatus::Succeeded
        } else {
            ReleaseStatus::Failed
        };
        if let Some(app) = self.app_of(app) {
            for release in app.releases.iter_mut().filter(|release| release.version == version) {
                release.status = status;
                release.updated_at = now;
            }
        }
        if succeeded {
            self.apply(app, change, now);
            return self.restart_all(app, now);
        }
        match change {
            Change::Vars(_) => {}
            Change::Attach(id) => self.attachments.retain(|item| item.id != id),
            Change::Detach(id) | Change::Destroy(id) => {
                self.attachments
                    .iter_mut()
                    .filter(|item| item.id == id || item.addon == id)
                    .for_each(|item| {
                        item.state = AttachmentState::Attached;
                    });
            }
        }
        Vec::new()
    }

    /// Returns the variables as they will be after the oldest pending change.
    pub fn vars_of_release_phase(&self, app: Uuid, now: Timestamp) -> BTreeMap<String, String> {
        let mut later = self.clone();
        later.finish_release(app, true, now);
        later
            .apps
            .iter()
            .find(|item| item.id == app)
            .map(|app| later.config_vars(app))
            .unwrap_or_default()
    }

    fn apply(&mut self, app: Uuid, change: Change, now: Timestamp) {
        match change {
            Change::Vars(changes) => {
                let Some(app) = self.app_of(app) else { return };
                for (name, value) in changes {
                    match value {
                        Some(value) => app.vars.insert(name, value),
                        None => app.vars.remove(&name),
                    };
                }
            }
            Change::Attach(id) => {
                for item in self.attachments.iter_mut().filter(|item| item.id == id) {
                    item.state = AttachmentState::Attached;
                    item.updated_at = now;
                }
            }
            Change::Detach(id) => self.attachments.retain(|item| item.id != id),
            Change::Destroy(id) => {
                self.attachments.retain(|item| item.addon != id);
                self.addons.retain(|item| item.id != id);
            }
        }
    }

    fn add_release(&mut self, app: Uuid, description: String, status: ReleaseStatus, now: Timestamp) -> u64 {
        let id = self.next_id();
        let Some(app) = self.app_of(app) else { return 0 };
        let version = app.releases.len() as u64 + 1;
        app.updated_at = now;
        app.releases.push(Release {
            id,
            version,
            description,
            status,
            created_at: now,
            updated_at: now,
        });
        version
    }

    /// Returns whether an attachment of the add-on under this name owns such a variable.
    fn would_own(&self, addon: Uuid, name: &str, var: &str) -> bool {
        let suffix = var.strip_prefix(name).and_then(|rest| rest.strip_prefix('_'));
        self.addons
            .iter()
            .filter(|item| item.id == addon)
            .any(|addon| suffix.is_some_and(|suffix| addon.values.contains_key(suffix)))
    }

    fn unused_name(&self, app: Uuid, addon: &str) -> Result<String, Refusal> {
        let service = addon.split('-').next().unwrap_or(addon).to_uppercase();
        let taken = self.attachments_of_app(app);
        let mut names = COLOURS.iter().map(|colour| format!("HEROKU_{service}_{colour}"));
        let unused = names.find(|name| taken.iter().all(|item| item.name != *name));
        unused.ok_or_else(|| Refusal::invalid("No name is left for this attachment; give it one"))
    }
}

impl App {
    fn has_release_phase(&self) -> bool {
        self.behaviour.release_phase.is_some() || self.formation.contains_key("release")
    }
}

#[cfg(test)]
mod tests;
