//! The hosts' disks, which can only grow.

use super::ours;
use crate::effects::cloud::Cloud;
use crate::effects::cloud::failure::{Explain, code};
use crate::model::cloud::Permission;
use crate::model::error::{Error, Result};
use crate::model::names::Names;
use std::collections::BTreeMap;

/// The root volume of an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    pub volume: String,
    pub gb: u32,
}

/// Returns the root volumes, by instance.
pub async fn disks(cloud: &Cloud, names: &Names) -> Result<BTreeMap<String, Disk>> {
    let answer = cloud
        .ec2
        .describe_volumes()
        .set_filters(Some(ours(names)))
        .send()
        .await
        .explain(Permission::DescribeVolumes, || {
            "look for the environment's disks".into()
        })?;
    let mut disks = BTreeMap::new();
    for volume in answer.volumes.unwrap_or_default() {
        let attachment = volume.attachments().first();
        let instance = attachment.and_then(|attachment| attachment.instance_id());
        if let (Some(instance), Some(id), Some(size)) = (instance, volume.volume_id(), volume.size()) {
            let gb = u32::try_from(size).unwrap_or_default();
            disks.insert(instance.to_string(), Disk { volume: id.into(), gb });
        }
    }
    Ok(disks)
}

/// Asks EC2 for a larger disk. It goes on being used meanwhile.
pub async fn grow_disk(cloud: &Cloud, volume: &str, gb: u32) -> Result<()> {
    let size = i32::try_from(gb).unwrap_or(i32::MAX);
    let modify = cloud.ec2.modify_volume().volume_id(volume).size(size);
    let doing = || format!("let the disk {volume} grow to {gb} GB");
    match modify.send().await {
        Err(error) if code(&error) == "VolumeModificationRateExceeded" => Err(Error::failed(doing())
            .because("EC2 changes a disk only once in six hours")
            .hint("run the same command again later")),
        Err(error) if code(&error) == "IncorrectModificationState" => Err(Error::failed(doing())
            .because("EC2 is still at work on its last change")
            .hint(
                "run the same command again in an hour; `aws ec2 describe-volumes-modifications` shows how far it is",
            )),
        answer => answer.explain(Permission::ModifyVolume, doing).map(drop),
    }
}

/// Returns EC2's word for how far the last change of a disk is; `None` if it was never changed.
pub async fn disk_change(cloud: &Cloud, volume: &str) -> Result<Option<String>> {
    let describe = cloud.ec2.describe_volumes_modifications().volume_ids(volume);
    let answer = match describe.send().await {
        Err(error) if code(&error) == "InvalidVolumeModification.NotFound" => return Ok(None),
        answer => answer.explain(Permission::DescribeVolumesModifications, || {
            format!("ask how far the change of the disk {volume} is")
        })?,
    };
    let changes = answer.volumes_modifications.unwrap_or_default();
    let newest = changes
        .into_iter()
        .max_by_key(|change| change.start_time.map(|time| time.secs()));
    Ok(newest.and_then(|change| Some(change.modification_state?.as_str().to_string())))
}
