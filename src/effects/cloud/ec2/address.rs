//! The Elastic IP that is the endpoint.

use super::{ours, specification, tags};
use crate::effects::cloud::Cloud;
use crate::effects::cloud::failure::{Explain, NO_ADDRESS, code};
use crate::model::cloud::{Address, Permission};
use crate::model::error::{Error, Result};
use crate::model::names::Names;
use aws_sdk_ec2::config::retry::RetryConfig;
use aws_sdk_ec2::types::{DomainType, ResourceType};

pub async fn addresses(cloud: &Cloud, names: &Names) -> Result<Vec<Address>> {
    let answer = cloud
        .ec2
        .describe_addresses()
        .set_filters(Some(ours(names)))
        .send()
        .await
        .explain(Permission::DescribeAddresses, || {
            "look for the environment's address".into()
        })?;
    let found = answer.addresses.unwrap_or_default().into_iter().filter_map(|address| {
        Some(Address {
            allocation_id: address.allocation_id?,
            public_ip: address.public_ip?,
            instance: address.instance_id.filter(|id| !id.is_empty()),
        })
    });
    Ok(found.collect())
}

/// Allocates an address, or returns one with the environment's tags. The call has no client token,
/// so it is not repeated blindly: after a lost answer the next run finds the address by tag.
pub async fn allocate_address(cloud: &Cloud, names: &Names, name: &str) -> Result<Address> {
    if let Some(there) = addresses(cloud, names).await?.into_iter().next() {
        return Ok(there);
    }
    let once = aws_sdk_ec2::config::Builder::new().retry_config(RetryConfig::disabled());
    let answer = cloud
        .ec2
        .allocate_address()
        .domain(DomainType::Vpc)
        .tag_specifications(specification(ResourceType::ElasticIp, &tags(names, name, None)))
        .customize()
        .config_override(once)
        .send()
        .await
        .explain(Permission::AllocateAddress, || format!("allocate the address {name}"))?;
    match (answer.allocation_id, answer.public_ip) {
        (Some(allocation_id), Some(public_ip)) => Ok(Address {
            allocation_id,
            public_ip,
            instance: None,
        }),
        _ => Err(Error::failed(format!("allocate the address {name}")).because("ec2:AllocateAddress gave no address")),
    }
}

/// Moves the address to the instance, from any other one.
pub async fn associate(cloud: &Cloud, address: &Address, instance: &str) -> Result<()> {
    let associate = cloud.ec2.associate_address().allocation_id(&address.allocation_id);
    let associate = associate.instance_id(instance).allow_reassociation(true);
    let doing = || format!("lead the address {} to {instance}", address.public_ip);
    let done = cloud
        .patience
        .seen(Permission::AssociateAddress, doing, || associate.clone().send());
    done.await.map(drop)
}

/// Releases the address. Returns false while it is in use; true also if it is gone already.
pub async fn release_address(cloud: &Cloud, address: &Address) -> Result<bool> {
    match cloud
        .ec2
        .release_address()
        .allocation_id(&address.allocation_id)
        .send()
        .await
    {
        Err(error) if NO_ADDRESS.contains(&code(&error)) => Ok(true),
        Err(error) if code(&error) == "InvalidIPAddress.InUse" => Ok(false),
        answer => answer.map(|_| true).explain(Permission::ReleaseAddress, || {
            format!("release the address {}", address.public_ip)
        }),
    }
}
