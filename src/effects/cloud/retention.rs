//! Retention of objects: the bucket's default, and until when an object may not be removed.

use super::Cloud;
use super::failure::{Explain, code};
use super::s3::{Bucket, timestamp};
use super::versions::Version;
use crate::model::cloud::Locked;
use crate::model::cloud::{LockMode, ObjectLock, Permission};
use crate::model::error::Result;
use aws_sdk_s3::types::{
    DefaultRetention, ObjectLockConfiguration, ObjectLockEnabled, ObjectLockRetentionMode, ObjectLockRule,
};

/// A bucket's object lock.
#[derive(Clone, Copy, Debug, Default)]
pub struct BucketLock {
    /// True if its objects can have a retention.
    pub is_on: bool,
    /// The retention of new objects.
    pub default: Option<ObjectLock>,
}

pub async fn of_bucket(cloud: &Cloud, name: &str) -> Result<BucketLock> {
    let get = cloud.s3.get_object_lock_configuration().bucket(name);
    let needed = Permission::GetBucketObjectLockConfiguration;
    let doing = || format!("ask whether the bucket {name} locks its objects");
    let answer = match cloud.patience.answer(needed, doing, || get.clone().send()).await? {
        Err(error) if code(&error) == "ObjectLockConfigurationNotFoundError" => return Ok(BucketLock::default()),
        answer => answer.explain(needed, doing)?,
    };
    let Some(lock) = answer.object_lock_configuration else {
        return Ok(BucketLock::default());
    };
    let retention = lock.rule.and_then(|rule| rule.default_retention);
    Ok(BucketLock {
        is_on: true,
        default: retention.and_then(|retention| {
            Some(ObjectLock {
                mode: mode(&retention.mode?)?,
                days: retention.days.and_then(|days| u32::try_from(days).ok())?,
            })
        }),
    })
}

/// Sets the retention of new objects of the bucket.
pub(super) async fn set_default(cloud: &Cloud, name: &str, lock: ObjectLock, doing: impl Fn() -> String) -> Result<()> {
    let retention = DefaultRetention::builder()
        .mode(match lock.mode {
            LockMode::Governance => ObjectLockRetentionMode::Governance,
            LockMode::Compliance => ObjectLockRetentionMode::Compliance,
        })
        .days(i32::try_from(lock.days).unwrap_or(i32::MAX))
        .build();
    let lock = ObjectLockConfiguration::builder()
        .object_lock_enabled(ObjectLockEnabled::Enabled)
        .rule(ObjectLockRule::builder().default_retention(retention).build())
        .build();
    let put = cloud
        .s3
        .put_object_lock_configuration()
        .bucket(name)
        .object_lock_configuration(lock);
    let needed = Permission::PutBucketObjectLockConfiguration;
    let done = cloud.patience.seen(needed, doing, || put.clone().send());
    done.await.map(drop)
}

impl Bucket {
    /// Returns the latest retention. The newest version has it, since all got the bucket's default.
    /// All of its second are asked, since some may be older than the bucket's lock.
    pub async fn locked(&self, versions: &[Version]) -> Result<Option<Locked>> {
        let objects = || versions.iter().filter(|version| !version.is_marker);
        let newest = objects().map(|version| version.written_at).max();
        let of_that_second = objects().filter(|version| Some(version.written_at) == newest);
        let asked = of_that_second.map(|version| self.retention(version));
        let locked = futures_util::future::try_join_all(asked).await?;
        Ok(locked.into_iter().flatten().max_by_key(|locked| locked.until))
    }

    async fn retention(&self, version: &Version) -> Result<Option<Locked>> {
        let answer = self
            .client
            .get_object_retention()
            .bucket(&self.name)
            .key(&version.key)
            .version_id(&version.id)
            .expected_bucket_owner(&self.account)
            .send()
            .await;
        let retention = match answer {
            Err(error) if matches!(code(&error), "NoSuchObjectLockConfiguration" | "NoSuchVersion") => None,
            answer => {
                answer
                    .explain(Permission::GetObjectRetention, || {
                        format!("ask until when {} is locked", self.url(&version.key))
                    })?
                    .retention
            }
        };
        Ok(retention.and_then(|retention| {
            Some(Locked {
                mode: mode(&retention.mode?)?,
                until: retention.retain_until_date.as_ref().and_then(timestamp)?,
            })
        }))
    }
}

/// Returns `None` for a mode that is not known here.
fn mode(mode: &ObjectLockRetentionMode) -> Option<LockMode> {
    match mode {
        ObjectLockRetentionMode::Governance => Some(LockMode::Governance),
        ObjectLockRetentionMode::Compliance => Some(LockMode::Compliance),
        _ => None,
    }
}
