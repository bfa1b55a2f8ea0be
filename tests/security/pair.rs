//! A pair whose app has moved, and what a test needs to try its doors from outside.

use infra::effects::cloud::{ec2, find};
use infra::effects::redis::{Server, Trust};
use infra::model::cloud::Wanted;
use infra::model::names::Names;
use infra::model::role::Role;
use infra::model::secret::Secret;
use infra::model::secrets::{RedisUser, Secrets};
use std::collections::BTreeMap;
use testkit::access;
use testkit::world::World;
use tokio::runtime::Runtime;

pub struct Pair {
    pub runtime: Runtime,
    pub names: Names,
    pub secrets: Secrets,
    pub addresses: BTreeMap<Role, String>,
}

impl Pair {
    /// After `infra up`; the secrets are those of this moment.
    pub fn of(_: &World) -> Self {
        let runtime = Runtime::new().unwrap();
        let (names, secrets, addresses) = runtime.block_on(async {
            let (cloud, names) = access::environment().await;
            let parameters = Wanted::standard_parameters();
            let secrets = find::secrets(&cloud, &names, &parameters).await.unwrap();
            let instances = ec2::instances(&cloud, &names).await.unwrap();
            let addresses = instances
                .into_iter()
                .filter_map(|instance| Some((instance.role, instance.public_ip?)))
                .collect();
            (names, secrets, addresses)
        });
        Pair {
            runtime,
            names,
            secrets,
            addresses,
        }
    }

    pub fn password(&self, user: RedisUser) -> Secret {
        self.secrets.password(user).unwrap().clone()
    }

    /// A host's engine for somebody who has this password.
    pub fn server(&self, role: Role, user: &str, password: &Secret) -> Server {
        Server {
            label: role.name().into(),
            host: self.addresses[&role].clone(),
            port: 6379,
            user: Some(user.into()),
            password: Some(password.clone()),
            trust: Some(Trust::Authority(self.secrets.ca_cert().unwrap().to_string())),
        }
    }

    /// Why somebody is not let in; nothing where they are.
    pub fn refusal(&self, server: &Server) -> Option<String> {
        let error = self.runtime.block_on(server.connect(0)).err()?;
        Some(format!(
            "{} next: {}",
            error.chain().join(": "),
            error.next_step().unwrap_or("")
        ))
    }

    /// What the engine answers to a command, as text.
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
