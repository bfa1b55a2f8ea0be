//! Finds all resources of one environment in concurrent calls.

use super::{Cloud, bucket, ec2, iam, ssm};
use crate::model::cloud::{Found, ParameterWanted, Wanted};
use crate::model::error::Result;
use crate::model::names::Names;
use crate::model::secret::Secret;
use crate::model::secrets::Secrets;
use std::collections::BTreeMap;

/// Returns true if the environment's bucket is there.
pub async fn has_bucket(cloud: &Cloud, names: &Names) -> Result<bool> {
    bucket::exists(cloud, names).await
}

/// Finds the resources of an environment. Takes the time of about three calls in sequence.
pub async fn find(cloud: &Cloud, wanted: &Wanted) -> Result<Found> {
    let names = &wanted.names;
    let resource = names.resource();
    let rule_ids = bucket::rule_ids(names, wanted.expiry);
    let (bucket, secrets, key_pair, network, group, role, profile, instances, addresses, fences, machine_and_image) = tokio::try_join!(
        Box::pin(bucket::bucket(cloud, names, &rule_ids)),
        Box::pin(secrets(cloud, names, &wanted.parameters)),
        Box::pin(ec2::key_pair(cloud, &resource)),
        Box::pin(ec2::network(cloud, wanted.subnet.as_deref(), &wanted.instance_type)),
        Box::pin(ec2::group(cloud, names)),
        Box::pin(iam::role(cloud, &resource)),
        Box::pin(iam::profile(cloud, &resource)),
        Box::pin(ec2::instances(cloud, names)),
        Box::pin(ec2::addresses(cloud, names)),
        Box::pin(ec2::network_fences(cloud, names)),
        Box::pin(ec2::machine_and_image(cloud, &wanted.instance_type, &wanted.image)),
    )?;
    let (machine_type, image) = machine_and_image;
    let mut other_types = BTreeMap::new();
    for instance in instances.iter().filter(|one| one.instance_type != wanted.instance_type) {
        if let Some(machine) = ec2::machine_type(cloud, &instance.instance_type).await? {
            other_types.insert(instance.instance_type.clone(), machine);
        }
    }
    Ok(Found {
        bucket,
        secrets,
        key_pair,
        network,
        group,
        role,
        profile,
        instances,
        addresses,
        fences,
        image,
        machine_type,
        other_types,
    })
}

/// Returns the environment's secrets from SSM, without those that do not exist yet.
pub async fn secrets(cloud: &Cloud, names: &Names, parameters: &[ParameterWanted]) -> Result<Secrets> {
    let prefix = names.parameters();
    let full: Vec<String> = parameters
        .iter()
        .map(|parameter| format!("{prefix}{}", parameter.name))
        .collect();
    let values: BTreeMap<String, Secret> = ssm::read(cloud, &full)
        .await?
        .into_iter()
        .filter_map(|(name, value)| Some((name.strip_prefix(&prefix)?.to_string(), value)))
        .collect();
    Ok(Secrets::new(prefix, values))
}
