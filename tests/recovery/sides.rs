//! Both sides, the bucket and the account, as the test reaches them past the program; and the way back to `following`.

use crate::way::Way;
use infra::effects::cloud::{Cloud, ec2, teardown};
use infra::effects::state::Store;
use infra::model::cloud::Standing;
use infra::model::names::Names;
use infra::model::role::Role;
use infra::model::secrets::RedisUser;
use infra::model::state::State;
use sandbox::connect::Target;
use serde_json::{Value, json};
use std::time::Duration;
use testkit::access::{self, state_dir};
use testkit::pair::Pair;
use testkit::world::World;
use tokio::runtime::Runtime;

pub struct Sides {
    pub pair: Pair,
    store: Store,
    /// The Redis that the app uses before the move.
    pub source: Target,
    /// The Redis that the app uses after the move.
    pub endpoint: Target,
}

/// The things in the account.
pub struct Account {
    runtime: Runtime,
    cloud: Cloud,
    names: Names,
}

impl Account {
    pub fn new() -> Self {
        let runtime = Runtime::new().unwrap();
        let (cloud, names) = runtime.block_on(access::environment());
        Account { runtime, cloud, names }
    }

    fn standing(&self) -> Standing {
        self.runtime.block_on(teardown::find(&self.cloud, &self.names)).unwrap()
    }

    pub fn is_empty(&self) -> bool {
        self.standing() == Standing::default()
    }

    /// The things of each kind, found by tag, name and prefix, without values that differ in each run.
    pub fn shape(&self) -> String {
        let mut standing = self.standing();
        standing.parameters.sort();
        let rules = self.runtime.block_on(ec2::group(&self.cloud, &self.names)).unwrap();
        format!(
            "{} instances, {} addresses, {} groups, rules {:?}, role {}, profile {}, key pair {}, bucket {}, parameters {:?}",
            standing.instances.len(),
            standing.addresses.len(),
            standing.groups.len(),
            rules.map(|group| group.rules),
            standing.role,
            standing.profile,
            standing.key_pair,
            standing.bucket,
            standing.parameters
        )
    }

    /// All machines that take up room, also those without a tag.
    pub fn machines(&self) -> usize {
        access::instances()
            .iter()
            .filter(|instance| instance["state"] != "terminated")
            .count()
    }
}

impl Sides {
    /// After `infra up`.
    pub fn of(world: &World) -> Self {
        let pair = Pair::of(world);
        let endpoint = pair.server(Role::Master, RedisUser::App).url();
        Sides {
            store: Store::new(&pair.cloud, pair.names.bucket(), "production"),
            source: Target::parse(&world.vars()["REDIS_URL"], None).unwrap(),
            endpoint: Target::parse(endpoint.expose(), Some(pair.secrets.ca_cert().unwrap())).unwrap(),
            pair,
        }
    }

    /// Returns the things in the account, but for the counts of what a run writes.
    pub fn standing(&self) -> Standing {
        let mut standing = self
            .pair
            .runtime
            .block_on(teardown::find(&self.pair.cloud, &self.pair.names))
            .unwrap();
        standing.state_versions = 0;
        standing.backups = 0;
        standing.backup_bytes = 0;
        standing.backup_versions = 0;
        standing
    }

    /// Returns true if the master follows the source, and the replica the master.
    pub fn both_follow(&self, world: &World) -> bool {
        match Way::wanted() {
            Way::Replication => self.have_links(&Role::ALL),
            Way::Copy => self.have_links(&[Role::Replica]) && Way::copy_follows(&world.status()),
        }
    }

    fn have_links(&self, roles: &[Role]) -> bool {
        roles.iter().copied().all(|role| {
            let info = self
                .pair
                .runtime
                .block_on(async { self.pair.server(role, RedisUser::Admin).connect(0).await?.info().await });
            info.is_ok_and(|info| info.link.is_some_and(|link| link.up))
        })
    }

    /// Waits only for a while: a promoted pair does not follow, and then the program says what is
    /// wrong.
    pub fn wait_until_the_pair_follows(&self, world: &World) {
        let end = std::time::Instant::now() + Duration::from_secs(20);
        while !self.both_follow(world) && std::time::Instant::now() < end {
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    async fn forget_the_cutover(&self) {
        let bucket = self.store.bucket();
        for listed in bucket.list("state/production/journal/").await.unwrap() {
            bucket
                .delete(&listed.key, &infra::effects::cloud::s3::If::Always)
                .await
                .unwrap();
        }
        if let Some(stored) = self.store.state().await.unwrap() {
            let state = State {
                phase: "following".into(),
                cutover: None,
                ..stored.value
            };
            self.store.save(&state, Some(&stored.etag)).await.unwrap();
        }
    }

    async fn empty_the_source(&self) {
        let mut connection = self.source.connect(0, Duration::from_secs(10)).await.unwrap();
        let mut pipe = redis::pipe();
        pipe.cmd("CLIENT").arg("UNPAUSE").cmd("FLUSHALL");
        // A host that allows no pause has none to end.
        if let Err(refused) = pipe.exec_async(&mut connection.commands).await {
            assert!(refused.to_string().contains("client|unpause"), "{refused}");
        }
    }

    /// Returns true if the key is where the app is.
    pub fn has(&self, side: &Target, key: &str) -> bool {
        self.pair.runtime.block_on(async {
            let mut connection = side.connect(0, Duration::from_secs(10)).await.unwrap();
            let exists = redis::cmd("EXISTS").arg(key).to_owned();
            exists.query_async(&mut connection.commands).await.unwrap()
        })
    }

    /// Everything as `infra up` left it, with the app writing to the source and a new ledger.
    pub fn back_to_following(&self, world: &World) {
        stop_the_app(world);
        let platform = |method: &str, path: &str, body: Value| world.platform(method, path, &body.to_string());
        let attachments: Value =
            serde_json::from_str(&platform("GET", "/apps/demo/addon-attachments", json!({}))).unwrap();
        let attachments = attachments.as_array().unwrap();
        let is_owned = attachments.iter().any(|attachment| attachment["name"] == "REDIS");
        let vars = if is_owned {
            json!({ "REDIS_CA": null })
        } else {
            json!({ "REDIS_URL": null, "REDIS_CA": null })
        };
        platform("PATCH", "/apps/demo/config-vars", vars);
        if !is_owned {
            let addon = &attachments[0]["addon"]["name"];
            platform(
                "POST",
                "/addon-attachments",
                json!({ "addon": addon, "app": "demo", "name": "REDIS" }),
            );
        }
        for attachment in attachments.iter().filter(|attachment| attachment["name"] != "REDIS") {
            let id = attachment["id"].as_str().unwrap();
            platform("DELETE", &format!("/addon-attachments/{id}"), json!({}));
        }
        self.pair.runtime.block_on(self.empty_the_source());
        if Way::wanted() == Way::Copy {
            // A copy keeps what the source has no longer, if it is much: it may have been lost there.
            world.infra(&["redis-cli", "master", "FLUSHALL"]);
        }
        for (host, action) in [
            ("master", "door closed"),
            ("replica", "door closed"),
            ("master", "follow"),
        ] {
            let command = format!("infra-role {action}");
            let words: Vec<&str> = ["ssh", host, "sudo"].into_iter().chain(command.split(' ')).collect();
            world.infra(&words).exits(0);
        }
        self.pair.runtime.block_on(self.forget_the_cutover());
        forget_the_ledgers();
        world.sandbox(&["app", "seed", "--keys", "300"]);
        self.begin(world);
    }

    /// The app writes and both hosts follow.
    pub fn begin(&self, world: &World) {
        world.scale(2, 1);
        let end = std::time::Instant::now() + Duration::from_secs(60);
        while !self.both_follow(world) {
            assert!(
                std::time::Instant::now() < end,
                "the hosts do not follow: {:#}\n{}",
                world.status(),
                Self::said_by_the_master(world)
            );
            std::thread::sleep(Duration::from_millis(200));
        }
        world.wait_for_more_writes(500);
    }

    fn said_by_the_master(world: &World) -> String {
        let units = "sudo systemctl status --no-pager infra-copy infra-tunnel; sudo journalctl --no-pager -n 60 -u infra-copy -u infra-tunnel";
        world.infra(&["ssh", "master", units]).printed()
    }
}

/// Call this only while the app is stopped.
pub fn forget_the_ledgers() {
    for file in std::fs::read_dir(state_dir().join("ledger/demo")).unwrap() {
        std::fs::remove_file(file.unwrap().path()).unwrap();
    }
}

/// Until nothing of the app runs any more.
pub fn stop_the_app(world: &World) {
    world.scale(0, 0);
    world.until(Duration::from_secs(60), "the app's processes to end", || {
        let report = world.report();
        report["apps"][0]["processes"]
            .as_array()
            .unwrap()
            .iter()
            .all(|process| process["state"] == "ended")
    });
}
