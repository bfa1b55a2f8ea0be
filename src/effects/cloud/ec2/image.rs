//! Images and machine types.

use crate::effects::cloud::Cloud;
use crate::effects::cloud::failure::{Explain, code};
use crate::effects::cloud::ssm;
use crate::model::cloud::{Image, MachineType, Permission};
use crate::model::error::{Error, Result};
use aws_sdk_ec2::types::{ArchitectureType, InstanceType, NetworkCardInfo, NetworkInfo};

/// Returns the machine type and its image, if found. `image` is `debian-<release>` or an AMI id.
pub async fn machine_and_image(
    cloud: &Cloud,
    instance_type: &str,
    image: &str,
) -> Result<(Option<MachineType>, Option<Image>)> {
    if image.starts_with("ami-") {
        return tokio::try_join!(machine_type(cloud, instance_type), describe_image(cloud, image));
    }
    let release = image
        .strip_prefix("debian-")
        .filter(|release| release.bytes().all(|b| b.is_ascii_digit()));
    let Some(release) = release.filter(|release| !release.is_empty()) else {
        return Err(Error::usage(format!("understand the image {image:?}"))
            .hint("correct `hosts.image` in infra.yml: `debian-13`, or an AMI id"));
    };
    // Both architectures are read, since the machine type is only known after the same round trip.
    let folder = format!("/aws/service/debian/release/{release}/latest/");
    let parameters = ["amd64", "arm64"].map(|architecture| format!("{folder}{architecture}"));
    let (machine_type, ids) = tokio::try_join!(machine_type(cloud, instance_type), ssm::read(cloud, &parameters))?;
    let id = machine_type
        .as_ref()
        .and_then(|machine| ids.get(&format!("{folder}{}", machine.architecture)));
    let image = match id {
        Some(id) => describe_image(cloud, id.expose()).await?,
        None => None,
    };
    Ok((machine_type, image))
}

/// Returns the machine type; `None` if the region has none of this name.
pub async fn machine_type(cloud: &Cloud, instance_type: &str) -> Result<Option<MachineType>> {
    let answer = cloud
        .ec2
        .describe_instance_types()
        .instance_types(InstanceType::from(instance_type))
        .send()
        .await;
    let answer = match answer {
        Err(error) if code(&error).starts_with("InvalidInstanceType") => return Ok(None),
        answer => answer.explain(Permission::DescribeInstanceTypes, || {
            format!("look for the instance type {instance_type}")
        })?,
    };
    Ok(answer.instance_types.unwrap_or_default().first().map(|found| {
        let memory_mib = found
            .memory_info()
            .and_then(|memory| memory.size_in_mib())
            .unwrap_or_default();
        let arm = found
            .processor_info()
            .is_some_and(|processor| processor.supported_architectures().contains(&ArchitectureType::Arm64));
        MachineType {
            memory_bytes: u64::try_from(memory_mib).unwrap_or_default() << 20,
            network_bytes_per_s: found.network_info().and_then(baseline),
            architecture: if arm { "arm64" } else { "amd64" }.to_string(),
        }
    }))
}

/// Returns the network that all cards have together all the time, in bytes a second.
fn baseline(network: &NetworkInfo) -> Option<u64> {
    let cards = network.network_cards();
    let gigabits: f64 = cards
        .iter()
        .filter_map(NetworkCardInfo::baseline_bandwidth_in_gbps)
        .sum();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a number above zero; the cast saturates"
    )]
    let bytes = (gigabits * 125_000_000.0) as u64;
    (bytes > 0).then_some(bytes)
}

/// Returns the image with this id, if it can be used.
pub async fn describe_image(cloud: &Cloud, id: &str) -> Result<Option<Image>> {
    // By a filter alone, an image that its owner has deprecated is left out; it can still be used.
    let describe = cloud.ec2.describe_images().image_ids(id).include_deprecated(true);
    let answer = describe.send().await;
    let answer = match answer {
        Err(error) if code(&error).starts_with("InvalidAMIID") => return Ok(None),
        answer => answer.explain(Permission::DescribeImages, || format!("look for the image {id}"))?,
    };
    let image = answer.images.unwrap_or_default().into_iter().next();
    Ok(image.and_then(|image| {
        let root_device = image.root_device_name?;
        let of_root = |device: Option<&str>| device == Some(root_device.as_str());
        let smallest = image
            .block_device_mappings
            .unwrap_or_default()
            .iter()
            .find(|mapping| of_root(mapping.device_name()))
            .and_then(|mapping| mapping.ebs()?.volume_size());
        Some(Image {
            id: image.image_id?,
            smallest_gb: smallest.and_then(|gb| u32::try_from(gb).ok()).unwrap_or_default(),
            root_device,
        })
    }))
}
