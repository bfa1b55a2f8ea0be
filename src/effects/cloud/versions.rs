//! Old versions of objects and delete markers, which remain after an object is removed.

use super::failure::Explain;
use super::s3::{Bucket, timestamp};
use crate::model::cloud::Permission;
use crate::model::error::{Doing, Error, Result};
use aws_sdk_s3::types::{Delete, ObjectIdentifier};
use jiff::Timestamp;

/// One version or delete marker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    pub key: String,
    pub id: String,
    pub written_at: Option<Timestamp>,
    /// True if it only marks that the object was deleted.
    pub is_marker: bool,
}

impl Bucket {
    /// Returns every version and delete marker under a prefix; empty if the bucket is absent.
    pub async fn versions(&self, prefix: &str) -> Result<Vec<Version>> {
        let mut found = Vec::new();
        let (mut key_marker, mut version_marker) = (None, None);
        loop {
            let list = self.client.list_object_versions().bucket(&self.name).prefix(prefix);
            let list = list.set_key_marker(key_marker).set_version_id_marker(version_marker);
            let list = list.expected_bucket_owner(&self.account);
            let needed = Permission::ListBucketVersions;
            let doing = || format!("list the versions in {}", self.url(prefix));
            let asked = self
                .patience
                .of_bucket(&self.name, needed, doing, || list.clone().send());
            let page = Box::pin(asked)
                .await?
                .explain_unless(&["NoSuchBucket"], needed, doing)?;
            let Some(page) = page else { return Ok(Vec::new()) };
            let versions = page
                .versions
                .unwrap_or_default()
                .into_iter()
                .map(|v| (v.key, v.version_id, v.last_modified, false));
            let markers = page
                .delete_markers
                .unwrap_or_default()
                .into_iter()
                .map(|m| (m.key, m.version_id, m.last_modified, true));
            found.extend(versions.chain(markers).filter_map(|(key, id, written_at, is_marker)| {
                Some(Version {
                    key: key?,
                    id: id?,
                    written_at: written_at.as_ref().and_then(timestamp),
                    is_marker,
                })
            }));
            if !page.is_truncated.unwrap_or(false) {
                return Ok(found);
            }
            (key_marker, version_marker) = (page.next_key_marker, page.next_version_id_marker);
        }
    }

    /// Removes these versions for good; with `governed` also those in governance mode.
    pub async fn erase(&self, versions: &[Version], governed: bool) -> Result<()> {
        for some in versions.chunks(1000) {
            let ids = some
                .iter()
                .map(|version| {
                    ObjectIdentifier::builder()
                        .key(&version.key)
                        .version_id(&version.id)
                        .build()
                })
                .collect::<Result<Vec<_>, _>>();
            let delete = ids
                .and_then(|ids| Delete::builder().set_objects(Some(ids)).quiet(true).build())
                .doing(|| format!("name versions in {}", self.url("")))?;
            let erase = self.client.delete_objects().bucket(&self.name).delete(delete);
            let erase = erase.set_bypass_governance_retention(governed.then_some(true));
            let erase = erase.expected_bucket_owner(&self.account);
            let needed = Permission::DeleteObjectVersion;
            let doing = || format!("remove versions from {}", self.url(""));
            let asked = self
                .patience
                .of_bucket(&self.name, needed, doing, || erase.clone().send());
            let answer = Box::pin(asked).await?.explain(needed, doing)?;
            if let Some(first) = answer.errors.unwrap_or_default().first() {
                let permission = if governed {
                    Permission::BypassGovernanceRetention
                } else {
                    Permission::DeleteObjectVersion
                };
                return Err(Error::failed(format!(
                    "remove a version of {}",
                    self.url(first.key().unwrap_or_default())
                ))
                .because(format!(
                    "{} answered {}: {}",
                    Permission::DeleteObjectVersion.action(),
                    first.code().unwrap_or("an error"),
                    first.message().unwrap_or_default()
                ))
                .hint(format!("allow `{}` to the credentials in use", permission.action())));
            }
        }
        Ok(())
    }
}
