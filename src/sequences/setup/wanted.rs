//! Turns `infra.yml` into what the cloud should have, and makes the values that only we can make.

use crate::decide::access::Access;
use crate::effects::host::{tls, user_data};
use crate::effects::remote::KeyPair;
use crate::model::cloud::{Expiry, Wanted};
use crate::model::config::Config;
use crate::model::error::{Error, Result};
use crate::model::names::Names;
use crate::model::role::Role;
use crate::model::secret::Secret;
use crate::model::secrets::{RedisUser, Secrets, parameter};
use jiff::Timestamp;

/// Returns everything that the environment should have in the cloud.
pub fn wanted(config: &Config, names: &Names, generation: u64, tls_only: bool, access: &Access) -> Wanted {
    let keep = &config.backup.keep;
    let mut wanted = Wanted {
        names: names.clone(),
        generation,
        tls_only,
        expiry: Expiry::keeping(keep.hourly, keep.daily, keep.monthly, config.backup_period_s()),
        object_lock: config.backup.object_lock,
        parameters: Wanted::standard_parameters(),
        admin_cidrs: Vec::new(),
        app_cidrs: Vec::new(),
        scrape_cidrs: config.monitoring.scrape_cidrs.clone(),
        own_address: None,
        instance_type: config.hosts.instance_type.clone(),
        image: config.hosts.image.clone(),
        disk_gb: config.hosts.disk_gb,
        zones: config.hosts.zones.clone(),
        subnet: config.hosts.subnet.clone(),
    };
    access.fill(&mut wanted);
    wanted
}

/// Makes the value of a missing parameter from those before it.
pub fn parameter_value(names: &Names, name: &str, secrets: &Secrets) -> Result<Secret> {
    let resource = names.resource();
    if name == parameter::SSH_KEY {
        return Ok(KeyPair::generate(&resource)?.private);
    }
    if name == parameter::SSH_PUBLIC_KEY {
        return Ok(Secret::new(KeyPair::from_private(secrets.ssh_key()?)?.public));
    }
    if name == parameter::CA_KEY {
        return tls::authority_key();
    }
    if name == parameter::CA_CERT {
        return tls::make_authority(&resource, secrets.ca_key()?, Timestamp::now()).map(Secret::new);
    }
    if RedisUser::ALL.iter().any(|user| name == parameter::password(*user)) {
        return Ok(Secret::generate());
    }
    if Role::ALL
        .iter()
        .any(|role| name == parameter::bootstrap_host_key(*role))
    {
        return Ok(KeyPair::generate("infra-bootstrap")?.private);
    }
    Err(Error::failed(format!("make the parameter {name}: nobody knows how")))
}

/// Returns the user-data of a new host.
pub fn user_data(names: &Names, role: Role, secrets: &Secrets) -> Result<Secret> {
    let bootstrap = KeyPair::from_private(secrets.get(&parameter::bootstrap_host_key(role))?)?;
    user_data::render(&names.host(role), &bootstrap)
}
