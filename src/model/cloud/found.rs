//! What stands, as far as it is ours by name or tag.

use super::rule::Rule;
use super::wanted::{LifecycleRule, ObjectLock};
use crate::model::role::Role;
use crate::model::secrets::Secrets;
use serde_json::Value;
use std::collections::BTreeSet;

/// What was found in the cloud for one environment.
#[derive(Clone, Debug, Default)]
pub struct Found {
    pub bucket: Option<BucketFound>,
    /// Names and values; the values never show.
    pub secrets: Secrets,
    pub key_pair: Option<KeyPair>,
    pub network: Network,
    pub group: Option<Group>,
    pub role: Option<RoleFound>,
    pub profile: Option<Profile>,
    /// Without those that are terminated or on their way there.
    pub instances: Vec<Instance>,
    pub addresses: Vec<Address>,
    /// What the wanted image is right now.
    pub image: Option<Image>,
    /// What the wanted instance type is; absent where the region has no such type.
    pub machine_type: Option<MachineType>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BucketFound {
    pub versioned: bool,
    pub encrypted: bool,
    pub public_access_blocked: bool,
    pub tagged: bool,
    /// Our statements of its policy, as they stand.
    pub statements: Vec<Value>,
    /// What new objects are kept for.
    pub object_lock: Option<ObjectLock>,
    /// Only the rules with our ids.
    pub lifecycle: Vec<LifecycleRule>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyPair {
    pub id: String,
    /// As AWS tells it: SHA-256 in base64 for ed25519.
    pub fingerprint: String,
    /// One line, where AWS tells it.
    pub public_key: Option<String>,
}

/// The network that hosts are put in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Network {
    /// The default VPC, or the one of the subnet that was named.
    pub vpc: Option<String>,
    /// The VPC's default subnets, or the one that was named.
    pub subnets: Vec<Subnet>,
    /// Zones that offer the wanted instance type.
    pub offering_zones: BTreeSet<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subnet {
    pub id: String,
    pub zone: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    pub id: String,
    pub rules: BTreeSet<Rule>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleFound {
    pub trust: Value,
    /// The inline policy with our name.
    pub policy: Option<Value>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    pub arn: String,
    pub roles: Vec<String>,
}

/// One of our instances.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    pub id: String,
    /// From its tag.
    pub role: Role,
    /// EC2's word: `pending`, `running`, `stopping` or `stopped`.
    pub state: String,
    pub instance_type: String,
    pub image_id: String,
    /// What `infra.yml` named when it was made (`debian-13`), from its tag.
    pub image_name: Option<String>,
    /// Of its root volume, where it is attached.
    pub disk_gb: Option<u32>,
    pub zone: String,
    pub private_ip: Option<String>,
    pub public_ip: Option<String>,
    pub generation: Option<u64>,
    /// Why EC2 put it into its state, where it says so.
    pub reason: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    pub allocation_id: String,
    pub public_ip: String,
    /// The instance that it leads to.
    pub instance: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    pub id: String,
    pub root_device: String,
    /// The smallest disk that it fits on.
    pub smallest_gb: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MachineType {
    pub memory_bytes: u64,
    /// As images are named: `amd64` or `arm64`.
    pub architecture: String,
}
