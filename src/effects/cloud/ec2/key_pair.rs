//! The key pair of the operator for the first boot.

use super::{filter, specification, tags};
use crate::effects::cloud::Cloud;
use crate::effects::cloud::failure::{Explain, code};
use crate::model::cloud::{KeyPair, Permission};
use crate::model::error::Result;
use crate::model::names::Names;
use aws_sdk_ec2::primitives::Blob;
use aws_sdk_ec2::types::ResourceType;

pub async fn key_pair(cloud: &Cloud, name: &str) -> Result<Option<KeyPair>> {
    let answer = cloud
        .ec2
        .describe_key_pairs()
        .filters(filter("key-name", name))
        .include_public_key(true)
        .send()
        .await
        .explain(Permission::DescribeKeyPairs, || format!("look for the key pair {name}"))?;
    Ok(answer
        .key_pairs
        .unwrap_or_default()
        .into_iter()
        .next()
        .map(|pair| KeyPair {
            id: pair.key_pair_id.unwrap_or_default(),
            fingerprint: pair.key_fingerprint.unwrap_or_default(),
            public_key: pair.public_key.filter(|key| !key.trim().is_empty()),
        }))
}

/// Imports `public_key`, a line of authorized_keys. Replaces a pair of this name.
pub async fn import_key_pair(cloud: &Cloud, names: &Names, name: &str, public_key: &str) -> Result<()> {
    let import = cloud
        .ec2
        .import_key_pair()
        .key_name(name)
        .public_key_material(Blob::new(public_key.as_bytes()))
        .tag_specifications(specification(ResourceType::KeyPair, &tags(names, name, None)));
    let mut imported = import.clone().send().await;
    if imported
        .as_ref()
        .is_err_and(|error| code(error) == "InvalidKeyPair.Duplicate")
    {
        delete_key_pair(cloud, name).await?;
        imported = import.send().await;
    }
    imported
        .map(|_| ())
        .explain(Permission::ImportKeyPair, || format!("import the key pair {name}"))
}

pub async fn delete_key_pair(cloud: &Cloud, name: &str) -> Result<()> {
    let answer = cloud.ec2.delete_key_pair().key_name(name).send().await;
    let absent = ["InvalidKeyPair.NotFound"];
    answer.explain_unless(&absent, Permission::DeleteKeyPair, || {
        format!("remove the key pair {name}")
    })?;
    Ok(())
}
