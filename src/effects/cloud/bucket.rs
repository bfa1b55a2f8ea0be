//! The bucket itself: its creation, settings and facts. Its objects are in `s3`.

use super::Cloud;
use super::failure::{Explain, code, explained, status};
use crate::effects::wait::Look;
use crate::model::cloud::{BucketFound, BucketSetting, LifecycleRule, Permission, is_bucket_statement, lifecycle};
use crate::model::error::{Doing, Error, Result};
use crate::model::names::Names;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{BuildError, SdkError};
use aws_sdk_s3::types::{
    AbortIncompleteMultipartUpload, BucketLifecycleConfiguration, BucketLocationConstraint, BucketVersioningStatus,
    CreateBucketConfiguration, ExpirationStatus, LifecycleExpiration, LifecycleRule as SdkRule, LifecycleRuleFilter,
    NoncurrentVersionExpiration, PublicAccessBlockConfiguration, ServerSideEncryption, ServerSideEncryptionByDefault,
    ServerSideEncryptionConfiguration, ServerSideEncryptionRule, Tag, Tagging, VersioningConfiguration,
};
use serde_json::{Value, json};

/// Returns the bucket and its settings; `None` if there is none, an error if it is not ours.
pub async fn bucket(cloud: &Cloud, names: &Names, wanted_ids: &[String]) -> Result<Option<BucketFound>> {
    let name = names.bucket();
    if !exists(cloud, names).await? {
        return Ok(None);
    }
    let (versioned, encrypted, public_access_blocked, tagged, statements, rules, object_lock) = tokio::try_join!(
        Box::pin(versioned(cloud, name)),
        Box::pin(encrypted(cloud, name)),
        Box::pin(public_access_blocked(cloud, name)),
        Box::pin(tagged(cloud, names)),
        Box::pin(statements(cloud, name)),
        Box::pin(rules(cloud, name)),
        Box::pin(super::retention::of_bucket(cloud, name)),
    )?;
    let ours = |rule: &&SdkRule| rule.id().is_some_and(|id| wanted_ids.iter().any(|wanted| wanted == id));
    Ok(Some(BucketFound {
        versioned,
        encrypted,
        public_access_blocked,
        tagged,
        statements: statements.into_iter().filter(is_bucket_statement).collect(),
        object_lock: object_lock.default,
        lifecycle: rules.iter().filter(ours).map(from_sdk).collect(),
    }))
}

/// Returns true if the bucket exists and is ours, in our region.
pub async fn exists(cloud: &Cloud, names: &Names) -> Result<bool> {
    let name = names.bucket();
    let head = cloud.s3.head_bucket().bucket(name);
    let head = head.expected_bucket_owner(cloud.account());
    let doing = || format!("look for the bucket {name}");
    let looked = match head.clone().send().await {
        // An answer to HEAD has no name.
        Err(error) if status(&error) == 404 && cloud.patience.has_made(name) => {
            let look = || async {
                match head.clone().send().await {
                    Err(error) if status(&error) == 404 => Look::NotYet("S3 answers 404".into()),
                    answer => Look::Ready(answer),
                }
            };
            Box::pin(cloud.patience.until(doing, look)).await?
        }
        answer => answer,
    };
    let error = match looked {
        Ok(answer) => {
            let region = answer.bucket_region().unwrap_or(cloud.region());
            return if region == cloud.region() {
                Ok(true)
            } else {
                Err(elsewhere(name, region))
            };
        }
        Err(error) => error,
    };
    match status(&error) {
        404 => Ok(false),
        301 | 400 if region_named(&error).is_some_and(|region| region != cloud.region()) => {
            Err(elsewhere(name, region_named(&error).unwrap_or_default()))
        }
        // S3 refuses an ended session with 400, and an answer to HEAD does not name it.
        400 => {
            let list = cloud.s3.list_objects_v2().bucket(name).max_keys(1);
            list.send().await.explain(Permission::ListBucket, doing)?;
            Err(explained(&error, Permission::ListBucket, doing()))
        }
        403 => Err(Error::failed(format!("use the bucket {name}"))
            .because("it exists, and either belongs to another account or may not be used with these credentials")
            .hint("allow `s3:ListBucket` to the credentials in use; if the bucket is not yours, choose another `name` in infra.yml")),
        _ => Err(explained(&error, Permission::ListBucket, doing())),
    }
}

/// Returns the bucket's region, if a refusal names it.
fn region_named<E>(error: &SdkError<E, HttpResponse>) -> Option<&str> {
    error.raw_response()?.headers().get("x-amz-bucket-region")
}

fn elsewhere(name: &str, region: &str) -> Error {
    Error::failed(format!("use the bucket {name}: it is in {region}"))
        .hint("correct `region` in infra.yml, or choose another `name`")
}

pub async fn create(cloud: &Cloud, name: &str) -> Result<()> {
    let mut create = cloud.s3.create_bucket().bucket(name);
    // The oldest region must not be named.
    if cloud.region() != "us-east-1" {
        let place = CreateBucketConfiguration::builder()
            .location_constraint(BucketLocationConstraint::from(cloud.region()))
            .build();
        create = create.create_bucket_configuration(place);
    }
    let doing = || format!("create the bucket {name}");
    // S3 asks for a retry right after a bucket of this name was removed.
    let made = cloud
        .patience
        .answer(Permission::CreateBucket, doing, || create.clone().send());
    match Box::pin(made).await? {
        Err(error) if code(&error) == "BucketAlreadyExists" => {
            return Err(Error::failed(doing())
                .because("it exists and belongs to another account")
                .hint("choose another `name` in infra.yml"));
        }
        Err(error) if code(&error) == "BucketAlreadyOwnedByYou" => {}
        made => made.map(drop).explain(Permission::CreateBucket, doing)?,
    }
    cloud.patience.note_made(name);
    Ok(())
}

/// Removes the bucket. Returns false while there is anything in it, also old versions.
pub async fn delete(cloud: &Cloud, name: &str) -> Result<bool> {
    cloud.patience.forget_made(name);
    match cloud
        .s3
        .delete_bucket()
        .bucket(name)
        .expected_bucket_owner(cloud.account())
        .send()
        .await
    {
        Err(error) if code(&error) == "NoSuchBucket" => Ok(true),
        Err(error) if code(&error) == "BucketNotEmpty" => Ok(false),
        answer => answer
            .map(|_| true)
            .explain(Permission::DeleteBucket, || format!("remove the bucket {name}")),
    }
}

/// Makes one setting as wanted. Other people's settings stay.
pub async fn set(cloud: &Cloud, names: &Names, setting: &BucketSetting) -> Result<()> {
    let name = names.bucket();
    let doing = || format!("set up the bucket {name}: {setting}");
    let patience = &cloud.patience;
    match setting {
        BucketSetting::Versioned => {
            let on = VersioningConfiguration::builder().status(BucketVersioningStatus::Enabled);
            let put = cloud.s3.put_bucket_versioning().bucket(name);
            let put = put.versioning_configuration(on.build());
            let done = patience.seen(Permission::PutBucketVersioning, doing, || put.clone().send());
            done.await.map(drop)
        }
        BucketSetting::Encrypted => {
            let put = cloud.s3.put_bucket_encryption().bucket(name);
            let put = put.server_side_encryption_configuration(encryption().doing(doing)?);
            let done = patience.seen(Permission::PutEncryptionConfiguration, doing, || put.clone().send());
            done.await.map(drop)
        }
        BucketSetting::PublicAccessBlocked => {
            let put = cloud.s3.put_public_access_block().bucket(name);
            let put = put.public_access_block_configuration(no_public_access());
            let done = patience.seen(Permission::PutBucketPublicAccessBlock, doing, || put.clone().send());
            done.await.map(drop)
        }
        BucketSetting::Tagged => {
            let tagging = with_our_tag(tags(cloud, name).await?, &names.name).doing(doing)?;
            let put = cloud.s3.put_bucket_tagging().bucket(name).tagging(tagging);
            let done = patience.seen(Permission::PutBucketTagging, doing, || put.clone().send());
            done.await.map(drop)
        }
        BucketSetting::Lifecycle(wanted) => {
            let rules = with_our_rules(rules(cloud, name).await?, wanted).doing(doing)?;
            let put = cloud.s3.put_bucket_lifecycle_configuration().bucket(name);
            let put = put.lifecycle_configuration(rules);
            let done = patience.seen(Permission::PutLifecycleConfiguration, doing, || put.clone().send());
            done.await.map(drop)
        }
        BucketSetting::ObjectLock(lock) => super::retention::set_default(cloud, name, *lock, doing).await,
        BucketSetting::Policy(ours) => {
            let mut all = statements(cloud, name).await?;
            all.retain(|other| !ours.iter().any(|own| own["Sid"] == other["Sid"]));
            all.extend(ours.iter().cloned());
            let policy = json!({"Version": "2012-10-17", "Statement": all}).to_string();
            let put = cloud.s3.put_bucket_policy().bucket(name).policy(policy);
            let done = patience.seen(Permission::PutBucketPolicy, doing, || put.clone().send());
            done.await.map(drop)
        }
    }
}

fn encryption() -> Result<ServerSideEncryptionConfiguration, BuildError> {
    let by = ServerSideEncryptionByDefault::builder()
        .sse_algorithm(ServerSideEncryption::Aes256)
        .build()?;
    let rule = ServerSideEncryptionRule::builder()
        .apply_server_side_encryption_by_default(by)
        .build();
    ServerSideEncryptionConfiguration::builder().rules(rule).build()
}

fn no_public_access() -> PublicAccessBlockConfiguration {
    PublicAccessBlockConfiguration::builder()
        .block_public_acls(true)
        .ignore_public_acls(true)
        .block_public_policy(true)
        .restrict_public_buckets(true)
        .build()
}

fn with_our_tag(mut tags: Vec<Tag>, value: &str) -> Result<Tagging, BuildError> {
    tags.retain(|tag| tag.key() != super::ec2::TAG_NAME);
    tags.push(Tag::builder().key(super::ec2::TAG_NAME).value(value).build()?);
    Tagging::builder().set_tag_set(Some(tags)).build()
}

fn with_our_rules(mut all: Vec<SdkRule>, ours: &[LifecycleRule]) -> Result<BucketLifecycleConfiguration, BuildError> {
    all.retain(|rule| !ours.iter().any(|own| rule.id() == Some(own.id.as_str())));
    for rule in ours {
        all.push(to_sdk(rule)?);
    }
    BucketLifecycleConfiguration::builder().set_rules(Some(all)).build()
}

/// The ids of the rules that this environment keeps in the bucket's lifecycle.
pub fn rule_ids(names: &Names, expiry: crate::model::cloud::Expiry) -> Vec<String> {
    lifecycle(names, expiry).into_iter().map(|rule| rule.id).collect()
}

async fn versioned(cloud: &Cloud, name: &str) -> Result<bool> {
    let get = cloud.s3.get_bucket_versioning().bucket(name);
    let doing = || format!("ask whether the bucket {name} keeps versions");
    let answer = cloud
        .patience
        .seen(Permission::GetBucketVersioning, doing, || get.clone().send());
    Ok(answer.await?.status == Some(BucketVersioningStatus::Enabled))
}

async fn encrypted(cloud: &Cloud, name: &str) -> Result<bool> {
    let get = cloud.s3.get_bucket_encryption().bucket(name);
    let needed = Permission::GetEncryptionConfiguration;
    let doing = || format!("ask whether the bucket {name} is encrypted");
    match cloud.patience.answer(needed, doing, || get.clone().send()).await? {
        Err(error) if code(&error) == "ServerSideEncryptionConfigurationNotFoundError" => Ok(false),
        answer => {
            let answer = answer.explain(needed, doing)?;
            Ok(answer
                .server_side_encryption_configuration
                .is_some_and(|found| !found.rules.is_empty()))
        }
    }
}

async fn public_access_blocked(cloud: &Cloud, name: &str) -> Result<bool> {
    let get = cloud.s3.get_public_access_block().bucket(name);
    let needed = Permission::GetBucketPublicAccessBlock;
    let doing = || format!("ask whether public access to the bucket {name} is blocked");
    match cloud.patience.answer(needed, doing, || get.clone().send()).await? {
        Err(error) if code(&error) == "NoSuchPublicAccessBlockConfiguration" => Ok(false),
        answer => {
            let found = answer.explain(needed, doing)?.public_access_block_configuration;
            Ok(found.is_some_and(|block| {
                let all = [
                    block.block_public_acls,
                    block.ignore_public_acls,
                    block.block_public_policy,
                    block.restrict_public_buckets,
                ];
                all.iter().all(|on| *on == Some(true))
            }))
        }
    }
}

async fn tagged(cloud: &Cloud, names: &Names) -> Result<bool> {
    let tags = tags(cloud, names.bucket()).await?;
    Ok(tags
        .iter()
        .any(|tag| tag.key() == super::ec2::TAG_NAME && tag.value() == names.name))
}

async fn tags(cloud: &Cloud, name: &str) -> Result<Vec<Tag>> {
    let get = cloud.s3.get_bucket_tagging().bucket(name);
    let needed = Permission::GetBucketTagging;
    let doing = || format!("read the tags of the bucket {name}");
    match cloud.patience.answer(needed, doing, || get.clone().send()).await? {
        Err(error) if code(&error) == "NoSuchTagSet" => Ok(Vec::new()),
        answer => Ok(answer.explain(needed, doing)?.tag_set),
    }
}

async fn statements(cloud: &Cloud, name: &str) -> Result<Vec<Value>> {
    let get = cloud.s3.get_bucket_policy().bucket(name);
    let needed = Permission::GetBucketPolicy;
    let doing = || format!("read the policy of the bucket {name}");
    let policy = match cloud.patience.answer(needed, doing, || get.clone().send()).await? {
        Err(error) if code(&error) == "NoSuchBucketPolicy" => return Ok(Vec::new()),
        answer => answer.explain(needed, doing)?.policy,
    };
    let policy: Value = serde_json::from_str(policy.as_deref().unwrap_or("{}"))
        .doing(|| format!("understand the policy of the bucket {name}"))?;
    Ok(match &policy["Statement"] {
        Value::Array(all) => all.clone(),
        Value::Null => Vec::new(),
        one => vec![one.clone()],
    })
}

async fn rules(cloud: &Cloud, name: &str) -> Result<Vec<SdkRule>> {
    let get = cloud.s3.get_bucket_lifecycle_configuration().bucket(name);
    let needed = Permission::GetLifecycleConfiguration;
    let doing = || format!("read the lifecycle of the bucket {name}");
    match cloud.patience.answer(needed, doing, || get.clone().send()).await? {
        Err(error) if code(&error) == "NoSuchLifecycleConfiguration" => Ok(Vec::new()),
        answer => Ok(answer.explain(needed, doing)?.rules.unwrap_or_default()),
    }
}

fn days(days: Option<i32>) -> Option<u32> {
    days.and_then(|days| u32::try_from(days).ok()).filter(|days| *days > 0)
}

fn from_sdk(rule: &SdkRule) -> LifecycleRule {
    let enabled = *rule.status() == ExpirationStatus::Enabled;
    LifecycleRule {
        // A rule that is switched off does not count as the wanted one.
        id: if enabled {
            rule.id().unwrap_or_default().to_string()
        } else {
            String::new()
        },
        prefix: rule
            .filter()
            .and_then(|filter| filter.prefix())
            .unwrap_or_default()
            .to_string(),
        expire_days: days(rule.expiration().and_then(|expiration| expiration.days())),
        expire_noncurrent_days: days(
            rule.noncurrent_version_expiration()
                .and_then(|old| old.noncurrent_days()),
        ),
        abort_uploads_days: days(
            rule.abort_incomplete_multipart_upload()
                .and_then(|abort| abort.days_after_initiation()),
        ),
        clean_markers: rule
            .expiration()
            .and_then(|expiration| expiration.expired_object_delete_marker())
            == Some(true),
    }
}

fn to_sdk(rule: &LifecycleRule) -> Result<SdkRule, BuildError> {
    let whole = |days: u32| i32::try_from(days).unwrap_or(i32::MAX);
    let mut sdk = SdkRule::builder()
        .id(&rule.id)
        .status(ExpirationStatus::Enabled)
        .filter(LifecycleRuleFilter::builder().prefix(&rule.prefix).build());
    if rule.expire_days.is_some() || rule.clean_markers {
        let mut expiration = LifecycleExpiration::builder().set_days(rule.expire_days.map(whole));
        if rule.clean_markers {
            expiration = expiration.expired_object_delete_marker(true);
        }
        sdk = sdk.expiration(expiration.build());
    }
    if let Some(days) = rule.expire_noncurrent_days {
        let old = NoncurrentVersionExpiration::builder()
            .noncurrent_days(whole(days))
            .build();
        sdk = sdk.noncurrent_version_expiration(old);
    }
    if let Some(days) = rule.abort_uploads_days {
        let abort = AbortIncompleteMultipartUpload::builder()
            .days_after_initiation(whole(days))
            .build();
        sdk = sdk.abort_incomplete_multipart_upload(abort);
    }
    sdk.build()
}
