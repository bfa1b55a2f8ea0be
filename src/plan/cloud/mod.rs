//! The cloud of one environment: what is wanted, what was found, and the changes between them.

mod action;
mod decide;
mod found;
mod grant;
mod permission;
mod policy;
mod rule;
mod show;
mod subnets;
mod wanted;

#[cfg(test)]
mod tests;

pub use action::{Action, BucketSetting, HostSpec};
pub use decide::plan;
pub use found::{
    Address, BucketFound, Found, Group, Image, Instance, KeyPair, MachineType, Network, Profile, RoleFound, Subnet,
};
pub use grant::{LONGEST_POLICY, Who, policy as operator_policy};
pub use permission::Permission;
pub use policy::{HOST_POLICY, backup_policy, bucket_statements, is_bucket_statement, trust_policy};
pub use rule::{REDIS_PORT, REHEARSAL_PORT, Rule, SSH_PORT, Source, rehearsal_rules};
pub use show::{Change, Drift, Plan, Sign};
pub use wanted::{
    Expiry, LifecycleRule, LockMode, Make, ObjectLock, ParameterWanted, TAG_ENV, TAG_NAME, TAG_ROLE, Wanted,
    client_token, lifecycle,
};
