//! A plan as people and scripts read it.

use super::action::{Action, BucketSetting};
use crate::model::role::Role;
use serde::{Serialize, Serializer};
use std::fmt;

/// What is to be done, what is left alone, and what differs but is not changed by `up`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// In the order in which they are shown; what can be done at once is done at once.
    pub actions: Vec<Action>,
    pub unchanged: Vec<String>,
    pub drift: Vec<Drift>,
}

/// What a change does.
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

/// A difference of a standing host that needs another command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Drift {
    pub role: Role,
    pub instance: String,
    /// As in infra.yml.
    pub field: &'static str,
    pub found: String,
    pub wanted: String,
    /// The command that changes it.
    pub remedy: &'static str,
}

impl Plan {
    /// Whether nothing is to be done. Drift that needs another command may still be there.
    pub fn is_empty(&self) -> bool {
        self.actions.is_empty()
    }

    /// Setting up what this very plan makes is part of making it.
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

    /// How many changes have this sign.
    pub fn count(&self, sign: Sign) -> usize {
        self.changes().iter().filter(|change| change.sign == sign).count()
    }

    /// `12 to add, 1 to change, 0 to remove`.
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
        #[derive(Serialize)]
        struct Shown<'a> {
            changes: Vec<Change>,
            drift: &'a [Drift],
            unchanged: &'a [String],
        }
        let shown = Shown {
            changes: self.changes(),
            drift: &self.drift,
            unchanged: &self.unchanged,
        };
        shown.serialize(serializer)
    }
}

impl Action {
    /// This action as a line of the plan.
    pub fn change(&self) -> Change {
        use Sign::{Add, Change as Alter, Remove};
        let line = |sign, resource, name: &str, detail: String| Change {
            sign,
            resource,
            name: name.to_string(),
            detail,
        };
        match self {
            Action::CreateBucket { name } => line(Add, "bucket", name, String::new()),
            Action::SetBucket { name, setting } => line(Alter, "bucket", name, setting.to_string()),
            Action::MakeParameter {
                prefix, name, secure, ..
            } => {
                let kind = if *secure { "SecureString" } else { "String" };
                line(Add, "parameter", &format!("{prefix}{name}"), kind.into())
            }
            Action::ImportKeyPair { name } => line(Add, "key pair", name, String::new()),
            Action::ReplaceKeyPair { name, fingerprint } => line(
                Alter,
                "key pair",
                name,
                format!("replace the key {fingerprint} by the environment's own"),
            ),
            Action::CreateGroup { name, vpc } => line(Add, "security group", name, format!("in {vpc}")),
            Action::Authorize { group, rule, why } => {
                let why = why.as_ref().map(|why| format!(" ({why})")).unwrap_or_default();
                line(Add, "rule", group, format!("allow {rule}{why}"))
            }
            Action::Revoke { group, rule } => line(Remove, "rule", group, format!("no longer allow {rule}")),
            Action::CreateRole { name, .. } => line(Add, "role", name, "for EC2".into()),
            Action::SetTrust { role, .. } => line(Alter, "role", role, "trust EC2 alone".into()),
            Action::SetRolePolicy { role, document, .. } => {
                let resource = document["Statement"][0]["Resource"].as_str().unwrap_or_default();
                line(
                    Alter,
                    "role",
                    role,
                    format!("may put objects under {resource} and nothing else"),
                )
            }
            Action::CreateProfile { name } => line(Add, "instance profile", name, String::new()),
            Action::PutRoleInProfile { profile, role } => {
                line(Alter, "instance profile", profile, format!("gives the role {role}"))
            }
            Action::CreateInstance(host) => line(
                Add,
                "instance",
                &host.name,
                format!(
                    "{} in {}, {} ({}), {} GB encrypted gp3",
                    host.instance_type, host.zone, host.image_name, host.image_id, host.disk_gb
                ),
            ),
            Action::StartInstance { name, id, .. } => line(Alter, "instance", name, format!("start {id}")),
            Action::AllocateAddress { name } => line(Add, "address", name, String::new()),
            Action::Associate { name, role, away_from } => {
                let away = away_from
                    .as_ref()
                    .map(|id| format!(", no longer to {id}"))
                    .unwrap_or_default();
                line(Alter, "address", name, format!("leads to the {role}{away}"))
            }
        }
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
