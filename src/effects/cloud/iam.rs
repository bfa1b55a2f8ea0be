//! The hosts' role and instance profile.

use super::Cloud;
use super::failure::Explain;
use crate::model::cloud::{HOST_POLICY, Permission, Profile, RoleFound};
use crate::model::error::{Doing, Result};
use crate::model::names::Names;
use aws_sdk_iam::error::BuildError;
use aws_sdk_iam::types::Tag;
use serde_json::Value;

/// The code of IAM's answer about an entity that does not exist.
const ABSENT: &[&str] = &["NoSuchEntity"];

/// The code of IAM's answer about an entity that was made before.
const THERE: &[&str] = &["EntityAlreadyExists"];

/// Returns the role with its trust and our policy, as far as they exist.
pub async fn role(cloud: &Cloud, name: &str) -> Result<Option<RoleFound>> {
    // Both are asked at once: an absent role has no policy either.
    let (role, policy) = tokio::join!(
        cloud.iam.get_role().role_name(name).send(),
        cloud
            .iam
            .get_role_policy()
            .role_name(name)
            .policy_name(HOST_POLICY)
            .send()
    );
    let role = role.explain_unless(ABSENT, Permission::GetRole, || format!("look for the role {name}"))?;
    let Some(role) = role else { return Ok(None) };
    let policy = policy.explain_unless(ABSENT, Permission::GetRolePolicy, || {
        format!("read the policy of the role {name}")
    })?;
    let trust = role.role.and_then(|role| role.assume_role_policy_document);
    Ok(Some(RoleFound {
        trust: document(trust.as_deref().unwrap_or_default()),
        policy: policy.map(|policy| document(&policy.policy_document)),
    }))
}

pub async fn create_role(cloud: &Cloud, names: &Names, name: &str, trust: &Value) -> Result<()> {
    let made = cloud
        .iam
        .create_role()
        .role_name(name)
        .assume_role_policy_document(trust.to_string())
        .description(format!("Redis hosts of {} ({}): puts backups", names.name, names.env))
        .set_tags(Some(tags(names)?))
        .send()
        .await;
    made.explain_unless(THERE, Permission::CreateRole, || format!("create the role {name}"))?;
    Ok(())
}

pub async fn set_trust(cloud: &Cloud, name: &str, trust: &Value) -> Result<()> {
    let set = cloud.iam.update_assume_role_policy().role_name(name);
    let set = set.policy_document(trust.to_string());
    let doing = || format!("set who may take the role {name}");
    let done = cloud
        .patience
        .seen(Permission::UpdateAssumeRolePolicy, doing, || set.clone().send());
    done.await.map(drop)
}

pub async fn set_role_policy(cloud: &Cloud, name: &str, document: &Value) -> Result<()> {
    let put = cloud.iam.put_role_policy().role_name(name).policy_name(HOST_POLICY);
    let put = put.policy_document(document.to_string());
    let doing = || format!("set the policy of the role {name}");
    let done = cloud
        .patience
        .seen(Permission::PutRolePolicy, doing, || put.clone().send());
    done.await.map(drop)
}

pub async fn profile(cloud: &Cloud, name: &str) -> Result<Option<Profile>> {
    let get = cloud.iam.get_instance_profile().instance_profile_name(name);
    let answer = get
        .send()
        .await
        .explain_unless(ABSENT, Permission::GetInstanceProfile, || {
            format!("look for the instance profile {name}")
        })?;
    Ok(answer
        .and_then(|answer| answer.instance_profile)
        .map(|profile| Profile {
            arn: profile.arn,
            roles: profile.roles.into_iter().map(|role| role.role_name).collect(),
        }))
}

pub async fn create_profile(cloud: &Cloud, names: &Names, name: &str) -> Result<()> {
    let made = cloud
        .iam
        .create_instance_profile()
        .instance_profile_name(name)
        .set_tags(Some(tags(names)?))
        .send()
        .await;
    made.explain_unless(THERE, Permission::CreateInstanceProfile, || {
        format!("create the instance profile {name}")
    })?;
    Ok(())
}

/// Puts the role into the profile, which holds only one; takes another role out first.
pub async fn put_role_in_profile(cloud: &Cloud, name: &str, role: &str) -> Result<()> {
    let there = profile(cloud, name)
        .await?
        .map(|profile| profile.roles)
        .unwrap_or_default();
    if there.iter().any(|other| other == role) {
        return Ok(());
    }
    for other in &there {
        take_role_out(cloud, name, other).await?;
    }
    let add = cloud.iam.add_role_to_instance_profile();
    let add = add.instance_profile_name(name).role_name(role);
    let doing = || format!("put the role {role} into the instance profile {name}");
    let done = cloud
        .patience
        .seen(Permission::AddRoleToInstanceProfile, doing, || add.clone().send());
    done.await.map(drop)
}

/// Removes the profile. Does nothing if it is gone already.
pub async fn delete_profile(cloud: &Cloud, name: &str) -> Result<()> {
    for role in profile(cloud, name)
        .await?
        .map(|profile| profile.roles)
        .unwrap_or_default()
    {
        take_role_out(cloud, name, &role).await?;
    }
    let delete = cloud.iam.delete_instance_profile().instance_profile_name(name);
    delete
        .send()
        .await
        .explain_unless(ABSENT, Permission::DeleteInstanceProfile, || {
            format!("remove the instance profile {name}")
        })?;
    Ok(())
}

/// Removes the role with its inline policies. Does nothing if it is gone already.
pub async fn delete_role(cloud: &Cloud, name: &str) -> Result<()> {
    let listed = cloud.iam.list_role_policies().role_name(name).send().await;
    let listed = listed.explain_unless(ABSENT, Permission::ListRolePolicies, || {
        format!("list the policies of the role {name}")
    })?;
    let Some(listed) = listed else { return Ok(()) };
    for policy in listed.policy_names {
        let delete = cloud.iam.delete_role_policy().role_name(name).policy_name(&policy);
        delete
            .send()
            .await
            .explain_unless(ABSENT, Permission::DeleteRolePolicy, || {
                format!("remove the policy {policy} of the role {name}")
            })?;
    }
    let deleted = cloud.iam.delete_role().role_name(name).send().await;
    deleted.explain_unless(ABSENT, Permission::DeleteRole, || format!("remove the role {name}"))?;
    Ok(())
}

async fn take_role_out(cloud: &Cloud, profile: &str, role: &str) -> Result<()> {
    let done = cloud
        .iam
        .remove_role_from_instance_profile()
        .instance_profile_name(profile)
        .role_name(role)
        .send()
        .await;
    done.explain_unless(ABSENT, Permission::RemoveRoleFromInstanceProfile, || {
        format!("take the role {role} out of the instance profile {profile}")
    })?;
    Ok(())
}

fn tags(names: &Names) -> Result<Vec<Tag>> {
    let tag = |key: &str, value: &str| Tag::builder().key(key).value(value).build();
    let tags: Result<Vec<Tag>, BuildError> = [
        tag(super::ec2::TAG_NAME, &names.name),
        tag(super::ec2::TAG_ENV, &names.env),
    ]
    .into_iter()
    .collect();
    tags.doing(|| "tag the role and the instance profile".into())
}

/// Reads a policy document from IAM: percent-encoded JSON. Invalid text equals no wanted policy.
fn document(text: &str) -> Value {
    let plain: Vec<u8> = percent_encoding::percent_decode_str(text).collect();
    serde_json::from_slice(&plain).unwrap_or(Value::Null)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policy_documents_are_read_encoded_and_plain() {
        let want = serde_json::json!({"a": "b c/*"});
        assert_eq!(document("%7B%22a%22%3A%22b%20c%2F%2A%22%7D"), want);
        assert_eq!(document(r#"{"a":"b c/*"}"#), want);
        assert_eq!(document("%7"), Value::Null);
    }
}
