//! The hosts' role and instance profile.

use super::Cloud;
use super::failure::{Explain, code};
use crate::model::cloud::{HOST_POLICY, Permission, Profile, RoleFound};
use crate::model::error::{Doing, Result};
use crate::model::names::Names;
use aws_sdk_iam::error::BuildError;
use aws_sdk_iam::types::Tag;
use serde_json::Value;

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
    let role = match role {
        Err(error) if code(&error) == "NoSuchEntity" => return Ok(None),
        role => {
            role.explain(Permission::GetRole, || format!("look for the role {name}"))?
                .role
        }
    };
    let policy = match policy {
        Err(error) if code(&error) == "NoSuchEntity" => None,
        policy => {
            let policy = policy.explain(Permission::GetRolePolicy, || {
                format!("read the policy of the role {name}")
            })?;
            Some(document(Some(&policy.policy_document)))
        }
    };
    Ok(Some(RoleFound {
        trust: document(role.and_then(|role| role.assume_role_policy_document).as_deref()),
        policy,
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
    match made {
        Err(error) if code(&error) == "EntityAlreadyExists" => Ok(()),
        made => made
            .map(|_| ())
            .explain(Permission::CreateRole, || format!("create the role {name}")),
    }
}

pub async fn set_trust(cloud: &Cloud, name: &str, trust: &Value) -> Result<()> {
    cloud
        .iam
        .update_assume_role_policy()
        .role_name(name)
        .policy_document(trust.to_string())
        .send()
        .await
        .explain(Permission::UpdateAssumeRolePolicy, || {
            format!("set who may take the role {name}")
        })?;
    Ok(())
}

pub async fn set_role_policy(cloud: &Cloud, name: &str, document: &Value) -> Result<()> {
    cloud
        .iam
        .put_role_policy()
        .role_name(name)
        .policy_name(HOST_POLICY)
        .policy_document(document.to_string())
        .send()
        .await
        .explain(Permission::PutRolePolicy, || {
            format!("set the policy of the role {name}")
        })?;
    Ok(())
}

pub async fn profile(cloud: &Cloud, name: &str) -> Result<Option<Profile>> {
    let answer = match cloud
        .iam
        .get_instance_profile()
        .instance_profile_name(name)
        .send()
        .await
    {
        Err(error) if code(&error) == "NoSuchEntity" => return Ok(None),
        answer => answer.explain(Permission::GetInstanceProfile, || {
            format!("look for the instance profile {name}")
        })?,
    };
    Ok(answer.instance_profile.map(|profile| Profile {
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
    match made {
        Err(error) if code(&error) == "EntityAlreadyExists" => Ok(()),
        made => made.map(|_| ()).explain(Permission::CreateInstanceProfile, || {
            format!("create the instance profile {name}")
        }),
    }
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
    cloud
        .iam
        .add_role_to_instance_profile()
        .instance_profile_name(name)
        .role_name(role)
        .send()
        .await
        .explain(Permission::AddRoleToInstanceProfile, || {
            format!("put the role {role} into the instance profile {name}")
        })?;
    Ok(())
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
    match cloud
        .iam
        .delete_instance_profile()
        .instance_profile_name(name)
        .send()
        .await
    {
        Err(error) if code(&error) == "NoSuchEntity" => Ok(()),
        answer => answer.map(|_| ()).explain(Permission::DeleteInstanceProfile, || {
            format!("remove the instance profile {name}")
        }),
    }
}

/// Removes the role with its inline policies. Does nothing if it is gone already.
pub async fn delete_role(cloud: &Cloud, name: &str) -> Result<()> {
    let policies = match cloud.iam.list_role_policies().role_name(name).send().await {
        Err(error) if code(&error) == "NoSuchEntity" => return Ok(()),
        answer => {
            answer
                .explain(Permission::ListRolePolicies, || {
                    format!("list the policies of the role {name}")
                })?
                .policy_names
        }
    };
    for policy in policies {
        match cloud
            .iam
            .delete_role_policy()
            .role_name(name)
            .policy_name(&policy)
            .send()
            .await
        {
            Err(error) if code(&error) == "NoSuchEntity" => {}
            answer => {
                answer.explain(Permission::DeleteRolePolicy, || {
                    format!("remove the policy {policy} of the role {name}")
                })?;
            }
        }
    }
    match cloud.iam.delete_role().role_name(name).send().await {
        Err(error) if code(&error) == "NoSuchEntity" => Ok(()),
        answer => answer
            .map(|_| ())
            .explain(Permission::DeleteRole, || format!("remove the role {name}")),
    }
}

async fn take_role_out(cloud: &Cloud, profile: &str, role: &str) -> Result<()> {
    let done = cloud
        .iam
        .remove_role_from_instance_profile()
        .instance_profile_name(profile)
        .role_name(role)
        .send()
        .await;
    match done {
        Err(error) if code(&error) == "NoSuchEntity" => Ok(()),
        done => done.map(|_| ()).explain(Permission::RemoveRoleFromInstanceProfile, || {
            format!("take the role {role} out of the instance profile {profile}")
        }),
    }
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
fn document(text: Option<&str>) -> Value {
    let bytes = text.unwrap_or_default().as_bytes();
    let mut plain = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = (bytes[at] == b'%').then(|| bytes.get(at + 1..at + 3)).flatten();
        let byte = hex.and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        plain.push(byte.unwrap_or(bytes[at]));
        at += if byte.is_some() { 3 } else { 1 };
    }
    serde_json::from_slice(&plain).unwrap_or(Value::Null)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policy_documents_are_read_encoded_and_plain() {
        let want = serde_json::json!({"a": "b c/*"});
        assert_eq!(document(Some("%7B%22a%22%3A%22b%20c%2F%2A%22%7D")), want);
        assert_eq!(document(Some(r#"{"a":"b c/*"}"#)), want);
        assert_eq!(document(Some("%7")), Value::Null);
    }
}
