//! Facts for `check` before anything exists. Describe calls change nothing and prove no permission.

use super::{Cloud, ec2};
use crate::model::cloud::{Image, MachineType};
use crate::model::error::{Error, Result};

/// Returns the machine type, or an error that names the field of infra.yml.
pub async fn machine_type(cloud: &Cloud, instance_type: &str) -> Result<MachineType> {
    ec2::machine_type(cloud, instance_type)
        .await?
        .ok_or_else(|| no_machine_type(cloud, instance_type))
}

/// Returns the image and its machine type, or an error that names the field of infra.yml.
pub async fn image(cloud: &Cloud, instance_type: &str, image: &str) -> Result<(MachineType, Image)> {
    let (machine, found) = ec2::machine_and_image(cloud, instance_type, image).await?;
    let machine = machine.ok_or_else(|| no_machine_type(cloud, instance_type))?;
    let found = found.ok_or_else(|| {
        Error::usage(format!(
            "find the image {image} for {} in {}",
            machine.architecture,
            cloud.region()
        ))
        .hint("correct `hosts.image` in infra.yml: `debian-13`, or an AMI id of this region")
    })?;
    Ok((machine, found))
}

fn no_machine_type(cloud: &Cloud, instance_type: &str) -> Error {
    Error::usage(format!("find the instance type {instance_type} in {}", cloud.region()))
        .hint("correct `hosts.instance_type` in infra.yml, for example t3.micro")
}
