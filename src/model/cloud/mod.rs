//! The cloud of one environment as values: wanted and found resources, and changes.

mod action;
mod credits;
mod found;
mod network_fence;
mod permission;
mod policy;
pub mod price;
mod rule;
mod show;
mod teardown;
mod wanted;

pub use action::{
    Action, AddressAction, BucketAction, BucketSetting, GroupAction, HostAction, HostSpec, KeyPairAction, NewParameter,
    RoleAction, Sections,
};
pub use credits::{Balance, is_burstable};
pub use found::{
    Address, BucketFound, Found, Group, Image, Instance, KeyPair, MachineType, Network, Profile, RoleFound, Subnet,
};
pub use network_fence::{NetworkFence, Place};
pub use permission::{Duty, Permission, Scope, When};
pub use policy::{
    HOST_POLICY, backup_policy, bucket_statements, ec2_service, is_bucket_statement, mean_the_same, trust_policy,
};
pub use rule::{
    ENGINE_EXPORTER_PORT, MACHINE_EXPORTER_PORT, REDIS_PORT, REHEARSAL_PORT, Rule, SSH_PORT, Source, rehearsal_rules,
    wanted_rules,
};
pub use show::{Change, Drift, Plan, Sign};
pub use teardown::{Locked, Removal, Standing, TeardownPlan};
pub use wanted::{
    Expiry, LifecycleRule, LockMode, Make, ObjectLock, ParameterWanted, TAG_ENV, TAG_NAME, TAG_ROLE, Wanted,
    client_token, lifecycle,
};
