//! A plan in its forms for people and scripts.

use super::action::{
    Action, AddressAction, BucketAction, BucketSetting, GroupAction, HostAction, KeyPairAction, NewParameter,
    RoleAction, Sections,
};
use super::network_fence::NetworkFence;
use crate::model::role::Role;
use serde::{Serialize, Serializer};
use serde_json::json;
use std::fmt;

/// Changes to make, resources left as they are, and differences that `up` does not change.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// In the order of showing; independent ones run at once.
    pub actions: Vec<Action>,
    pub unchanged: Vec<String>,
    pub drift: Vec<Drift>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Sign {
    #[serde(rename = "+")]
    Add,
    #[serde(rename = "~")]
    Change,
    #[serde(rename = "-")]
    Remove,
}

/// One line of a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    pub sign: Sign,
    pub resource: &'static str,
    pub name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub detail: String,
}

/// A difference of an existing host that needs another command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Drift {
    pub role: Role,
    pub instance: String,
    /// The field's name in infra.yml.
    pub field: &'static str,
    pub found: String,
    pub wanted: String,
    /// The command that changes it.
    pub remedy: &'static str,
}

impl Plan {
    /// Returns the actions by resource.
    pub fn sections(&self) -> Sections<'_> {
        Sections::of(&self.actions)
    }

    /// Returns true if nothing is to be done. Drift that needs another command may still be there.
    pub fn is_empty(&self) -> bool {
        self.actions.is_empty()
    }

    /// Returns the changes. Settings of a resource that this plan makes are part of making it.
    pub fn changes(&self) -> Vec<Change> {
        let mut changes: Vec<Change> = Vec::with_capacity(self.actions.len());
        for mut change in self.actions.iter().map(Action::change) {
            let made_here = |other: &Change| {
                (other.sign, other.resource, &other.name) == (Sign::Add, change.resource, &change.name)
            };
            if change.sign == Sign::Change && changes.iter().any(made_here) {
                change.sign = Sign::Add;
            }
            changes.push(change);
        }
        changes
    }

    pub fn count(&self, sign: Sign) -> usize {
        self.changes().iter().filter(|change| change.sign == sign).count()
    }

    /// Returns `12 to add, 1 to change, 0 to remove`.
    pub fn summary(&self) -> String {
        format!(
            "{} to add, {} to change, {} to remove",
            self.count(Sign::Add),
            self.count(Sign::Change),
            self.count(Sign::Remove)
        )
    }
}

impl Sign {
    pub fn symbol(self) -> char {
        match self {
            Sign::Add => '+',
            Sign::Change => '~',
            Sign::Remove => '-',
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.sign.symbol(), self.resource, self.name)?;
        if !self.detail.is_empty() {
            write!(f, ": {}", self.detail)?;
        }
        Ok(())
    }
}

impl fmt::Display for Drift {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "! {} {}: {} is {}, wanted {}: {}",
            self.role, self.instance, self.field, self.found, self.wanted, self.remedy
        )
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for change in self.changes() {
            writeln!(f, "  {change}")?;
        }
        for drift in &self.drift {
            writeln!(f, "  {drift}")?;
        }
        for name in &self.unchanged {
            writeln!(f, "  = {name}")?;
        }
        if self.is_empty() {
            write!(f, "Nothing to change.")
        } else {
            write!(f, "Plan: {}.", self.summary())
        }
    }
}

impl Serialize for Plan {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        json!({ "changes": self.changes(), "drift": self.drift, "unchanged": self.unchanged }).serialize(serializer)
    }
}

fn line(sign: Sign, resource: &'static str, name: &str, detail: impl Into<String>) -> Change {
    Change {
        sign,
        resource,
        name: name.to_string(),
        detail: detail.into(),
    }
}

impl Action {
    /// Returns this action as a line of the plan.
    pub fn change(&self) -> Change {
        match self {
            Action::Bucket(action) => action.change(),
            Action::Parameter(parameter) => parameter.change(),
            Action::KeyPair(action) => action.change(),
            Action::Group(action) => action.change(),
            Action::Role(action) => action.change(),
            Action::Host(action) => action.change(),
            Action::Address(action) => action.change(),
            Action::LiftFence(fence) => fence.change(),
        }
    }
}

impl BucketAction {
    pub fn change(&self) -> Change {
        match self {
            BucketAction::Create { name } => line(Sign::Add, "bucket", name, ""),
            BucketAction::Set { name, setting } => line(Sign::Change, "bucket", name, setting.to_string()),
        }
    }
}

impl NewParameter {
    pub fn change(&self) -> Change {
        let kind = if self.secure { "SecureString" } else { "String" };
        line(Sign::Add, "parameter", &format!("{}{}", self.prefix, self.name), kind)
    }
}

impl KeyPairAction {
    pub fn change(&self) -> Change {
        match self {
            KeyPairAction::Import { name } => line(Sign::Add, "key pair", name, ""),
            KeyPairAction::Replace { name, fingerprint } => {
                let detail = format!("replace the key {fingerprint} by the environment's own");
                line(Sign::Change, "key pair", name, detail)
            }
        }
    }
}

impl GroupAction {
    pub fn change(&self) -> Change {
        match self {
            GroupAction::Create { name, vpc } => line(Sign::Add, "security group", name, format!("in {vpc}")),
            GroupAction::Authorize { group, rule, why } => {
                let why = why.as_ref().map(|why| format!(" ({why})")).unwrap_or_default();
                line(Sign::Add, "rule", group, format!("allow {rule}{why}"))
            }
            GroupAction::Revoke { group, rule } => line(Sign::Remove, "rule", group, format!("no longer allow {rule}")),
        }
    }
}

impl RoleAction {
    pub fn change(&self) -> Change {
        match self {
            RoleAction::Create { name, .. } => line(Sign::Add, "role", name, "for EC2"),
            RoleAction::SetTrust { role, .. } => line(Sign::Change, "role", role, "trust EC2 alone"),
            RoleAction::SetPolicy { role, document } => {
                let resource = document["Statement"][0]["Resource"].as_str().unwrap_or_default();
                let detail = format!("may put objects under {resource} and nothing else");
                line(Sign::Change, "role", role, detail)
            }
            RoleAction::CreateProfile { name } => line(Sign::Add, "instance profile", name, ""),
            RoleAction::PutInProfile { profile, role } => line(
                Sign::Change,
                "instance profile",
                profile,
                format!("gives the role {role}"),
            ),
        }
    }
}

impl HostAction {
    pub fn change(&self) -> Change {
        match self {
            HostAction::Create(host) => {
                let detail = format!(
                    "{} in {}, {} ({}), {} GB encrypted gp3",
                    host.instance_type, host.zone, host.image_name, host.image_id, host.disk_gb
                );
                line(Sign::Add, "instance", &host.name, detail)
            }
            HostAction::Start { name, id, .. } => line(Sign::Change, "instance", name, format!("start {id}")),
        }
    }
}

impl AddressAction {
    pub fn change(&self) -> Change {
        match self {
            AddressAction::Allocate { name } => line(Sign::Add, "address", name, ""),
            AddressAction::Associate { name, role, away_from } => {
                let away = away_from.as_ref().map(|id| format!(", no longer to {id}"));
                line(
                    Sign::Change,
                    "address",
                    name,
                    format!("leads to the {role}{}", away.unwrap_or_default()),
                )
            }
        }
    }
}

impl NetworkFence {
    pub fn change(&self) -> Change {
        let detail = match &self.association {
            Some((subnet, _)) => format!("{subnet} gets {} back; it cuts off {}", self.replaced, self.instance),
            None => format!("it was to cut off {}", self.instance),
        };
        line(Sign::Remove, "network ACL", &self.acl, detail)
    }
}

impl fmt::Display for BucketSetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BucketSetting::Versioned => f.write_str("keep versions"),
            BucketSetting::Encrypted => f.write_str("encrypt"),
            BucketSetting::PublicAccessBlocked => f.write_str("block public access"),
            BucketSetting::Tagged => f.write_str("tag"),
            BucketSetting::Policy(statements) if statements.len() > 1 => {
                f.write_str("refuse everything but https, and to overwrite a backup")
            }
            BucketSetting::Policy(_) => f.write_str("refuse to overwrite a backup"),
            BucketSetting::ObjectLock(lock) => {
                write!(
                    f,
                    "lock every new object for {} d ({}); a lock once begun is never switched off",
                    lock.days, lock.mode
                )
            }
            BucketSetting::Lifecycle(rules) => {
                let days = rules
                    .iter()
                    .filter_map(|rule| Some((rule.prefix.as_str(), rule.expire_days?)));
                let days: Vec<String> = days.map(|(prefix, days)| format!("{prefix} after {days} d")).collect();
                write!(f, "expire {}; old versions after 7 d", days.join(", "))
            }
        }
    }
}
