//! Brings one host from its boot to what it should be.

use super::source::Known;
use super::state_writer::StateWriter;
use crate::effects::cloud::Cloud;
use crate::effects::cloud::ssm::Parameters;
use crate::effects::host::programs::Programs;
use crate::effects::host::settings::{AppRights, Exporters, Password, Passwords};
use crate::effects::host::{
    AppAccess, Copied, Description, Facts, Plan, Position, Settings, apply, backup, default_maxmemory, first_contact,
    only_here, plan, tls,
};
use crate::effects::remote::{HostKey, KeyPair, Session, Target};
use crate::model::cloud::Instance;
use crate::model::config::Config;
use crate::model::error::{Doing, Error, Result};
use crate::model::follow::Follower;
use crate::model::names::Names;
use crate::model::role::Role;
use crate::model::rotation::{Rotation, Stage};
use crate::model::secret::Secret;
use crate::model::secrets::{RedisUser, Secrets, parameter};
use crate::model::state::HostRecord;
use crate::sequences::cutover::Phase;
use crate::ui::Step;
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

/// The login user of Debian's images.
pub const LOGIN: &str = "admin";
/// How long a boot may take: well under a minute, but EC2 may be slow to begin.
pub const BOOT: Duration = Duration::from_secs(300);
/// Compared of a replaced master whose failover was finished by another run than began it.
const UNKNOWN_STAKE_S: u64 = 600;

/// The inputs from which both hosts are made.
pub struct Pair<'a> {
    pub config: &'a Config,
    pub cloud: &'a Cloud,
    pub names: &'a Names,
    pub secrets: &'a Secrets,
    /// The rotation of a password that is under way.
    pub rotation: Option<&'a Rotation>,
    pub source: &'a Known,
    /// The cutover's phase: it decides who follows whom, and whether the app may log in.
    pub phase: Option<Phase>,
    pub instances: &'a BTreeMap<Role, Instance>,
    /// Where the operator reaches each host; the master's is the endpoint.
    pub addresses: &'a BTreeMap<Role, String>,
    /// Memory of each host by its own instance type, in bytes.
    pub memory: BTreeMap<Role, u64>,
    /// The programs of each host, by its own architecture.
    pub programs: &'a BTreeMap<Role, Programs>,
    /// The instance that a forced failover replaced.
    pub demoted: Option<&'a str>,
    /// From how many seconds before its end on it may have writes that nobody else has.
    pub demoted_s: Option<u64>,
    /// The epoch of our lock; 0 for a look. A host refuses any that is lower than the highest seen.
    pub epoch: u64,
}

/// A host that was reached, what it should be, what it is, and the difference.
pub struct Looked {
    pub session: Session,
    pub description: Description,
    pub facts: Facts,
    pub plan: Plan,
    certificate: Certificate,
}

impl Pair<'_> {
    /// Logs in with the pinned key or, at first contact, the key that the host was born with.
    pub async fn log_in(&self, role: Role, record: &HostRecord, patience: Duration, step: &Step) -> Result<Session> {
        Session::connect_watched(&self.target(role, record)?, patience, step).await
    }

    fn target(&self, role: Role, record: &HostRecord) -> Result<Target> {
        let mut pinned: Vec<HostKey> = record.pinned().map(str::parse).collect::<Result<_>>()?;
        // The bootstrap key is gone once the host showed its own key, maybe before that was noted.
        let bootstrap = match self.secrets.bootstrap_host_key(role) {
            None if pinned.is_empty() => Some(self.secrets.get(&parameter::bootstrap_host_key(role))?),
            bootstrap => bootstrap.filter(|_| record.host_key.is_empty()),
        };
        if let Some(bootstrap) = bootstrap {
            pinned.push(KeyPair::from_private(bootstrap)?.host_key()?);
        }
        Ok(Target {
            label: role.name().into(),
            address: self.address(role)?.to_string(),
            port: 22,
            user: LOGIN.into(),
            private_key: self.secrets.ssh_key()?.clone(),
            pinned,
        })
    }

    fn address(&self, role: Role) -> Result<&str> {
        self.addresses
            .get(&role)
            .map(String::as_str)
            .ok_or_else(|| Error::failed(format!("reach the {role}: it has no address")).hint("run `infra up` again"))
    }

    fn memory(&self, role: Role) -> u64 {
        self.memory.get(&role).copied().unwrap_or(1 << 30)
    }

    fn private_address(&self, role: Role) -> Result<&str> {
        self.instances
            .get(&role)
            .and_then(|instance| instance.private_ip.as_deref())
            .ok_or_else(|| {
                Error::failed(format!(
                    "reach the {role} from its other host: it has no private address"
                ))
                .hint("run `infra up` again")
            })
    }

    /// Returns the private addresses of existing hosts; the successor of a lost one gets another.
    fn private_addresses(&self) -> Result<Vec<IpAddr>> {
        let known = self
            .instances
            .values()
            .filter_map(|instance| instance.private_ip.as_deref());
        known
            .map(|text| text.parse().doing(|| format!("read the address {text:?}")))
            .collect()
    }

    /// Makes the host show a pinned key that was made on it; see `host::first_contact`.
    pub async fn first_contact(
        &self,
        role: Role,
        session: Session,
        writer: &StateWriter,
        step: &Step,
    ) -> Result<Session> {
        if writer.state().await.hosts.get(&role).is_some_and(HostRecord::is_known) {
            return Ok(session);
        }
        step.update("waiting for cloud-init");
        let prepared = first_contact::prepare(&session).await?;
        let own_key = prepared.own_key.to_string();
        writer
            .change(|state| state.hosts.entry(role).or_default().next_host_key = Some(own_key.clone()))
            .await?;
        step.update("replacing the host key that it was born with");
        first_contact::activate(&session, &prepared).await?;
        // Deleted first, so that it does not stay if we die: `next_host_key` leads to the host now.
        self.parameters().delete(&parameter::bootstrap_host_key(role)).await?;
        writer
            .change(|state| {
                let record = state.hosts.entry(role).or_default();
                record.host_key = own_key;
                record.next_host_key = None;
            })
            .await?;
        // A session that knows the old key cannot prove that the new one is in force.
        let record = writer.state().await.hosts.get(&role).cloned().unwrap_or_default();
        let mut target = self.target(role, &record)?;
        target.pinned = vec![prepared.own_key];
        Session::connect_watched(&target, BOOT, step).await
    }

    /// Returns the host's certificate and key: the stored ones while they serve, else new ones.
    fn certificate(&self, role: Role) -> Result<Certificate> {
        // Both hosts show the endpoint's names, so that the replica can take its place at any time.
        let own = [self.address(role)?, self.address(Role::Master)?];
        let subjects = subjects(self.config, self.names, &own, self.private_address(role)?)?;
        let authority = self.secrets.ca_cert()?;
        let now = Timestamp::now();
        if let (Some(certificate), Some(key)) = (self.secrets.tls_cert(role), self.secrets.tls_key(role))
            && tls::renewal_reason(certificate, authority, &subjects, now).is_none()
        {
            let issued = tls::Issued {
                certificate: certificate.to_string(),
                key: key.clone(),
            };
            return Ok(Certificate { issued, stored: true });
        }
        let authority = tls::Issued {
            certificate: authority.to_string(),
            key: self.secrets.ca_key()?.clone(),
        };
        let issued = tls::issue(&authority, &self.names.host(role), &subjects, now)?;
        Ok(Certificate { issued, stored: false })
    }

    async fn store_certificate(&self, role: Role, issued: &tls::Issued) -> Result<()> {
        let certificate = Secret::new(issued.certificate.clone());
        // The key comes first: a certificate without its key would be taken for a whole pair.
        let parameters = self.parameters();
        parameters.replace(&parameter::tls_key(role), &issued.key).await?;
        parameters.replace(&parameter::tls_cert(role), &certificate).await
    }

    fn parameters(&self) -> Parameters<'_> {
        Parameters {
            cloud: self.cloud,
            names: self.names,
        }
    }

    fn settings(&self, role: Role, issued: &tls::Issued) -> Result<Settings> {
        let taken_over = self.phase.is_some_and(|phase| phase >= Phase::Promoted);
        let position = match role {
            Role::Replica => Position::FollowsMaster {
                address: self.private_address(Role::Master)?.into(),
            },
            Role::Master if taken_over || self.config.source.none => Position::Master,
            Role::Master => {
                let mut upstream = self.source.upstream.clone().ok_or_else(|| {
                    Error::failed("say whom the master follows: the source is not known")
                        .hint("correct `source` in infra.yml, then run `infra check`")
                })?;
                upstream.seen_as = Some(self.address(role)?.into());
                match self.source.record.follower {
                    Follower::Replication => Position::FollowsSource(upstream),
                    Follower::Copy => Position::CopiesSource(Copied {
                        upstream,
                        rate: self.config.source.copy_rate.0,
                        leave_out: self.config.source.leave_out.clone(),
                    }),
                }
            }
        };
        let mut settings = self.source.record.settings.clone();
        settings.extend(self.config.redis.settings.clone());
        let wanted = self.config.redis.maxmemory;
        let programs = self
            .programs
            .get(&role)
            .ok_or_else(|| Error::failed(format!("find the programs of the {role}")))?;
        Ok(Settings {
            label: role.name().into(),
            engine: self.config.redis.engine,
            position,
            app_access: if self.config.source.none || self.phase.is_some_and(|phase| phase >= Phase::Switching) {
                AppAccess::Open
            } else {
                AppAccess::Closed
            },
            endpoint: self.addresses.get(&Role::Master).cloned(),
            maxmemory: wanted.map_or_else(|| default_maxmemory(self.memory(role)), |bytes| bytes.0),
            settings,
            authority: self.secrets.ca_cert()?.to_string(),
            source_certificate: self.source.record.certificate.clone(),
            certificate: issued.certificate.clone(),
            certificate_key: issued.key.clone(),
            passwords: passwords(self.secrets, self.rotation)?,
            app: app_rights(self.config),
            backup: Some(self.backup(role, programs)),
            restored_by: None,
            module: programs.module.clone(),
            exporters: self.exporters(role)?,
            replicas: self.private_addresses()?,
        })
    }

    fn exporters(&self, role: Role) -> Result<Option<Exporters>> {
        let monitoring = &self.config.monitoring;
        let address = self
            .instances
            .get(&role)
            .and_then(|instance| instance.private_ip.as_deref());
        let Some(address) = address.filter(|_| monitoring.exporters) else {
            return Ok(None);
        };
        Ok(Some(Exporters {
            private: address.parse().doing(|| format!("read the address {address:?}"))?,
            scraped: !monitoring.scrape_cidrs.is_empty(),
        }))
    }

    fn backup(&self, role: Role, programs: &Programs) -> backup::Settings {
        let endpoint = self.config.aws.host_s3_endpoint.as_deref().or(self.cloud.s3_endpoint());
        backup::Settings {
            ships: role == Role::Master,
            bucket_url: backup::bucket_url(self.names.bucket(), &self.names.region, endpoint),
            region: self.names.region.clone(),
            prefix: self.names.backups().trim_end_matches('/').into(),
            period: Duration::from_secs(self.config.backup_period_s()),
            rpo_s: self.config.backup.rpo_s,
            backlog_mb: self.config.backup.backlog_mb,
            agent: programs.agent.clone(),
        }
    }

    /// Looks at a host in one round trip and plans its changes. Changes nothing.
    pub async fn look(&self, role: Role, session: Session) -> Result<Looked> {
        let certificate = self.certificate(role)?;
        let mut description = self.settings(role, &certificate.issued)?.describe()?;
        let id = self.instances.get(&role).map(|instance| instance.id.as_str());
        description.demoted = role == Role::Replica && id.is_some() && id == self.demoted;
        let facts = Facts::fetch(&session, &description).await?;
        let plan = plan::plan(&description, &facts)?;
        Ok(Looked {
            session,
            description,
            facts,
            plan,
            certificate,
        })
    }

    /// Lists what only a replaced master has, before it copies its successor; nothing for other hosts.
    pub async fn only_here(&self, looked: &Looked) -> Result<Vec<String>> {
        if !looked.description.demoted {
            return Ok(Vec::new());
        }
        let master = self.private_address(Role::Master)?;
        let master = master.parse().doing(|| format!("read the address {master:?}"))?;
        let seconds = self.demoted_s.unwrap_or(UNKNOWN_STAKE_S);
        let found = only_here::only_here(&looked.session, master, seconds).await?;
        Ok(found.map(|found| found.lines(seconds)).unwrap_or_default())
    }

    /// Makes the planned changes, and returns the session.
    pub async fn bring(&self, role: Role, looked: Looked, step: &Step) -> Result<(Session, apply::Outcome)> {
        let Looked {
            session,
            description,
            facts,
            plan,
            certificate,
        } = looked;
        if !certificate.stored {
            self.store_certificate(role, &certificate.issued).await?;
        }
        let outcome = apply::apply(&session, &description, &facts, &plan, Some(self.epoch), step).await?;
        Ok((session, outcome))
    }
}

/// Returns the passwords of the users of Redis: two for a user whose password is being replaced.
pub(super) fn passwords(secrets: &Secrets, rotation: Option<&Rotation>) -> Result<Passwords> {
    let password = |user| -> Result<Password> {
        let (old, stage) = (
            secrets.password(user)?.clone(),
            rotation.filter(|under_way| under_way.user == user),
        );
        let Some(stage) = stage.map(|rotation| rotation.stage) else {
            return Ok(Password::only(old));
        };
        let new = secrets.next_password(user)?.clone();
        Ok(match stage {
            Stage::Adding => Password {
                used: old,
                also: Some(new),
            },
            Stage::Switching => Password {
                used: new,
                also: Some(old),
            },
            Stage::Removing => Password::only(new),
        })
    };
    Ok(Passwords {
        app: password(RedisUser::App)?,
        replication: password(RedisUser::Replication)?,
        backup: password(RedisUser::Backup)?,
        monitoring: password(RedisUser::Monitoring)?,
        admin: password(RedisUser::Admin)?,
    })
}

/// Returns the names in a host's certificate. The own domain is in both: it follows the endpoint.
pub(super) fn subjects(config: &Config, names: &Names, public: &[&str], private: &str) -> Result<tls::Subjects> {
    let read = |text: &str| text.parse().doing(|| format!("read the address {text:?}"));
    let mut public = public.to_vec();
    public.dedup();
    let addresses: Vec<IpAddr> = public
        .iter()
        .copied()
        .chain([private])
        .map(read)
        .collect::<Result<_>>()?;
    let domains = public.iter().filter_map(|address| names.public_domain(address));
    Ok(tls::Subjects {
        addresses,
        domains: domains.chain(config.hosts.domain.clone()).collect(),
    })
}

/// Returns what infra.yml lets the app do.
pub(super) fn app_rights(config: &Config) -> AppRights {
    AppRights {
        commands: config.redis.app_commands.clone(),
        keys: config.redis.app_keys.clone(),
        channels: config.redis.app_channels.clone(),
    }
}

/// A host's certificate, and whether it is the one that SSM holds.
struct Certificate {
    issued: tls::Issued,
    stored: bool,
}
