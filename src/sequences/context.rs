//! Loads what every command begins with: configuration, platform, cloud, state and servers.

use crate::decide::vars::{self, Naming, Place};
use crate::effects::cloud::ssm::Parameters;
use crate::effects::cloud::{Cloud, ec2, find};
use crate::effects::interrupt::Interrupt;
use crate::effects::inventory::Inventory;
use crate::effects::platform::{ConfigVars, Heroku, Hook, KnownApp, Platform};
use crate::effects::redis::{Server, Trust, login};
use crate::effects::remote::{Session, Target};
use crate::effects::state::{Held, Journal, Lock, Store};
use crate::model::cloud::Wanted;
use crate::model::config::{Config, PlatformKind};
use crate::model::error::{Error, Result};
use crate::model::names::Names;
use crate::model::role::Role;
use crate::model::secret::Secret;
use crate::model::secrets::{RedisUser, Secrets};
use crate::model::state::{HostRecord, State};
use crate::model::values::Name;
use crate::sequences::arguments::{Common, Confirmed};
use crate::sequences::cutover::history::History;
use crate::sequences::cutover::record as entries;
use crate::sequences::cutover::{Phase, Staying, naming};
use crate::ui::Ui;
use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::time::Duration;

/// A host that was set up answers at once, or is in trouble.
const PATIENCE: Duration = Duration::from_secs(20);

/// The port of Redis over TLS on every host.
pub const REDIS_PORT: u16 = 6379;
pub use crate::sequences::setup::hosts::LOGIN;

pub struct Context {
    pub common: Common,
    pub config: Config,
    pub ui: Ui,
    pub interrupt: Interrupt,
    pub platform: Platform,
    /// The agent for the hosts; `None` means the one beside this program.
    pub agent: Option<PathBuf>,
}

/// The addresses at which the operator reaches the hosts; the master's is the endpoint's.
pub struct Addresses(BTreeMap<Role, String>);

impl Addresses {
    pub fn of(&self, role: Role) -> Result<&str> {
        self.0.get(&role).map(String::as_str).ok_or_else(|| {
            Error::failed(format!(
                "find the {role}: no instance with a public address carries its tags"
            ))
            .hint("run `infra up`: it makes or starts it")
        })
    }
}

/// The cloud side of an environment.
pub struct Environment {
    pub cloud: Cloud,
    pub store: Store,
    pub names: Names,
}

/// The pair that `up` has made: its state, and all by which its hosts are reached.
pub struct KnownPair {
    pub state: State,
    pub secrets: Secrets,
    pub addresses: Addresses,
}

impl Context {
    pub fn new(common: Common, ui: Ui, interrupt: Interrupt) -> Result<Self> {
        let env: Result<Name<24>, String> = common.env.parse();
        env.map_err(|wrong| Error::usage(format!("accept --env: {wrong}")))?;
        let config = Config::load(&common.config)?;
        let platform = match (config.app.platform, &config.app.commands) {
            (PlatformKind::Command, Some(commands)) => Platform::Command(Hook::new(&config.app.name, commands.clone())),
            _ => Platform::Heroku(Heroku::from_env(&config.app.name)?),
        };
        Ok(Context {
            common,
            config,
            ui,
            interrupt,
            platform,
            agent: std::env::var_os("INFRA_AGENT").map(PathBuf::from),
        })
    }

    pub fn env(&self) -> &str {
        &self.common.env
    }

    pub fn inventory_path(&self) -> PathBuf {
        Inventory::path(&self.common.inventory, self.env())
    }

    /// Connects to the cloud in the region of `infra.yml`, or else in the app's.
    pub async fn environment(&self) -> Result<Environment> {
        let region = match &self.config.region {
            Some(region) => region.clone(),
            None => self.platform.aws_region().await?.ok_or_else(|| {
                Error::usage("choose a region: the app's platform tells none").hint("set `region` in infra.yml")
            })?,
        };
        let cloud = Cloud::connect(Some(&region), self.config.aws.endpoint.as_deref(), &self.ui).await?;
        let names = Names::new(&self.config.name, self.env(), cloud.account(), cloud.region())?;
        let store = Store::new(&cloud, names.bucket(), self.env());
        Ok(Environment { cloud, store, names })
    }

    /// Returns the phase in the journal; `None` if no cutover was ever begun.
    pub async fn phase(&self, environment: &Environment) -> Result<Option<Phase>> {
        Ok(self.history(environment).await?.phase)
    }

    /// Returns what the journal says; empty if no cutover was ever begun.
    pub async fn history(&self, environment: &Environment) -> Result<History> {
        match Journal::latest(&environment.store).await? {
            Some(journal) => entries::read(&journal),
            None => Ok(History::default()),
        }
    }

    /// Returns the app, and those that are switched with it.
    pub fn apps(&self) -> Result<Vec<Platform>> {
        let mut apps = vec![self.platform.clone()];
        for also in &self.config.app.also {
            apps.push(Platform::Heroku(Heroku::from_env(also)?));
        }
        Ok(apps)
    }

    /// Reads the app, and those that are switched with it.
    pub async fn known_apps(&self) -> Result<Vec<KnownApp>> {
        let mut known = Vec::new();
        for app in self.apps()? {
            known.push(app.known().await?);
        }
        Ok(known)
    }

    /// Returns a copy that prints nothing.
    pub fn quietly(&self) -> Context {
        Context {
            ui: Ui::silent(),
            ..self.with_config(self.config.clone())
        }
    }

    /// Returns a copy with other settings.
    pub fn with_config(&self, config: Config) -> Context {
        Context {
            common: self.common.clone(),
            config,
            ui: self.ui.clone(),
            interrupt: self.interrupt.clone(),
            platform: self.platform.clone(),
            agent: self.agent.clone(),
        }
    }

    /// Returns the hosts that name the endpoint in an app's URL: its address, and the own domain.
    pub fn endpoint_names(&self, address: Option<&str>) -> Vec<String> {
        let names = address.map(String::from).into_iter();
        names.chain(self.config.hosts.domain.clone()).collect()
    }

    /// Returns the source that the app's config vars or our own environment name.
    pub async fn source(&self) -> Result<Server> {
        match self.config.source.url_env {
            // The platform need not answer then.
            Some(_) => self.source_in(Ok(&ConfigVars::default())).await,
            None => self.source_in(self.platform.config_vars().await.as_ref()).await,
        }
    }

    /// As `source`, from the app's vars as they were read. An error stands for vars that could not be.
    pub async fn source_in(&self, vars: Result<&ConfigVars, &Error>) -> Result<Server> {
        if self.config.source.none {
            return Err(Error::usage("ask the source: infra.yml says that there is none").hint(
                "this pair got its first data from a file; to move an app off a hosted Redis, name that as `source`",
            ));
        }
        let server = self.source_server(&self.source_url_in(vars)?)?;
        Ok(login::with_known_user(server).await)
    }

    /// Returns the source's URL, of our own environment or else of the app's vars.
    pub fn source_url_in(&self, vars: Result<&ConfigVars, &Error>) -> Result<Secret> {
        match self.url_of_environment()? {
            Some(url) => Ok(url),
            None => source_url(vars.map_err(Error::repeated)?, &self.config),
        }
    }

    /// Returns the source's URL in our own environment; `None` if infra.yml names no such variable.
    fn url_of_environment(&self) -> Result<Option<Secret>> {
        let Some(name) = &self.config.source.url_env else {
            return Ok(None);
        };
        let url = std::env::var(name).map_err(|_| {
            Error::usage(format!(
                "read the source's URL: the environment variable {name} is not set"
            ))
            .hint(format!("set {name} to the redis:// URL of the hosted Redis"))
        })?;
        Ok(Some(Secret::new(url)))
    }

    /// Returns how the vars of these apps name the source. `leave` has the apps of `--leave`.
    pub fn naming(&self, apps: &[KnownApp], source: &Place, leave: &[String]) -> Naming {
        let own = &self.config.app.config_var;
        // The source's URL is read from this var after the switch too.
        let read = self.config.source.config_var.clone().filter(|var| var != own);
        let staying = Staying {
            vars: read.as_slice(),
            apps: leave,
        };
        naming(apps, own, source, staying)
    }

    pub fn source_server(&self, url: &Secret) -> Result<Server> {
        let tls = url.expose().trim_start().starts_with("rediss://");
        let trust = Trust::from(self.config.source.policy());
        Server::from_url("source", url, Some(trust).filter(|_| tls))
    }

    /// Warns of a failure after the command's own work. The command's result stays as it is.
    pub fn warn_of<T>(&self, result: Result<T>) -> Option<T> {
        result
            .map_err(|error| self.ui.warn(format!("could not {error:#}")))
            .ok()
    }

    /// Does `work` under the environment's lock and gives the lock back, whatever comes of the work. A lock that
    /// cannot be given back lapses by itself, so that is only a warning.
    pub async fn locked<T>(
        &self,
        environment: &Environment,
        command: &str,
        work: impl AsyncFnOnce(&Held) -> Result<T>,
    ) -> Result<T> {
        let lock = Lock::acquire(&environment.store, &self.ui, command).await?;
        let result = work(&lock).await;
        self.warn_of(lock.release().await);
        result
    }

    /// Asks before something that cannot be undone. With `--dry-run` it says only what would be done,
    /// and returns false.
    pub fn goes_on(&self, confirmed: &Confirmed, would: String, question: &str) -> Result<bool> {
        if confirmed.dry_run {
            self.ui.would(would);
            return Ok(false);
        }
        self.confirm(confirmed.confirm.as_deref(), question)?;
        Ok(true)
    }

    /// Asks for the deployment's name before something that cannot be undone, unless it was given.
    pub fn confirm(&self, given: Option<&str>, what: &str) -> Result<()> {
        let name: &str = &self.config.name;
        let answer = match given {
            Some(answer) => answer.to_string(),
            None => ask(
                &format!("{what}\nType the name of the deployment ({name}) to go on: "),
                &format!("--confirm {name}"),
            )?,
        };
        if answer.trim() == name {
            Ok(())
        } else {
            Err(Error::usage(format!(
                "confirm: {:?} is not the name of this deployment",
                answer.trim()
            ))
            .hint(format!("confirm with --confirm {name}")))
        }
    }

    /// Asks yes or no before an ordinary change.
    pub fn agree(&self, yes: bool, question: &str) -> Result<()> {
        if yes || matches!(ask(&format!("{question} [y/N] "), "--yes")?.trim(), "y" | "Y" | "yes") {
            Ok(())
        } else {
            Err(Error::usage("make the change: the answer was no").hint("nothing was changed"))
        }
    }
}

/// Returns the source's URL from the var of `infra.yml`. Once the app has moved, the URL stands in
/// the var under which the switch kept the add-on attached.
fn source_url(config_vars: &ConfigVars, config: &Config) -> Result<Secret> {
    let var = source_var(config_vars, config);
    config_vars.get(&var)?.cloned().ok_or_else(|| {
        Error::usage(format!("read the source's URL: the app has no config var {var}"))
            .hint("correct source.config_var in infra.yml; `heroku config` lists the app's vars")
    })
}

/// Returns the name of the var that holds the source's URL.
pub fn source_var(config_vars: &ConfigVars, config: &Config) -> String {
    let named = config.source.config_var.as_deref().unwrap_or(&config.app.config_var);
    if named == config.app.config_var {
        vars::source_var(config_vars, named)
    } else {
        named.to_string()
    }
}

fn ask(question: &str, flag: &str) -> Result<String> {
    if !std::io::stdin().is_terminal() {
        return Err(Error::usage("ask before going on: there is no terminal to ask on")
            .hint(format!("give the answer with {flag}")));
    }
    eprint!("{question}");
    let _ = std::io::stderr().flush();
    let mut answer = String::new();
    std::io::stdin()
        .read_line(&mut answer)
        .map_err(|error| Error::usage("read the answer").because(error))?;
    Ok(answer)
}

impl Environment {
    /// Returns the state that `up` has made, or an error that says to run `up`.
    pub async fn state(&self) -> Result<State> {
        self.store.state().await?.map(|stored| stored.value).ok_or_else(|| {
            Error::failed(format!("read the state of {}: there is none", self.store.env())).hint("run `infra up` first")
        })
    }

    /// Returns the environment's secrets, as far as they were made.
    pub async fn secrets(&self) -> Result<Secrets> {
        find::secrets(&self.cloud, &self.names, &Wanted::standard_parameters()).await
    }

    /// Returns where the hosts are, as EC2 says.
    pub async fn addresses(&self) -> Result<Addresses> {
        let (stored, instances, addresses) = tokio::try_join!(
            self.store.state(),
            ec2::instances(&self.cloud, &self.names),
            ec2::addresses(&self.cloud, &self.names)
        )?;
        let state = stored.map(|stored| stored.value).unwrap_or_default();
        let reached = instances.iter().filter_map(|instance| {
            let elastic = addresses
                .iter()
                .find(|address| address.instance.as_deref() == Some(&instance.id));
            let address = elastic
                .map(|address| &address.public_ip)
                .or(instance.public_ip.as_ref())?;
            Some((state.role_of(&instance.id, instance.role), address.clone()))
        });
        Ok(Addresses(reached.collect()))
    }

    /// Returns the SSM parameters of the environment, to be changed.
    pub fn parameters(&self) -> Parameters<'_> {
        Parameters {
            cloud: &self.cloud,
            names: &self.names,
        }
    }

    /// Returns the pair that `up` has made, or an error that says to run `up`.
    pub async fn pair(&self) -> Result<KnownPair> {
        let (state, secrets, addresses) = tokio::try_join!(self.state(), self.secrets(), self.addresses())?;
        Ok(KnownPair {
            state,
            secrets,
            addresses,
        })
    }
}

impl KnownPair {
    /// Returns the server on a host, with its admin's login.
    pub fn server(&self, role: Role) -> Result<Server> {
        host_server(role, self.addresses.of(role)?, &self.secrets)
    }

    /// Returns the endpoint as the app reaches it, with its login.
    pub fn endpoint(&self) -> Result<Server> {
        let none = || Error::failed("find the endpoint: there is none yet").hint("run `infra up` first");
        Ok(Server {
            label: "endpoint".into(),
            host: self.state.endpoint.clone().ok_or_else(none)?,
            port: REDIS_PORT,
            user: Some(RedisUser::App.name().into()),
            password: Some(self.secrets.password(RedisUser::App)?.clone()),
            trust: Some(Trust::Authority(self.secrets.ca_cert()?.to_string())),
        })
    }

    /// Returns how to log in to a host: with the environment's key, if the host shows a pinned one.
    pub fn target(&self, role: Role) -> Result<Target> {
        let record = host_record(&self.state, role)?;
        Ok(Target {
            label: role.name().into(),
            address: self.addresses.of(role)?.into(),
            port: 22,
            user: LOGIN.into(),
            private_key: self.secrets.ssh_key()?.clone(),
            pinned: record.pinned().map(str::parse).collect::<Result<_>>()?,
        })
    }

    /// Opens a session on a host, with its pinned key.
    pub async fn log_in(&self, role: Role) -> Result<Session> {
        Session::connect(&self.target(role)?, PATIENCE).await
    }
}

/// Returns the record of a host that `up` has made.
pub fn host_record(state: &State, role: Role) -> Result<&HostRecord> {
    state
        .hosts
        .get(&role)
        .filter(|host| !host.instance_id.is_empty())
        .ok_or_else(|| {
            Error::failed(format!("find the {role}: this environment has none yet")).hint("run `infra up` first")
        })
}

/// Returns the server on one of our hosts, with its admin's login.
pub fn host_server(role: Role, address: &str, secrets: &Secrets) -> Result<Server> {
    Ok(Server {
        label: role.name().into(),
        host: address.into(),
        port: REDIS_PORT,
        user: Some("admin".into()),
        password: Some(secrets.password(RedisUser::Admin)?.clone()),
        trust: Some(Trust::Authority(secrets.ca_cert()?.to_string())),
    })
}
