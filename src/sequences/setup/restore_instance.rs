//! Makes a host beside the pair whose engine waits for restored data.

use super::hosts::{BOOT, LOGIN, app_rights, passwords, subjects};
use crate::effects::cloud::ec2::{Purpose, RestoreInstance, Run};
use crate::effects::cloud::{Cloud, ec2};
use crate::effects::host::programs::Programs;
use crate::effects::host::{
    AppAccess, Facts, Position, Settings, apply, default_maxmemory, first_contact, plan, tls, user_data,
};
use crate::effects::redis::{Server, Trust};
use crate::effects::remote::{HostKey, KeyPair, Session, Target};
use crate::effects::wait::{Look, Wait};
use crate::model::cloud::{Found, HostSpec};
use crate::model::config::Config;
use crate::model::error::{Error, Result};
use crate::model::names::Names;
use crate::model::role::Role;
use crate::model::secrets::RedisUser;
use crate::model::state::State;
use crate::ui::Step;
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::time::Duration;

/// How long EC2 may take to have an instance run.
const RUNNING: Duration = Duration::from_secs(300);
const PORT: u16 = 6379;

/// The inputs: all that the pair was made from.
pub struct Maker<'a> {
    pub cloud: &'a Cloud,
    pub config: &'a Config,
    pub names: &'a Names,
    pub state: State,
    pub found: Found,
    pub programs: Programs,
}

/// An instance that is ready for a restore.
pub struct Ready {
    pub address: String,
    pub session: Session,
    pub host_key: HostKey,
    pub server: Server,
}

impl Maker<'_> {
    /// Asks for the instance. From here on it costs money, and the caller has to end it.
    pub async fn begin(&self, purpose: Purpose, step: &Step) -> Result<(String, KeyPair)> {
        let missing = |what: &str| {
            Error::failed(format!("make a host beside the pair: there is no {what}"))
                .hint("run `infra up` first: it is made in the same network, from the same secrets")
        };
        let group = self.found.group.as_ref().ok_or_else(|| missing("security group"))?;
        let image = self.found.image.as_ref().ok_or_else(|| missing("image"))?;
        let master = self
            .found
            .instances
            .iter()
            .find(|instance| instance.role == Role::Master);
        let subnets = &self.found.network.subnets;
        let subnet = (subnets.iter())
            .find(|subnet| master.is_some_and(|master| master.zone == subnet.zone))
            .or_else(|| subnets.first())
            .ok_or_else(|| missing("subnet"))?;
        let now = Timestamp::now().strftime("%Y%m%dt%H%M%S");
        let host = HostSpec {
            role: Role::Master,
            name: format!("{}-{purpose}-{now}", self.names.resource()),
            instance_type: self.config.hosts.instance_type.clone(),
            image_id: image.id.clone(),
            image_name: self.config.hosts.image.clone(),
            root_device: image.root_device.clone(),
            disk_gb: self.config.hosts.disk_gb,
            zone: subnet.zone.clone(),
            subnet: subnet.id.clone(),
            generation: self.state.generation,
        };
        let bootstrap = KeyPair::generate("infra-bootstrap")?;
        let user_data = user_data::render(&host.name, &bootstrap)?;
        step.update("asking EC2 for an instance");
        match ec2::run_beside(self.cloud, self.names, &host, purpose, &group.id, &user_data).await? {
            Run::Made(id) => Ok((id, bootstrap)),
            Run::NotYet(why) => Err(Error::failed(format!("make the instance {}: {why}", host.name))
                .hint("run `infra up`, then this again")),
        }
    }

    /// Waits until the instance runs, and sets it up.
    pub async fn set_up(&self, id: &str, purpose: Purpose, bootstrap: &KeyPair, step: &Step) -> Result<Ready> {
        let temporary = self.running(id, step).await?;
        let (Some(public), Some(private)) = (&temporary.public_ip, &temporary.private_ip) else {
            return Err(Error::failed(format!("reach {id}: it has no public address"))
                .hint("put the hosts into a subnet with an internet gateway"));
        };
        let secrets = &self.found.secrets;
        let mut target = Target {
            label: purpose.to_string(),
            address: public.clone(),
            port: 22,
            user: LOGIN.into(),
            private_key: secrets.ssh_key()?.clone(),
            pinned: vec![bootstrap.host_key()?],
        };
        step.update("logging in");
        let session = Session::connect_watched(&target, BOOT, step).await?;
        step.update("waiting for cloud-init");
        let prepared = first_contact::prepare(&session).await?;
        // The bootstrap key stands in the user-data, so it is replaced: it is worth nothing now.
        first_contact::activate(&session, &prepared).await?;
        let host_key = prepared.own_key;
        target.pinned = vec![host_key.clone()];
        let session = Session::connect_watched(&target, BOOT, step).await?;
        let description = self.settings(purpose, public, private)?.describe()?;
        let facts = Facts::fetch(&session, &description).await?;
        let plan = plan::plan(&description, &facts)?;
        apply::apply(&session, &description, &facts, &plan, None, step).await?;
        Ok(Ready {
            server: server(purpose.name(), public, secrets)?,
            address: public.clone(),
            session,
            host_key,
        })
    }

    async fn running(&self, id: &str, step: &Step) -> Result<RestoreInstance> {
        let what = format!("{id} to run");
        let hint = format!("see what EC2 says about it with `aws ec2 describe-instance-status --instance-ids {id}`");
        Wait::new(&what, RUNNING, &hint)
            .until(step, || async {
                let all = ec2::restore_instances(self.cloud, self.names).await?;
                let found = all.into_iter().find(|temporary| temporary.instance == id);
                if found.is_none()
                    && let Some(why) = ec2::end(self.cloud, id).await?
                {
                    return Err(ec2::ended(id, &why));
                }
                Ok(match found {
                    Some(temporary) if temporary.state == "running" && temporary.public_ip.is_some() => {
                        Look::Ready(temporary)
                    }
                    Some(temporary) if matches!(temporary.state.as_str(), "stopping" | "stopped") => {
                        return Err(ec2::ended(id, &format!("{}: somebody has stopped it", temporary.state)));
                    }
                    Some(temporary) => Look::NotYet(format!("{id} is {}", temporary.state)),
                    None => Look::NotYet(format!("{id} is not listed yet")),
                })
            })
            .await
    }

    fn settings(&self, purpose: Purpose, public: &str, private: &str) -> Result<Settings> {
        let secrets = &self.found.secrets;
        let subjects = subjects(self.config, self.names, &[public], private)?;
        let authority = tls::Issued {
            certificate: secrets.ca_cert()?.to_string(),
            key: secrets.ca_key()?.clone(),
        };
        let issued = tls::issue(
            &authority,
            &format!("{}-{purpose}", self.names.resource()),
            &subjects,
            Timestamp::now(),
        )?;
        let mut settings: BTreeMap<String, String> = self.state.source.settings.clone();
        settings.extend(self.config.redis.settings.clone());
        let memory = self
            .found
            .machine_type
            .as_ref()
            .map_or(1 << 30, |machine| machine.memory_bytes);
        let wanted = self.config.redis.maxmemory;
        Ok(Settings {
            label: purpose.to_string(),
            engine: self.config.redis.engine,
            position: Position::Master,
            app_access: AppAccess::Closed,
            endpoint: None,
            maxmemory: wanted.map_or_else(|| default_maxmemory(memory), |bytes| bytes.0),
            settings,
            authority: authority.certificate,
            source_certificate: None,
            certificate: issued.certificate,
            certificate_key: issued.key,
            passwords: passwords(secrets, self.state.rotation.as_ref())?,
            app: app_rights(self.config),
            backup: None,
            restored_by: Some(self.programs.agent.clone()),
            module: self.programs.module.clone(),
            exporters: None,
            // No replica follows it.
            replicas: Vec::new(),
        })
    }
}

/// Returns the engine of a host beside the pair, with its admin's login.
pub fn server(label: &str, address: &str, secrets: &crate::model::secrets::Secrets) -> Result<Server> {
    Ok(Server {
        label: label.into(),
        host: address.into(),
        port: PORT,
        user: Some(RedisUser::Admin.name().into()),
        password: Some(secrets.password(RedisUser::Admin)?.clone()),
        trust: Some(Trust::Authority(secrets.ca_cert()?.to_string())),
    })
}
