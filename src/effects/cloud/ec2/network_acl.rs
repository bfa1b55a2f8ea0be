//! The network ACL that cuts a host off, when EC2 does not say that it is stopped.

use super::{filter, ours, specification, state_of, tag, tags};
use crate::effects::cloud::Cloud;
use crate::effects::cloud::failure::{Explain, code};
use crate::model::cloud::{NetworkFence, Permission, Place};
use crate::model::error::{Error, Result};
use crate::model::names::Names;
use aws_sdk_ec2::types::{Filter, NetworkAcl, ResourceType};

/// The instance that an ACL cuts off.
const TAG_FENCES: &str = "infra:fences";
/// The ACL in whose place it stands.
const TAG_REPLACED: &str = "infra:replaced";
const NO_ACL: &str = "InvalidNetworkAclID.NotFound";

/// Returns the environment's network ACLs, in force or not.
pub async fn network_fences(cloud: &Cloud, names: &Names) -> Result<Vec<NetworkFence>> {
    let found = acls(cloud, ours(names), "look for network ACLs of the environment").await?;
    Ok(found.into_iter().filter_map(from_ec2).collect())
}

fn from_ec2(acl: NetworkAcl) -> Option<NetworkFence> {
    let tags = acl.tags.unwrap_or_default();
    let association = acl.associations.unwrap_or_default().into_iter().next();
    Some(NetworkFence {
        acl: acl.network_acl_id?,
        vpc: acl.vpc_id?,
        replaced: tag(&tags, TAG_REPLACED)?.to_string(),
        instance: tag(&tags, TAG_FENCES)?.to_string(),
        association: association.and_then(|held| Some((held.subnet_id?, held.network_acl_association_id?))),
    })
}

async fn acls(cloud: &Cloud, which: Vec<Filter>, doing: &str) -> Result<Vec<NetworkAcl>> {
    let asked = cloud.ec2.describe_network_acls().set_filters(Some(which));
    let answer = asked
        .send()
        .await
        .explain(Permission::DescribeNetworkAcls, || doing.into())?;
    Ok(answer.network_acls.unwrap_or_default())
}

/// Returns the network of an instance, with everybody else in its subnet.
pub async fn place_of(cloud: &Cloud, instance: &str) -> Result<Place> {
    let own = interfaces(cloud, filter("attachment.instance-id", instance)).await?;
    let (vpc, subnet) = own
        .first()
        .and_then(|interface| Some((interface.vpc_id.clone()?, interface.subnet_id.clone()?)))
        .ok_or_else(|| Error::failed(format!("find the subnet of {instance}: it has no network interface")))?;
    let others = interfaces(cloud, filter("subnet-id", &subnet)).await?;
    let is_other = |id: &String| own.iter().all(|interface| interface.network_interface_id() != Some(id));
    let others = others
        .into_iter()
        .filter_map(|interface| interface.network_interface_id);
    Ok(Place {
        vpc,
        subnet,
        others: others.filter(is_other).collect(),
    })
}

async fn interfaces(cloud: &Cloud, which: Filter) -> Result<Vec<aws_sdk_ec2::types::NetworkInterface>> {
    let asked = cloud.ec2.describe_network_interfaces().filters(which);
    let answer = asked.send().await.explain(Permission::DescribeNetworkInterfaces, || {
        "look who is in the subnet of the old master".into()
    })?;
    Ok(answer.network_interfaces.unwrap_or_default())
}

/// Makes a network ACL that denies everything, and puts it in the place of the subnet's own one.
pub async fn cut_off(cloud: &Cloud, names: &Names, instance: &str, place: &Place) -> Result<NetworkFence> {
    let (subnet, doing) = (&place.subnet, format!("cut off the subnet {}", place.subnet));
    let standing = acls(cloud, vec![filter("association.subnet-id", subnet)], &doing).await?;
    let (replaced, association) = standing
        .into_iter()
        .find_map(|acl| {
            let mut held = acl.associations.unwrap_or_default().into_iter();
            let held = held.find(|held| held.subnet_id.as_ref() == Some(subnet))?;
            Some((acl.network_acl_id?, held.network_acl_association_id?))
        })
        .ok_or_else(|| Error::failed(&*doing).because("EC2 names no network ACL for it"))?;
    let mut tags = tags(names, &format!("{} fence", names.resource()), None);
    tags.push((TAG_FENCES.into(), instance.into()));
    tags.push((TAG_REPLACED.into(), replaced.clone()));
    let made = cloud
        .ec2
        .create_network_acl()
        .vpc_id(&place.vpc)
        .tag_specifications(specification(ResourceType::NetworkAcl, &tags));
    let made = made
        .send()
        .await
        .explain(Permission::CreateNetworkAcl, || doing.clone())?;
    let acl = made
        .network_acl
        .and_then(|acl| acl.network_acl_id)
        .ok_or_else(|| Error::failed(&*doing).because("EC2 gave no id of the network ACL"))?;
    let association = associate(cloud, &association, &acl, &doing).await?;
    Ok(NetworkFence {
        acl,
        vpc: place.vpc.clone(),
        replaced,
        instance: instance.into(),
        association: Some((subnet.clone(), association)),
    })
}

/// Gives a subnet another ACL, and returns the id of the new association.
async fn associate(cloud: &Cloud, association: &str, acl: &str, doing: &str) -> Result<String> {
    let replace = cloud.ec2.replace_network_acl_association();
    let replace = replace.association_id(association).network_acl_id(acl);
    let needed = Permission::ReplaceNetworkAclAssociation;
    let done = cloud.patience.seen(needed, || doing.into(), || replace.clone().send());
    Ok(done.await?.new_association_id.unwrap_or_default())
}

/// Gives the subnet its own ACL back and removes ours. Fails while the instance may still run.
pub async fn lift_fence_of_stopped(cloud: &Cloud, fence: &NetworkFence) -> Result<()> {
    let state = state_of(cloud, &fence.instance).await?;
    let state = state.as_deref().unwrap_or("terminated");
    let is_in_force = fence.association.is_some();
    if is_in_force && !matches!(state, "stopped" | "terminated") {
        let id = &fence.instance;
        return Err(Error::failed(format!(
            "take back the network ACL {}: EC2 says that {id} is {state}, and it may still take writes",
            fence.acl
        ))
        .hint(format!(
            "stop it with `aws ec2 stop-instances --force --instance-ids {id}`, or end it with `terminate-instances`, then run the same command again"
        )));
    }
    lift_fence(cloud, fence).await
}

/// Gives the subnet its own ACL back and removes ours, whatever the instance does.
pub async fn lift_fence(cloud: &Cloud, fence: &NetworkFence) -> Result<()> {
    let doing = format!("take back the network ACL {}", fence.acl);
    if let Some((_, association)) = &fence.association {
        // Its own ACL may be gone; the network's default one never is.
        let own = acls(cloud, vec![filter("vpc-id", &fence.vpc)], &doing).await?;
        let own = own
            .iter()
            .find(|acl| acl.network_acl_id() == Some(&fence.replaced))
            .or_else(|| own.iter().find(|acl| acl.is_default() == Some(true)))
            .and_then(NetworkAcl::network_acl_id)
            .ok_or_else(|| Error::failed(&*doing).because(format!("{} has no default network ACL", fence.vpc)))?;
        associate(cloud, association, own, &doing).await?;
    }
    match cloud.ec2.delete_network_acl().network_acl_id(&fence.acl).send().await {
        Err(error) if code(&error) == NO_ACL => Ok(()),
        answer => answer.map(drop).explain(Permission::DeleteNetworkAcl, || doing),
    }
}
