//! Changes to the cloud by the resource that they are made to, each with everything that is needed to make it but the ids of what is made before it.

use super::network_fence::NetworkFence;
use super::rule::Rule;
use super::wanted::{LifecycleRule, ObjectLock};
use crate::model::role::Role;
use serde_json::Value;

#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    Bucket(BucketAction),
    Parameter(NewParameter),
    KeyPair(KeyPairAction),
    Group(GroupAction),
    Role(RoleAction),
    Host(HostAction),
    Address(AddressAction),
    /// Gives the subnet of a host that was cut off its own network ACL back.
    LiftFence(NetworkFence),
}

/// A plan's actions by resource. Whoever carries a plan out takes the sections apart and matches every action of each,
/// so that an action that nobody carries out does not compile.
#[derive(Debug, Default)]
pub struct Sections<'a> {
    pub bucket: Vec<&'a BucketAction>,
    pub parameters: Vec<&'a NewParameter>,
    pub key_pair: Vec<&'a KeyPairAction>,
    pub group: Vec<&'a GroupAction>,
    pub role: Vec<&'a RoleAction>,
    pub hosts: Vec<&'a HostAction>,
    pub address: Vec<&'a AddressAction>,
    pub fences: Vec<&'a NetworkFence>,
}

impl<'a> Sections<'a> {
    pub fn of(actions: &'a [Action]) -> Self {
        let mut sections = Sections::default();
        for action in actions {
            match action {
                Action::Bucket(action) => sections.bucket.push(action),
                Action::Parameter(parameter) => sections.parameters.push(parameter),
                Action::KeyPair(action) => sections.key_pair.push(action),
                Action::Group(action) => sections.group.push(action),
                Action::Role(action) => sections.role.push(action),
                Action::Host(action) => sections.hosts.push(action),
                Action::Address(action) => sections.address.push(action),
                Action::LiftFence(fence) => sections.fences.push(fence),
            }
        }
        sections
    }
}

#[derive(Clone, Debug, PartialEq)]
pub enum BucketAction {
    Create { name: String },
    Set { name: String, setting: BucketSetting },
}

#[derive(Clone, Debug, PartialEq)]
pub struct NewParameter {
    pub prefix: String,
    pub name: String,
    pub secure: bool,
    pub derived: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub enum KeyPairAction {
    Import {
        name: String,
    },
    /// The key pair has another key than our parameter: it is only read when an instance is made, so that replacing it harms nobody.
    Replace {
        name: String,
        fingerprint: String,
    },
}

/// To the security group and its rules.
#[derive(Clone, Debug, PartialEq)]
pub enum GroupAction {
    Create {
        name: String,
        vpc: String,
    },
    Authorize {
        group: String,
        rule: Rule,
        /// The reason, if infra.yml does not name it.
        why: Option<String>,
    },
    Revoke {
        group: String,
        rule: Rule,
    },
}

/// To the hosts' role and its instance profile.
#[derive(Clone, Debug, PartialEq)]
pub enum RoleAction {
    Create { name: String, trust: Value },
    SetTrust { role: String, trust: Value },
    SetPolicy { role: String, document: Value },
    CreateProfile { name: String },
    PutInProfile { profile: String, role: String },
}

#[derive(Clone, Debug, PartialEq)]
pub enum HostAction {
    Create(HostSpec),
    Start { role: Role, name: String, id: String },
}

impl HostAction {
    pub fn role(&self) -> Role {
        match self {
            HostAction::Create(host) => host.role,
            HostAction::Start { role, .. } => *role,
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub enum AddressAction {
    Allocate {
        name: String,
    },
    /// Moves the address to the host of this role.
    Associate {
        name: String,
        role: Role,
        away_from: Option<String>,
    },
}

#[derive(Clone, Debug, PartialEq)]
pub enum BucketSetting {
    Versioned,
    Encrypted,
    PublicAccessBlocked,
    Tagged,
    /// Our rules; other people's stay.
    Lifecycle(Vec<LifecycleRule>),
    /// Our statements; other people's stay.
    Policy(Vec<Value>),
    /// Needs versions.
    ObjectLock(ObjectLock),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostSpec {
    pub role: Role,
    pub name: String,
    pub instance_type: String,
    pub image_id: String,
    pub image_name: String,
    pub root_device: String,
    pub disk_gb: u32,
    pub zone: String,
    pub subnet: String,
    pub generation: u64,
}
