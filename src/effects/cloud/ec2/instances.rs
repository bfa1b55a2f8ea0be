//! Finds instances by tag, and makes them under a client token, so that requests can repeat.

use super::disk::disks;
use super::{TAG_GENERATION, TAG_IMAGE, TAG_ROLE, filter, ours, specification, tag, tags};
use crate::effects::cloud::Cloud;
use crate::effects::cloud::failure::{Explain, NO_GROUP, code, explained};
use crate::model::cloud::{HostSpec, Instance, Permission, client_token};
use crate::model::error::{Error, Result};
use crate::model::names::Names;
use crate::model::role::Role;
use crate::model::secret::Secret;
use aws_sdk_ec2::types::{
    AttributeValue, BlockDeviceMapping, EbsBlockDevice, Filter, HttpTokensState, IamInstanceProfileSpecification,
    InstanceMetadataEndpointState, InstanceMetadataOptionsRequest, InstanceNetworkInterfaceSpecification, InstanceType,
    ResourceType, Tag, VolumeType,
};

/// Limit of tokens to try, while the machine of each has been terminated. Each replacement takes one.
const ATTEMPTS: u32 = 100;

/// Returns the environment's instances, without those that are terminated or about to be.
pub async fn instances(cloud: &Cloud, names: &Names) -> Result<Vec<Instance>> {
    let (mut instances, disks) = tokio::try_join!(
        describe(cloud, ours(names), "look for the environment's instances"),
        disks(cloud, names)
    )?;
    instances.retain(|instance| !is_gone(&instance.state));
    for instance in &mut instances {
        instance.disk_gb = disks.get(&instance.id).map(|disk| disk.gb);
    }
    Ok(instances)
}

/// Returns all instances of the environment but terminated ones, also those without a role.
pub async fn instance_ids(cloud: &Cloud, names: &Names) -> Result<Vec<(String, String)>> {
    let answer = cloud
        .ec2
        .describe_instances()
        .set_filters(Some(ours(names)))
        .send()
        .await
        .explain(Permission::DescribeInstances, || {
            "look for the environment's instances".into()
        })?;
    let reservations = answer.reservations.unwrap_or_default().into_iter();
    let instances = reservations.flat_map(|reservation| reservation.instances.unwrap_or_default());
    let states = instances.filter_map(|instance| {
        let state = instance
            .state
            .and_then(|state| state.name)
            .map(|name| name.as_str().to_string());
        Some((instance.instance_id?, state.unwrap_or_default()))
    });
    Ok(states.filter(|(_, state)| state != "terminated").collect())
}

/// Returns the instance with this id; `None` while EC2 does not know it everywhere yet.
pub async fn instance(cloud: &Cloud, id: &str) -> Result<Option<Instance>> {
    let found = describe(cloud, vec![filter("instance-id", id)], "look for an instance").await?;
    Ok(found.into_iter().next())
}

/// Returns EC2's reason if the instance has ended or is about to.
pub async fn end(cloud: &Cloud, id: &str) -> Result<Option<String>> {
    let found = standing(cloud, filter("instance-id", id), "look for an instance").await?;
    Ok(found.filter(|instance| is_gone(&instance.state)).map(|instance| {
        let reason = instance.reason.unwrap_or_else(|| "EC2 does not say why".into());
        format!("{}: {reason}", instance.state)
    }))
}

/// Returns the error of an instance that ended instead of running.
pub fn ended(id: &str, why: &str) -> Error {
    // EC2 ends an instance so if it cannot use the key of its disk.
    let hint = if why.contains("Client.InternalError") {
        "the account most likely encrypts disks by a KMS key that EC2 may not use: see which with `aws ec2 \
         get-ebs-default-kms-key-id`, and let the key's policy allow these credentials to create grants, or set \
         another default"
    } else {
        "run the same command again; if it happens twice, name another zone or instance type"
    };
    Error::failed(format!("start {id}: it is {why}")).hint(hint)
}

/// Requests a host and returns its id, or `NotYet` while EC2 does not see its parts.
///
/// The token is of the role that the host gets. After a failover the first token of a role may
/// have made the host of the other one: `standing` has the ids that are in use.
pub async fn run(
    cloud: &Cloud,
    names: &Names,
    host: &HostSpec,
    group: &str,
    user_data: &Secret,
    standing: &[String],
) -> Result<Run> {
    let mut tags = tags(names, &host.name, Some(host.role));
    tags.push((TAG_GENERATION.to_string(), host.generation.to_string()));
    tags.push((TAG_IMAGE.to_string(), host.image_name.clone()));
    let asked = Asked {
        host,
        group,
        user_data,
        tags,
        with_role: true,
        standing,
    };
    run_asked(cloud, names, &asked, |attempt| {
        client_token(names, host.role, host.generation, attempt)
    })
    .await
}

pub(super) struct Asked<'a> {
    pub host: &'a HostSpec,
    pub group: &'a str,
    pub user_data: &'a Secret,
    pub tags: Vec<(String, String)>,
    /// True if it gets the environment's IAM role.
    pub with_role: bool,
    /// Instances of the environment that are none of what is asked for.
    pub standing: &'a [String],
}

/// Tries one token after the other until its machine is not terminated.
pub(super) async fn run_asked(
    cloud: &Cloud,
    names: &Names,
    asked: &Asked<'_>,
    token: impl Fn(u32) -> String,
) -> Result<Run> {
    use base64::Engine;
    let Asked { host, group, tags, .. } = asked;
    let user_data = base64::engine::general_purpose::STANDARD.encode(asked.user_data.expose());
    let interface = InstanceNetworkInterfaceSpecification::builder()
        .device_index(0)
        .subnet_id(&host.subnet)
        .groups(*group)
        .associate_public_ip_address(true)
        .delete_on_termination(true)
        .build();
    let disk = EbsBlockDevice::builder()
        .volume_type(VolumeType::Gp3)
        .volume_size(i32::try_from(host.disk_gb).unwrap_or(i32::MAX))
        .encrypted(true)
        .delete_on_termination(true)
        .build();
    let disk = BlockDeviceMapping::builder()
        .device_name(&host.root_device)
        .ebs(disk)
        .build();
    // One hop, so that a container on the host cannot get the host's credentials.
    let metadata = InstanceMetadataOptionsRequest::builder()
        .http_endpoint(InstanceMetadataEndpointState::Enabled)
        .http_tokens(HttpTokensState::Required)
        .http_put_response_hop_limit(1)
        .build();
    let profile = IamInstanceProfileSpecification::builder()
        .name(names.resource())
        .build();
    let profile = asked.with_role.then_some(profile);
    for attempt in 0..ATTEMPTS {
        let token = token(attempt);
        // EC2 takes a token once for each zone, and the zones of infra.yml may have changed since.
        if let Some(there) = by_token(cloud, &token).await? {
            if is_gone(&there.state) || asked.standing.contains(&there.id) {
                continue;
            }
            return Ok(Run::Made(there.id));
        }
        let answer = cloud
            .ec2
            .run_instances()
            .client_token(&token)
            .image_id(&host.image_id)
            .instance_type(InstanceType::from(host.instance_type.as_str()))
            .min_count(1)
            .max_count(1)
            .key_name(names.resource())
            .set_iam_instance_profile(profile.clone())
            .network_interfaces(interface.clone())
            .block_device_mappings(disk.clone())
            .metadata_options(metadata.clone())
            .user_data(&user_data)
            .tag_specifications(specification(ResourceType::Instance, tags))
            .tag_specifications(specification(ResourceType::Volume, tags))
            .send()
            .await;
        let id = match answer {
            Ok(answer) => answer
                .instances
                .unwrap_or_default()
                .into_iter()
                .next()
                .and_then(|made| made.instance_id),
            // An earlier request with other parameters made it: that machine counts.
            Err(error) if code(&error) == "IdempotentParameterMismatch" => {
                by_token(cloud, &token).await?.map(|instance| instance.id)
            }
            Err(error) => return not_yet(&error, host),
        };
        let id =
            id.ok_or_else(|| Error::failed(format!("make the instance {}", host.name)).because("EC2 gave no id"))?;
        // One that ends at once is found by its id, with EC2's reason.
        return Ok(Run::Made(id));
    }
    Err(Error::failed(format!("make the instance {}", host.name))
        .because(format!(
            "{ATTEMPTS} instances of pair number {} were terminated, and `infra` makes no more for one pair",
            host.generation
        ))
        .hint(
            "move the app away first (docs/growing.md, \"The way out\"), since `infra down` removes the pair with its data; then `infra down` and `infra up`",
        ))
}

/// The outcome of a request for an instance.
pub enum Run {
    Made(String),
    /// Names what EC2 does not see yet, though it was just made.
    NotYet(String),
}

fn not_yet<E>(
    error: &aws_sdk_ec2::error::SdkError<E, aws_sdk_ec2::config::http::HttpResponse>,
    host: &HostSpec,
) -> Result<Run>
where
    E: aws_smithy_types::error::metadata::ProvideErrorMetadata + std::error::Error + 'static,
{
    let message = error
        .as_service_error()
        .and_then(|error| error.message())
        .unwrap_or_default();
    let profile = code(error) == "InvalidParameterValue" && message.to_ascii_lowercase().contains("instance profile");
    let waiting_for = match code(error) {
        _ if profile => "the instance profile",
        "InvalidKeyPair.NotFound" => "the key pair",
        name if NO_GROUP.contains(&name) => "the security group",
        _ => {
            let what = format!(
                "make the instance {} ({} in {})",
                host.name, host.instance_type, host.zone
            );
            return Err(explained(error, Permission::RunInstances, what));
        }
    };
    Ok(Run::NotYet(format!("EC2 does not see {waiting_for} yet")))
}

/// Gives an instance the name and the tag of its new role.
pub async fn tag_role(cloud: &Cloud, names: &Names, id: &str, role: Role) -> Result<()> {
    let tags = [("Name", names.host(role)), (TAG_ROLE, role.to_string())];
    cloud
        .ec2
        .create_tags()
        .resources(id)
        .set_tags(Some(
            tags.map(|(key, value)| Tag::builder().key(key).value(value).build())
                .into(),
        ))
        .send()
        .await
        .explain(Permission::CreateTags, || format!("tag {id} as the {role}"))?;
    Ok(())
}

/// Returns EC2's word for an instance's state, whatever its tags; `None` if EC2 does not know it.
pub async fn state_of(cloud: &Cloud, id: &str) -> Result<Option<String>> {
    let found = standing(cloud, filter("instance-id", id), "look for an instance").await?;
    Ok(found.map(|instance| instance.state))
}

/// Asks EC2 to stop an instance. `hard` cuts its power, so that it writes nothing more to its disk.
pub async fn stop(cloud: &Cloud, id: &str, hard: bool) -> Result<()> {
    cloud
        .ec2
        .stop_instances()
        .instance_ids(id)
        .force(hard)
        .send()
        .await
        .explain(Permission::StopInstances, || format!("stop {id}"))?;
    Ok(())
}

pub async fn start(cloud: &Cloud, id: &str) -> Result<()> {
    cloud
        .ec2
        .start_instances()
        .instance_ids(id)
        .send()
        .await
        .explain(Permission::StartInstances, || format!("start {id}"))?;
    Ok(())
}

/// Gives a stopped instance another type. EC2 refuses that while it runs.
pub async fn set_type(cloud: &Cloud, id: &str, instance_type: &str) -> Result<()> {
    let value = AttributeValue::builder().value(instance_type).build();
    let modify = cloud.ec2.modify_instance_attribute().instance_id(id);
    modify
        .instance_type(value)
        .send()
        .await
        .explain(Permission::ModifyInstanceAttribute, || {
            format!("make {id} a {instance_type}")
        })?;
    Ok(())
}

/// Terminates these instances. Ignores those that are gone already.
pub async fn terminate(cloud: &Cloud, ids: &[String]) -> Result<()> {
    for id in ids {
        match cloud.ec2.terminate_instances().instance_ids(id).send().await {
            Err(error) if code(&error) == "InvalidInstanceID.NotFound" => {}
            answer => {
                answer.explain(Permission::TerminateInstances, || format!("terminate {id}"))?;
            }
        }
    }
    Ok(())
}

pub(crate) fn is_gone(state: &str) -> bool {
    matches!(state, "terminated" | "shutting-down")
}

/// Any instance, with or without a role in the pair.
struct Standing {
    id: String,
    state: String,
    reason: Option<String>,
}

async fn by_token(cloud: &Cloud, token: &str) -> Result<Option<Standing>> {
    let doing = "look for an instance by its client token";
    standing(cloud, filter("client-token", token), doing).await
}

async fn standing(cloud: &Cloud, which: Filter, doing: &str) -> Result<Option<Standing>> {
    let answer = cloud.ec2.describe_instances().filters(which).send().await;
    let reservations = match answer {
        Err(error) if code(&error) == "InvalidInstanceID.NotFound" => return Ok(None),
        answer => {
            answer
                .explain(Permission::DescribeInstances, || doing.into())?
                .reservations
        }
    };
    let reservations = reservations.unwrap_or_default().into_iter();
    let mut instances = reservations.flat_map(|reservation| reservation.instances.unwrap_or_default());
    Ok(instances.find_map(|instance| {
        let state = instance.state.and_then(|state| state.name);
        let reason = instance.state_reason.and_then(|reason| reason.message);
        Some(Standing {
            id: instance.instance_id?,
            state: state.map(|name| name.as_str().to_string()).unwrap_or_default(),
            reason: reason.filter(|reason| !reason.is_empty()),
        })
    }))
}

async fn describe(cloud: &Cloud, filters: Vec<Filter>, what: &str) -> Result<Vec<Instance>> {
    let answer = cloud.ec2.describe_instances().set_filters(Some(filters)).send().await;
    let answer = match answer {
        Err(error) if code(&error) == "InvalidInstanceID.NotFound" => return Ok(Vec::new()),
        answer => answer.explain(Permission::DescribeInstances, || what.to_string())?,
    };
    let reservations = answer.reservations.unwrap_or_default().into_iter();
    let instances = reservations.flat_map(|reservation| reservation.instances.unwrap_or_default());
    Ok(instances.filter_map(from_ec2).collect())
}

/// Returns `None` for an instance without a role, which is no host of the pair.
fn from_ec2(instance: aws_sdk_ec2::types::Instance) -> Option<Instance> {
    let tags = instance.tags.unwrap_or_default();
    Some(Instance {
        id: instance.instance_id?,
        role: tag(&tags, TAG_ROLE)?.parse().ok()?,
        state: instance
            .state
            .and_then(|state| state.name)
            .map(|name| name.as_str().to_string())
            .unwrap_or_default(),
        instance_type: instance
            .instance_type
            .map(|kind| kind.as_str().to_string())
            .unwrap_or_default(),
        image_id: instance.image_id.unwrap_or_default(),
        image_name: tag(&tags, TAG_IMAGE).map(str::to_string),
        disk_gb: None,
        zone: instance
            .placement
            .and_then(|placement| placement.availability_zone)
            .unwrap_or_default(),
        private_ip: instance.private_ip_address,
        public_ip: instance.public_ip_address.filter(|address| !address.is_empty()),
        generation: tag(&tags, TAG_GENERATION).and_then(|generation| generation.parse().ok()),
        reason: instance
            .state_reason
            .and_then(|reason| reason.message)
            .filter(|reason| !reason.is_empty()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_sdk_ec2::config::http::HttpResponse;
    use aws_sdk_ec2::error::{ErrorMetadata, SdkError};
    use aws_sdk_ec2::operation::run_instances::RunInstancesError;
    use aws_smithy_types::body::SdkBody;

    fn answered(code: &str, message: &str) -> Result<Run> {
        let host = HostSpec {
            role: Role::Master,
            name: "master".into(),
            instance_type: "t3.micro".into(),
            image_name: "debian-13".into(),
            image_id: "ami-1".into(),
            root_device: "/dev/xvda".into(),
            disk_gb: 16,
            zone: "us-east-1a".into(),
            subnet: "subnet-1".into(),
            generation: 1,
        };
        let metadata = ErrorMetadata::builder().code(code).message(message).build();
        let response = HttpResponse::new(400.try_into().unwrap(), SdkBody::empty());
        not_yet(
            &SdkError::service_error(RunInstancesError::generic(metadata), response),
            &host,
        )
    }

    #[test]
    fn each_part_that_ec2_does_not_see_yet_is_waited_for_and_nothing_else() {
        let profile = "Value (x) for parameter iamInstanceProfile.name is invalid. Invalid IAM Instance Profile name";
        for (code, message, part) in [
            ("InvalidParameterValue", profile, "the instance profile"),
            ("InvalidKeyPair.NotFound", "", "the key pair"),
            ("InvalidGroup.NotFound", "", "the security group"),
            ("InvalidSecurityGroupID.NotFound", "", "the security group"),
        ] {
            let Ok(Run::NotYet(seen)) = answered(code, message) else {
                panic!("{code} ends the wait")
            };
            assert!(seen.contains(part), "{seen}");
        }
        for (code, message) in [
            ("InvalidParameterValue", "Invalid subnet"),
            ("InvalidSubnetID.NotFound", ""),
        ] {
            assert!(answered(code, message).is_err(), "{code} {message}");
        }
    }
}
