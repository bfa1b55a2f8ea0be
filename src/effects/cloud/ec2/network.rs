//! The existing network: VPC, subnets, and which zones have which machines.

use super::filter;
use crate::effects::cloud::Cloud;
use crate::effects::cloud::failure::{Explain, code};
use crate::model::cloud::{Network, Permission, Subnet};
use crate::model::error::Result;
use aws_sdk_ec2::types::{InstanceType, LocationType};
use std::collections::BTreeSet;

/// Returns the default VPC and subnets, or the named ones, and the zones with `instance_type`.
pub async fn network(cloud: &Cloud, subnet: Option<&str>, instance_type: &str) -> Result<Network> {
    let (subnets, offering_zones) = tokio::join!(subnets(cloud, subnet), offering_zones(cloud, instance_type));
    let (vpc, subnets) = subnets?;
    Ok(Network {
        vpc,
        subnets,
        offering_zones: offering_zones?,
    })
}

async fn subnets(cloud: &Cloud, named: Option<&str>) -> Result<(Option<String>, Vec<Subnet>)> {
    let which = match named {
        Some(id) => filter("subnet-id", id),
        // Only a default VPC has default subnets.
        None => filter("default-for-az", "true"),
    };
    let answer = cloud
        .ec2
        .describe_subnets()
        .filters(which)
        .send()
        .await
        .explain(Permission::DescribeSubnets, || "look for subnets".into())?;
    let subnets = answer.subnets.unwrap_or_default();
    let vpc = subnets.first().and_then(|subnet| subnet.vpc_id.clone());
    let subnets = subnets.into_iter().filter_map(|subnet| {
        Some(Subnet {
            id: subnet.subnet_id?,
            zone: subnet.availability_zone?,
        })
    });
    Ok((vpc, subnets.collect()))
}

async fn offering_zones(cloud: &Cloud, instance_type: &str) -> Result<BTreeSet<String>> {
    let answer = cloud
        .ec2
        .describe_instance_type_offerings()
        .location_type(LocationType::AvailabilityZone)
        .filters(filter("instance-type", InstanceType::from(instance_type).as_str()))
        .send()
        .await;
    let answer = match answer {
        Err(error) if code(&error).starts_with("InvalidInstanceType") => return Ok(BTreeSet::new()),
        answer => answer.explain(Permission::DescribeInstanceTypeOfferings, || {
            format!("ask which zones offer {instance_type}")
        })?,
    };
    let offerings = answer.instance_type_offerings.unwrap_or_default().into_iter();
    Ok(offerings.filter_map(|offering| offering.location).collect())
}
