//! The resources that should exist.

use crate::model::names::Names;
use crate::model::role::Role;
use crate::model::secrets::{RedisUser, parameter};
use crate::model::values::Cidr;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use strum::Display;

/// The tags by which all resources of an environment are found.
pub const TAG_NAME: &str = "infra:name";
pub const TAG_ENV: &str = "infra:env";
/// The tag that only hosts of the pair have.
pub const TAG_ROLE: &str = "infra:role";

/// Everything that an environment should have in the cloud.
#[derive(Clone, Debug)]
pub struct Wanted {
    pub names: Names,
    /// The pair number, stored in the state before the first machine is requested.
    pub generation: u64,
    /// True if S3 uses https, so that the bucket can refuse everything else.
    pub tls_only: bool,
    pub expiry: Expiry,
    /// The wanted retention of the bucket; `None` leaves an existing one.
    pub object_lock: Option<ObjectLock>,
    pub parameters: Vec<ParameterWanted>,
    /// Blocks that may reach ssh and the Redis port.
    pub admin_cidrs: Vec<Cidr>,
    /// Blocks that may reach the Redis port.
    pub app_cidrs: Vec<Cidr>,
    /// Blocks that may ask the exporters.
    pub scrape_cidrs: Vec<Cidr>,
    /// The block of `admin_cidrs` with the operator's own address, if it was not configured.
    pub own_address: Option<Cidr>,
    pub instance_type: String,
    /// `debian-13`, `debian-12` or an AMI id.
    pub image: String,
    pub disk_gb: u32,
    /// Letters or whole names of zones, the master's first; empty: two different ones.
    pub zones: Vec<String>,
    /// Default: the default VPC's subnet in each zone.
    pub subnet: Option<String>,
}

impl Wanted {
    /// Returns the parameters of every environment, in order: each depends only on those before it.
    pub fn standard_parameters() -> Vec<ParameterWanted> {
        let secret = |name: String, make| ParameterWanted {
            name,
            secure: true,
            make,
            derived: false,
        };
        let public = |name: &str| ParameterWanted {
            name: name.into(),
            secure: false,
            make: Make::Always,
            derived: true,
        };
        let mut all = vec![
            secret(parameter::SSH_KEY.into(), Make::Always),
            secret(parameter::CA_KEY.into(), Make::Always),
        ];
        all.extend(RedisUser::ALL.map(|user| secret(parameter::password(user), Make::Always)));
        all.extend(Role::ALL.map(|role| secret(parameter::bootstrap_host_key(role), Make::ForNewHost(role))));
        all.push(public(parameter::SSH_PUBLIC_KEY));
        all.push(public(parameter::CA_CERT));
        all.extend(RedisUser::ALL.map(|user| secret(parameter::next_password(user), Make::Elsewhere)));
        all.extend(Role::ALL.map(|role| secret(parameter::tls_key(role), Make::Elsewhere)));
        all.extend(Role::ALL.map(|role| secret(parameter::tls_cert(role), Make::Elsewhere)));
        all
    }
}

/// One SSM parameter below the environment's prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParameterWanted {
    pub name: String,
    /// True: SecureString. False: String.
    pub secure: bool,
    pub make: Make,
    /// True if it is computed from other parameters, and so stored after them.
    pub derived: bool,
}

/// When to make a missing parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Make {
    Always,
    /// Only while the host of this role does not exist yet.
    ForNewHost(Role),
    /// Another part makes it, when more is known; it is only read here.
    Elsewhere,
}

/// After how many days a backup expires, by its class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expiry {
    pub hourly_days: u32,
    pub daily_days: u32,
    pub monthly_days: u32,
}

impl Expiry {
    /// Returns the days that hold this many backups of each class. `period_s` is the time between
    /// two hourly ones, in seconds. S3 counts whole days.
    pub fn keeping(hourly: u32, daily: u32, monthly: u32, period_s: u64) -> Self {
        let hourly_days = (u64::from(hourly) * period_s).div_ceil(86_400).max(1);
        Expiry {
            hourly_days: u32::try_from(hourly_days).unwrap_or(u32::MAX),
            daily_days: daily.max(1),
            monthly_days: monthly.max(1).saturating_mul(31),
        }
    }
}

/// The retention of every new object of the bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ObjectLock {
    pub mode: LockMode,
    pub days: u32,
}

/// Says who may remove an object before its time.
#[derive(Clone, Copy, Debug, Display, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum LockMode {
    /// Everybody with the permission.
    Governance,
    /// Nobody, not even the account's root user.
    Compliance,
}

/// One rule of a bucket's lifecycle, with the fields that we use.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct LifecycleRule {
    pub id: String,
    pub prefix: String,
    pub expire_days: Option<u32>,
    pub expire_noncurrent_days: Option<u32>,
    pub abort_uploads_days: Option<u32>,
    /// True if delete markers are removed once no version is left behind them.
    pub clean_markers: bool,
}

/// Returns this environment's rules of the lifecycle; the first one is for all of the bucket.
pub fn lifecycle(names: &Names, expiry: Expiry) -> Vec<LifecycleRule> {
    let class = |class: &str, days: u32| LifecycleRule {
        id: format!("infra {} {class}", names.env),
        prefix: format!("{}{class}/", names.backups()),
        expire_days: Some(days),
        ..LifecycleRule::default()
    };
    vec![
        LifecycleRule {
            id: "infra housekeeping".into(),
            prefix: String::new(),
            expire_days: None,
            expire_noncurrent_days: Some(7),
            abort_uploads_days: Some(1),
            clean_markers: true,
        },
        class("hourly", expiry.hourly_days),
        // The log is needed as long as the hourly bases.
        class("log", expiry.hourly_days),
        class("daily", expiry.daily_days),
        class("monthly", expiry.monthly_days),
    ]
}

/// Returns the client token that lets a repeated request make only one machine. `attempt` grows
/// when the machine of a token has been terminated.
pub fn client_token(names: &Names, role: Role, generation: u64, attempt: u32) -> String {
    let text = format!("{}/{}/{role}/{generation}/{attempt}", names.name, names.env);
    hex::encode(Sha256::digest(text))
}
