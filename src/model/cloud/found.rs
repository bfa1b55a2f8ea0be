//! The resources that exist, as far as name or tag shows that they are ours.

use super::network_fence::NetworkFence;
use super::rule::Rule;
use super::wanted::{LifecycleRule, ObjectLock};
use crate::model::role::Role;
use crate::model::secrets::Secrets;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// The resources of one environment in the cloud.
#[derive(Clone, Debug, Default)]
pub struct Found {
    pub bucket: Option<BucketFound>,
    /// Names and values; the values are never shown.
    pub secrets: Secrets,
    pub key_pair: Option<KeyPair>,
    pub network: Network,
    pub group: Option<Group>,
    pub role: Option<RoleFound>,
    pub profile: Option<Profile>,
    /// Without instances that are terminated or about to be.
    pub instances: Vec<Instance>,
    pub addresses: Vec<Address>,
    /// Network ACLs that cut a host off.
    pub fences: Vec<NetworkFence>,
    /// The present image of the wanted name.
    pub image: Option<Image>,
    /// The wanted instance type; `None` if the region does not have it.
    pub machine_type: Option<MachineType>,
    /// The types of instances that have another one, by name.
    pub other_types: BTreeMap<String, MachineType>,
}

impl Found {
    /// Returns the memory of an instance, in bytes; `None` if its type is not known.
    pub fn memory_of(&self, instance: &Instance) -> Option<u64> {
        let other = self.other_types.get(&instance.instance_type);
        other.or(self.machine_type.as_ref()).map(|machine| machine.memory_bytes)
    }

    /// Returns the architecture of a role's host; that of the wanted type while there is no host.
    pub fn architecture_of(&self, role: Role) -> &str {
        let host = self.instances.iter().find(|instance| instance.role == role);
        let other = host.and_then(|host| self.other_types.get(&host.instance_type));
        other
            .or(self.machine_type.as_ref())
            .map_or("amd64", |machine| &machine.architecture)
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BucketFound {
    pub versioned: bool,
    pub encrypted: bool,
    pub public_access_blocked: bool,
    pub tagged: bool,
    /// Our statements of its policy, as they are now.
    pub statements: Vec<Value>,
    /// The retention of new objects.
    pub object_lock: Option<ObjectLock>,
    /// Only the rules with our ids.
    pub lifecycle: Vec<LifecycleRule>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyPair {
    pub id: String,
    /// As AWS reports it: SHA-256 in base64 for ed25519.
    pub fingerprint: String,
    /// One line, if AWS reports it.
    pub public_key: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Network {
    /// The default VPC, or the one of the named subnet.
    pub vpc: Option<String>,
    /// The VPC's default subnets, or the named one.
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

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    pub id: String,
    /// The role that its tag names, or the one in the state after a failover.
    pub role: Role,
    /// EC2's word: `pending`, `running`, `stopping` or `stopped`.
    pub state: String,
    pub instance_type: String,
    pub image_id: String,
    /// The image name in `infra.yml` when it was made (`debian-13`), from its tag.
    pub image_name: Option<String>,
    /// Size of its root volume, if that is attached.
    pub disk_gb: Option<u32>,
    pub zone: String,
    pub private_ip: Option<String>,
    pub public_ip: Option<String>,
    pub generation: Option<u64>,
    /// EC2's reason for the state, if it gives one.
    pub reason: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    pub allocation_id: String,
    pub public_ip: String,
    /// The instance that the address points to.
    pub instance: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    pub id: String,
    pub root_device: String,
    /// The smallest disk that the image fits on.
    pub smallest_gb: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MachineType {
    pub memory_bytes: u64,
    /// The network that it has all the time, in bytes a second; `None` if it is not told.
    pub network_bytes_per_s: Option<u64>,
    /// In the words of images: `amd64` or `arm64`.
    pub architecture: String,
}
