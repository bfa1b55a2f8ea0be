//! Both hosts, as somebody with the app's password reaches them past the endpoint.

use infra::effects::cloud::ec2;
use infra::model::role::Role;
use infra::model::secrets::RedisUser;
use sandbox::connect::Target;
use std::time::Duration;
use testkit::pair::Pair;
use testkit::world::World;

/// A paused master lets a write wait: one that is not answered within this is not taken.
const PATIENCE: Duration = Duration::from_millis(700);

pub struct Hosts {
    pair: Pair,
}

impl Hosts {
    /// After `infra up`.
    pub fn of(world: &World) -> Self {
        Hosts { pair: Pair::of(world) }
    }

    /// Tries a write on every instance, at the address that it has by now.
    pub fn take_writes(&self) -> Vec<(String, bool)> {
        let Pair {
            runtime, cloud, names, ..
        } = &self.pair;
        let instances = runtime.block_on(ec2::instances(cloud, names)).unwrap();
        let addressed = instances
            .into_iter()
            .filter_map(|instance| Some((instance.id, instance.public_ip?)));
        addressed
            .map(|(id, address)| {
                let mut server = self.pair.server(Role::Master, RedisUser::App);
                server.host = address;
                let authority = self.pair.secrets.ca_cert().unwrap();
                let target = Target::parse(server.url().expose(), Some(authority)).unwrap();
                (id, runtime.block_on(takes(&target)))
            })
            .collect()
    }

    /// Returns the type of every instance of the environment, sorted.
    pub fn types(&self) -> Vec<String> {
        let Pair {
            runtime, cloud, names, ..
        } = &self.pair;
        let instances = runtime.block_on(ec2::instances(cloud, names)).unwrap();
        let mut types: Vec<String> = instances.into_iter().map(|one| one.instance_type).collect();
        types.sort();
        types
    }

    /// Starts an instance, as somebody does who knows nothing of the failover.
    pub fn start(&self, id: &str) {
        self.pair.runtime.block_on(ec2::start(&self.pair.cloud, id)).unwrap();
    }

    pub fn both_take_writes(&self) -> bool {
        self.take_writes().iter().filter(|(_, takes)| *takes).count() > 1
    }
}

/// The removal of a key that is not there: a write to whoever has to allow it, without a trace.
async fn takes(target: &Target) -> bool {
    let attempt = async {
        let mut connection = target.connect(0, PATIENCE).await?;
        let command = redis::cmd("DEL").arg("nobody:has:this").to_owned();
        command.exec_async(&mut connection.commands).await
    };
    matches!(tokio::time::timeout(2 * PATIENCE, attempt).await, Ok(Ok(())))
}
