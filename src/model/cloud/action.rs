//! One change to the cloud, with everything that is needed to make it but the ids of what is made before it.

use super::rule::Rule;
use super::wanted::{LifecycleRule, ObjectLock};
use crate::model::role::Role;
use serde_json::Value;

#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    CreateBucket {
        name: String,
    },
    SetBucket {
        name: String,
        setting: BucketSetting,
    },
    MakeParameter {
        prefix: String,
        name: String,
        secure: bool,
        derived: bool,
    },
    ImportKeyPair {
        name: String,
    },
    /// The key pair has another key than our parameter: it is only read when an instance is made, so that replacing it harms nobody.
    ReplaceKeyPair {
        name: String,
        fingerprint: String,
    },
    CreateGroup {
        name: String,
        vpc: String,
    },
    Authorize {
        group: String,
        rule: Rule,
        /// Why, where infra.yml does not name it.
        why: Option<String>,
    },
    Revoke {
        group: String,
        rule: Rule,
    },
    CreateRole {
        name: String,
        trust: Value,
    },
    SetTrust {
        role: String,
        trust: Value,
    },
    SetRolePolicy {
        role: String,

        document: Value,
    },
    CreateProfile {
        name: String,
    },
    PutRoleInProfile {
        profile: String,
        role: String,
    },
    CreateInstance(HostSpec),
    StartInstance {
        role: Role,
        name: String,
        id: String,
    },
    AllocateAddress {
        name: String,
    },
    /// Leads the address to the host of this role.
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
    /// Our rules; those of others stay.
    Lifecycle(Vec<LifecycleRule>),
    /// Our statements; those of others stay.
    Policy(Vec<Value>),
    /// Needs versions.
    ObjectLock(ObjectLock),
}

/// A host that is to be made.
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
