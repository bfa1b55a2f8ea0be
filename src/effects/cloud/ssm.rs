//! SSM parameters: read many at once, made if absent, never overwritten but by `replace`.

use super::Cloud;
use super::failure::{Explain, code, explained};
use crate::model::cloud::Permission;
use crate::model::error::{Doing, Error, Result};
use crate::model::names::Names;
use crate::model::secret::Secret;
use aws_sdk_ssm::operation::put_parameter::builders::PutParameterFluentBuilder;
use aws_sdk_ssm::types::{ParameterType, Tag};
use futures_util::future::try_join_all;
use std::collections::BTreeMap;

/// SSM reads no more at once.
const AT_ONCE: usize = 10;

/// Returns values by full name, without those that do not exist.
pub async fn read(cloud: &Cloud, names: &[String]) -> Result<BTreeMap<String, Secret>> {
    let chunks = names.chunks(AT_ONCE).map(|some| async move {
        let answer = cloud
            .ssm
            .get_parameters()
            .set_names(Some(some.to_vec()))
            .with_decryption(true)
            .send()
            .await
            .explain(Permission::GetParameters, || {
                format!("read {} SSM parameters, {} first", some.len(), some[0])
            })?;
        Ok::<_, Error>(answer.parameters.unwrap_or_default())
    });
    let found = try_join_all(chunks).await?.into_iter().flatten();
    Ok(found
        .filter_map(|parameter| Some((parameter.name?, Secret::new(parameter.value?))))
        .collect())
}

/// The parameters of one environment, by their names below its prefix.
pub struct Parameters<'a> {
    pub cloud: &'a Cloud,
    pub names: &'a Names,
}

impl Parameters<'_> {
    /// Makes a parameter if it is absent. Returns the stored value, which may be somebody else's.
    pub async fn make(&self, name: &str, value: &Secret, secure: bool) -> Result<Secret> {
        let full = self.full(name);
        let tag = |key: &str, value: &str| Tag::builder().key(key).value(value).build();
        let tags = [
            tag(super::ec2::TAG_NAME, &self.names.name),
            tag(super::ec2::TAG_ENV, &self.names.env),
        ];
        let tags: Result<Vec<Tag>, _> = tags.into_iter().collect();
        let tags = tags.doing(|| format!("tag the SSM parameter {full}"))?;
        let put = self.put(&full, value, secure).overwrite(false);
        match put.set_tags(Some(tags)).send().await {
            Ok(_) => Ok(value.clone()),
            Err(error) if code(&error) == "ParameterAlreadyExists" => {
                let stored = read(self.cloud, std::slice::from_ref(&full)).await?.remove(&full);
                stored.ok_or_else(|| {
                    Error::failed(format!("make the SSM parameter {full}"))
                        .because("SSM says that it exists, and does not give it")
                        .hint("run the same command again")
                })
            }
            Err(error) => Err(refused(&error, &full, value)),
        }
    }

    /// Replaces the value of a secret that may exist, such as a renewed certificate.
    pub async fn replace(&self, name: &str, value: &Secret) -> Result<()> {
        // SSM takes tags only for new parameters, so it is made first, and then overwritten.
        if self.make(name, value, true).await? == *value {
            return Ok(());
        }
        let full = self.full(name);
        let done = self.put(&full, value, true).overwrite(true).send().await;
        done.map(|_| ()).map_err(|error| refused(&error, &full, value))
    }

    /// Removes a parameter. Does nothing if it is gone already.
    pub async fn delete(&self, name: &str) -> Result<()> {
        delete(self.cloud, &[self.full(name)]).await
    }

    /// Returns the parameter's name with the prefix.
    pub fn full(&self, name: &str) -> String {
        format!("{}{name}", self.names.parameters())
    }

    fn put(&self, full: &str, value: &Secret, secure: bool) -> PutParameterFluentBuilder {
        let put = self.cloud.ssm.put_parameter().name(full).value(value.expose());
        put.r#type(if secure {
            ParameterType::SecureString
        } else {
            ParameterType::String
        })
    }
}

/// Returns the full names of everything under a prefix.
pub async fn names_under(cloud: &Cloud, prefix: &str) -> Result<Vec<String>> {
    let mut names = Vec::new();
    let mut pages = cloud
        .ssm
        .get_parameters_by_path()
        .path(prefix)
        .recursive(true)
        .into_paginator()
        .send();
    while let Some(page) = pages.next().await {
        let page = page.explain(Permission::GetParametersByPath, || {
            format!("list the SSM parameters under {prefix}")
        })?;
        names.extend(
            page.parameters
                .unwrap_or_default()
                .into_iter()
                .filter_map(|parameter| parameter.name),
        );
    }
    Ok(names)
}

/// Removes parameters. Ignores those that are gone already.
pub async fn delete(cloud: &Cloud, names: &[String]) -> Result<()> {
    for some in names.chunks(AT_ONCE) {
        cloud
            .ssm
            .delete_parameters()
            .set_names(Some(some.to_vec()))
            .send()
            .await
            .explain(Permission::DeleteParameters, || {
                format!("remove {} SSM parameters, {} first", some.len(), some[0])
            })?;
    }
    Ok(())
}

/// Hides SSM's answer if it may quote the refused value.
fn refused<E>(
    error: &aws_sdk_ssm::error::SdkError<E, aws_sdk_ssm::config::http::HttpResponse>,
    name: &str,
    value: &Secret,
) -> Error
where
    E: aws_smithy_types::error::metadata::ProvideErrorMetadata + std::error::Error + 'static,
{
    let what = format!("make the SSM parameter {name}");
    let said = error
        .as_service_error()
        .and_then(|error| error.message())
        .unwrap_or_default();
    if said.contains(value.expose()) {
        return Error::failed(what).because(format!("ssm:PutParameter answered {}", code(error)));
    }
    explained(error, Permission::PutParameter, what)
}
