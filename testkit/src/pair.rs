//! The pair of the environment, as a test reaches it past the program: over the network, and in the account.

use crate::access;
use crate::world::World;
use infra::effects::cloud::{Cloud, ec2, find};
use infra::effects::redis::{Server, Trust};
use infra::model::cloud::Wanted;
use infra::model::names::Names;
use infra::model::role::Role;
use infra::model::secret::Secret;
use infra::model::secrets::{RedisUser, Secrets};
use std::collections::BTreeMap;
use tokio::runtime::Runtime;

pub struct Pair {
    pub runtime: Runtime,
    pub cloud: Cloud,
    pub names: Names,
    pub secrets: Secrets,
    /// The public address of each host; the master's is the endpoint.
    pub addresses: BTreeMap<Role, String>,
}

impl Pair {
    /// After `infra up`; the secrets are those of this moment.
    pub fn of(_: &World) -> Self {
        let runtime = Runtime::new().unwrap();
        let (cloud, names, secrets, addresses) = runtime.block_on(async {
            let (cloud, names) = access::environment().await;
            let parameters = Wanted::standard_parameters();
            let secrets = find::secrets(&cloud, &names, &parameters).await.unwrap();
            let instances = ec2::instances(&cloud, &names).await.unwrap();
            let addresses = instances
                .into_iter()
                .filter_map(|instance| Some((instance.role, instance.public_ip?)))
                .collect();
            (cloud, names, secrets, addresses)
        });
        Pair {
            runtime,
            cloud,
            names,
            secrets,
            addresses,
        }
    }

    pub fn password(&self, user: RedisUser) -> Secret {
        self.secrets.password(user).unwrap().clone()
    }

    /// Returns a host's engine for a user with its own password.
    pub fn server(&self, role: Role, user: RedisUser) -> Server {
        self.server_with(role, user.name(), &self.password(user))
    }

    /// Returns a host's engine for somebody who has this password.
    pub fn server_with(&self, role: Role, user: &str, password: &Secret) -> Server {
        Server {
            label: role.name().into(),
            host: self.addresses[&role].clone(),
            port: 6379,
            user: Some(user.into()),
            password: Some(password.clone()),
            trust: Some(Trust::Authority(self.secrets.ca_cert().unwrap().to_string())),
        }
    }

    /// Returns the reason why the server refuses the login; `None` if it accepts it.
    pub fn refusal(&self, server: &Server) -> Option<String> {
        let error = self.runtime.block_on(server.connect(0)).err()?;
        Some(format!(
            "{} next: {}",
            error.chain().join(": "),
            error.next_step().unwrap_or("")
        ))
    }

    /// Returns the engine's answer to a command, as text.
    pub fn answer(&self, server: &Server, command: &str) -> String {
        self.runtime.block_on(async {
            let mut connection = server.connect(0).await.unwrap();
            let mut words = command.split(' ');
            let mut asked = redis::cmd(words.next().unwrap());
            words.for_each(|word| {
                asked.arg(word);
            });
            match connection.ask(&asked).await {
                Ok(value) => format!("{value:?}"),
                Err(error) => error.chain().join(": "),
            }
        })
    }
}
