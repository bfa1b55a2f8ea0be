//! Restore instances. They have the environment's tags, so that `down` finds them. A purpose in
//! place of a role shows that they are no hosts of the pair. They need no IAM role.

use super::{Asked, Run, TAG_ENV, TAG_NAME, filter, is_gone, ours, run_asked, tag, tags};
use crate::effects::cloud::Cloud;
use crate::effects::cloud::failure::Explain;
use crate::model::cloud::{HostSpec, Permission};
use crate::model::error::Result;
use crate::model::names::Names;
use crate::model::secret::Secret;
use jiff::Timestamp;
use serde::Serialize;
use strum::{Display, EnumString, IntoStaticStr};

const TAG_PURPOSE: &str = "infra:purpose";

#[derive(Clone, Copy, Debug, Display, EnumString, IntoStaticStr, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Purpose {
    /// The drill that made it removes it.
    Drill,
    /// It stays until somebody removes it.
    Restored,
}

impl Purpose {
    pub fn name(self) -> &'static str {
        self.into()
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RestoreInstance {
    pub instance: String,
    pub purpose: Purpose,
    pub state: String,
    pub private_ip: Option<String>,
    pub public_ip: Option<String>,
    pub launched_at: Option<Timestamp>,
}

/// Returns the existing ones of an environment, oldest first.
pub async fn restore_instances(cloud: &Cloud, names: &Names) -> Result<Vec<RestoreInstance>> {
    let mut filters = ours(names);
    filters.push(filter("tag-key", TAG_PURPOSE));
    let answer = cloud.ec2.describe_instances().set_filters(Some(filters)).send().await;
    let answer = answer.explain(Permission::DescribeInstances, || {
        format!("look for instances beside the pair, by {TAG_NAME} and {TAG_ENV}")
    })?;
    let reservations = answer.reservations.unwrap_or_default().into_iter();
    let instances = reservations.flat_map(|reservation| reservation.instances.unwrap_or_default());
    let mut all: Vec<RestoreInstance> = instances
        .filter_map(from_ec2)
        .filter(|temporary| !is_gone(&temporary.state))
        .collect();
    all.sort_by_key(|temporary| temporary.launched_at);
    Ok(all)
}

/// Requests one. Its name contains the time, so that a repeated request makes one instance.
pub async fn run_beside(
    cloud: &Cloud,
    names: &Names,
    host: &HostSpec,
    purpose: Purpose,
    group: &str,
    user_data: &Secret,
) -> Result<Run> {
    let mut tags = tags(names, &host.name, None);
    tags.push((TAG_PURPOSE.to_string(), purpose.to_string()));
    let asked = Asked {
        host,
        group,
        user_data,
        tags,
        with_role: false,
        standing: &[],
    };
    let token = infra_agent::digest::of(format!("{}/{}/{}", names.name, names.env, host.name).as_bytes());
    run_asked(cloud, names, &asked, |_| token.clone()).await
}

fn from_ec2(instance: aws_sdk_ec2::types::Instance) -> Option<RestoreInstance> {
    let tags = instance.tags.unwrap_or_default();
    Some(RestoreInstance {
        instance: instance.instance_id?,
        purpose: tag(&tags, TAG_PURPOSE)?.parse().ok()?,
        state: instance
            .state
            .and_then(|state| state.name)
            .map(|name| name.as_str().to_string())
            .unwrap_or_default(),
        private_ip: instance.private_ip_address,
        public_ip: instance.public_ip_address.filter(|address| !address.is_empty()),
        launched_at: instance
            .launch_time
            .and_then(|time| Timestamp::from_second(time.secs()).ok()),
    })
}
