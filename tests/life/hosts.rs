//! Both hosts, as somebody with the app's password reaches them past the endpoint.

use infra::effects::cloud::ec2;
use infra::model::cloud::Instance;
use infra::model::role::Role;
use infra::model::secrets::RedisUser;
use sandbox::connect::{Connection, Target};
use sandbox::demo::ledger::{self, Expectations, Observed};
use std::time::Duration;
use testkit::access;
use testkit::pair::Pair;
use testkit::world::World;

/// A paused master lets a write wait: one that is not answered within this is not taken.
const PATIENCE: Duration = Duration::from_millis(700);
/// The value of a key that fills memory, and how many of them one command writes.
const VALUE: usize = 4000;
const BATCH: usize = 100;

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
            .map(|(id, address)| (id, runtime.block_on(takes(&self.target(&address)))))
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

    /// Opens a connection of the app to an instance, at the address that it has by now.
    pub fn connect(&self, id: &str) -> Connection {
        self.connect_for(id, PATIENCE)
    }

    /// The same, for commands that may take so long.
    pub fn connect_for(&self, id: &str, patience: Duration) -> Connection {
        let target = self.target(&self.instance(id).public_ip.unwrap());
        self.pair.runtime.block_on(target.connect(0, patience)).unwrap()
    }

    /// Opens so many connections of the app to an instance, one after the other.
    pub fn connect_often(&self, id: &str, count: usize, patience: Duration) -> Vec<Connection> {
        let target = self.target(&self.instance(id).public_ip.unwrap());
        let connect = |_| self.pair.runtime.block_on(target.connect(0, patience)).unwrap();
        (0..count).map(connect).collect()
    }

    /// Opens a connection of the administrator to a database of an instance.
    pub fn administer(&self, id: &str, database: i64, patience: Duration) -> Connection {
        let target = self.target_as(RedisUser::Admin, &self.instance(id).public_ip.unwrap());
        self.pair.runtime.block_on(target.connect(database, patience)).unwrap()
    }

    /// Returns the certificate authority of the pair (PEM).
    pub fn authority(&self) -> &str {
        self.pair.secrets.ca_cert().unwrap()
    }

    /// Tries a write over a connection.
    pub fn takes(&self, connection: &mut Connection) -> bool {
        self.pair.runtime.block_on(removes(connection))
    }

    /// Returns how many bytes the engine has, and how many it may have.
    pub fn memory(&self, connection: &mut Connection) -> (u64, u64) {
        let info: String = self.ask(connection, redis::cmd("INFO").arg("memory"));
        let number = |name: &str| {
            let line = info.lines().find_map(|line| line.strip_prefix(&format!("{name}:")));
            line.unwrap().trim().parse().unwrap()
        };
        (number("used_memory"), number("maxmemory"))
    }

    /// Writes keys of some kilobytes until they take so many bytes; returns how many there are.
    pub fn fill(&self, connection: &mut Connection, bytes: u64) -> u64 {
        let keys = bytes / (VALUE as u64 + 200);
        for first in (0..keys).step_by(BATCH) {
            self.write(connection, first..keys.min(first + BATCH as u64), b'x');
        }
        keys
    }

    /// Writes some of these keys again with other values; returns how many.
    pub fn rewrite(&self, connection: &mut Connection, keys: u64) -> u64 {
        let at =
            u64::from(std::process::id()).wrapping_mul(jiff::Timestamp::now().as_microsecond().cast_unsigned()) % keys;
        let some = at..keys.min(at + BATCH as u64);
        let count = some.end - some.start;
        self.write(connection, some, b'y');
        count
    }

    pub fn empty(&self, connection: &mut Connection, keys: u64) {
        for first in (0..keys).step_by(BATCH) {
            let mut removal = redis::cmd("UNLINK");
            (first..keys.min(first + BATCH as u64)).for_each(|key| {
                removal.arg(format!("soak:{key}"));
            });
            let _: u64 = self.ask(connection, &removal);
        }
    }

    fn write(&self, connection: &mut Connection, keys: std::ops::Range<u64>, byte: u8) {
        let mut batch = redis::cmd("MSET");
        for key in keys {
            batch.arg(format!("soak:{key}")).arg(vec![byte; VALUE]);
        }
        let _: String = self.ask(connection, &batch);
    }

    pub fn ask<T: redis::FromRedisValue>(&self, connection: &mut Connection, command: &redis::Cmd) -> T {
        self.try_to_ask(connection, command).unwrap()
    }

    /// The same, for a command that may be refused.
    pub fn try_to_ask<T: redis::FromRedisValue>(
        &self,
        connection: &mut Connection,
        command: &redis::Cmd,
    ) -> redis::RedisResult<T> {
        let asking = command.query_async(&mut connection.commands);
        self.pair.runtime.block_on(asking)
    }

    /// Returns EC2's word for an instance's state.
    pub fn state(&self, id: &str) -> String {
        let state = ec2::state_of(&self.pair.cloud, id);
        self.pair.runtime.block_on(state).unwrap().unwrap_or_default()
    }

    /// Returns the addresses of an instance.
    pub fn addresses(&self, id: &str) -> Vec<String> {
        let instance = self.instance(id);
        [instance.private_ip, instance.public_ip]
            .into_iter()
            .flatten()
            .collect()
    }

    fn instance(&self, id: &str) -> Instance {
        let found = ec2::instance(&self.pair.cloud, id);
        self.pair.runtime.block_on(found).unwrap().unwrap()
    }

    /// Returns a file of a machine, read past its network; empty if there is none.
    pub fn file(&self, id: &str, path: &str) -> String {
        let disk = access::state_dir().join("machines").join(id).join("upper");
        std::fs::read_to_string(disk.join(path.trim_start_matches('/'))).unwrap_or_default()
    }

    /// Returns what the master has of all that the app's ledgers name.
    pub fn observe(&self, expected: &Expectations) -> Observed {
        let master = self.take_writes().into_iter().find(|(_, takes)| *takes).unwrap().0;
        let target = self.target(&self.instance(&master).public_ip.unwrap());
        self.observe_at(&target, expected).unwrap()
    }

    /// The same, of any Redis; `None` if it does not answer.
    pub fn observe_at(&self, target: &Target, expected: &Expectations) -> Option<Observed> {
        self.pair.runtime.block_on(ledger::observe(target, expected)).ok()
    }

    fn target(&self, address: &str) -> Target {
        self.target_as(RedisUser::App, address)
    }

    fn target_as(&self, user: RedisUser, address: &str) -> Target {
        let mut server = self.pair.server(Role::Master, user);
        server.host = address.into();
        let authority = self.pair.secrets.ca_cert().unwrap();
        Target::parse(server.url().expose(), Some(authority)).unwrap()
    }

    pub fn both_take_writes(&self) -> bool {
        self.take_writes().iter().filter(|(_, takes)| *takes).count() > 1
    }
}

/// The removal of a key that is not there: a write to whoever has to allow it, without a trace.
async fn takes(target: &Target) -> bool {
    let attempt = async {
        let mut connection = target.connect(0, PATIENCE).await.ok()?;
        Some(removes(&mut connection).await)
    };
    matches!(tokio::time::timeout(2 * PATIENCE, attempt).await, Ok(Some(true)))
}

async fn removes(connection: &mut Connection) -> bool {
    let command = redis::cmd("DEL").arg("nobody:has:this").to_owned();
    command.exec_async(&mut connection.commands).await.is_ok()
}
