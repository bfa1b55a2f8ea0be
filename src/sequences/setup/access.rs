//! Looks up who may come in where infra.yml leaves it out: the operator's and the app's addresses.

use crate::decide::access::{Access, Admins, Apps};
use crate::effects::cloud::{Cloud, own_address};
use crate::effects::platform::Platform;
use crate::model::config::Config;
use crate::model::error::Result;

pub async fn access(config: &Config, cloud: &Cloud, apps: &[Platform]) -> Result<Access> {
    let (admins, apps) = tokio::try_join!(self::admins(config, cloud), self::apps(config, apps))?;
    Ok(Access { admins, apps })
}

pub async fn admins(config: &Config, cloud: &Cloud) -> Result<Admins> {
    match &config.hosts.admin_cidrs {
        Some(cidrs) => Ok(Admins::Named(cidrs.clone())),
        None => own_address::of_caller(cloud, config.aws.checkip.as_deref())
            .await
            .map(Admins::Own),
    }
}

pub async fn apps(config: &Config, apps: &[Platform]) -> Result<Apps> {
    if let Some(cidrs) = &config.hosts.app_cidrs {
        return Ok(Apps::Named(cidrs.clone()));
    }
    let mut egress = Vec::with_capacity(apps.len());
    for app in apps {
        egress.push(app.egress().await?);
    }
    Ok(Apps::of(egress))
}
