//! Every password replaced while an app writes 2,000 times a second: nobody notices, and the old ones open nothing afterwards.

use crate::machine::Machine;
use infra::effects::platform::Heroku;
use infra::effects::redis::Server;
use infra::effects::redis::connection::is_refused_login;
use infra::model::role::Role;
use infra::model::secret::Secret;
use infra::model::secrets::RedisUser;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;
use testkit::pair::Pair;
use testkit::world::World;
use tokio::runtime::Runtime;

/// A process of the app that loses its connection again and again, which the app's own never do: it logs in at any moment with what it was started with.
struct Reconnecting {
    ended: Arc<AtomicBool>,
    trying: JoinHandle<(u32, u32)>,
}

impl Reconnecting {
    /// Connects again and again, like one of the running processes. `app` is the server with the
    /// password that they have.
    fn begin(app: Server) -> Self {
        let variables = testkit::access::variables();
        let key = Secret::new(variables["HEROKU_API_KEY"].as_str());
        let platform = Heroku::new(&variables["HEROKU_API_URL"], key, "demo").unwrap();
        let ended = Arc::new(AtomicBool::new(false));
        let stop = ended.clone();
        let trying = std::thread::spawn(move || {
            let runtime = Runtime::new().unwrap();
            runtime.block_on(async {
                let newest = platform.dynos().await.unwrap().iter().map(|dyno| dyno.release).max();
                let (mut taken, mut refused) = (0, 0);
                while !stop.load(Ordering::Relaxed) {
                    match app.connect(0).await {
                        Ok(_) => taken += 1,
                        Err(error) => {
                            assert!(is_refused_login(&error), "{:?}", error.chain());
                            // The old password may be refused once no process has it.
                            let dynos = platform.dynos().await.unwrap();
                            refused += u32::from(dynos.iter().any(|dyno| Some(dyno.release) <= newest));
                        }
                    }
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                (taken, refused)
            })
        });
        Reconnecting { ended, trying }
    }

    /// How often it was let in, and refused while processes like it ran.
    fn end(self) -> (u32, u32) {
        self.ended.store(true, Ordering::Relaxed);
        self.trying.join().unwrap()
    }
}

pub fn of_everybody_is_not_noticed(world: &World) {
    let old = Pair::of(world);
    let before = world.status();
    let errors = crate::client_errors(world);
    let written = world.ledger()["acknowledged"].as_u64().unwrap();
    let reconnecting = Reconnecting::begin(old.server(Role::Master, RedisUser::App));
    let begun = std::time::Instant::now();
    let done = world
        .infra(&["rotate", "--yes", "--grace", "4s", "--json"])
        .exits(0)
        .json();
    let (taken, refused) = reconnecting.end();
    assert!(
        taken > 20 && refused == 0,
        "let in {taken} times, and refused {refused} times"
    );
    let rotated: Vec<&str> = done["rotated"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["user"].as_str().unwrap())
        .collect();
    assert_eq!(
        rotated,
        ["app", "replication", "backup", "monitoring", "admin"],
        "{done}"
    );
    assert_eq!(done["rotated"][0]["severed"], 0, "{done}");
    let rate = (world.ledger()["acknowledged"].as_u64().unwrap() - written) as f64 / begun.elapsed().as_secs_f64();
    println!(
        "every password replaced in {:.1} s under {rate:.0} writes a second: {done}",
        begun.elapsed().as_secs_f64()
    );
    world.wait_for_more_writes(2_000);
    assert_eq!(crate::client_errors(world), errors, "clients saw errors");

    let new = Pair::of(world);
    for role in Role::ALL {
        for user in RedisUser::ALL {
            if user.comes_from_anywhere() {
                let was = old.server(role, user);
                let why = new
                    .refusal(&was)
                    .unwrap_or_else(|| panic!("{role}: the old password of {user} is accepted"));
                assert!(why.contains("do not fit"), "{role} {user}: {why}");
                let is = new.server(role, user);
                assert_eq!(new.refusal(&is), None, "{role} {user}");
            }
            let machine = Machine::of_role(world, role.name());
            let was = machine.engine_as(user.name(), &old.password(user), "PING");
            assert!(was.contains("WRONGPASS"), "{role} {user}: {was}");
            let is = machine.engine_as(user.name(), &new.password(user), "PING");
            assert!(is.contains("PONG"), "{role} {user}: {is}");
        }
    }
    let status = world.status();
    assert_eq!(status["servers"]["replica"]["link_up"], true, "{status}");
    for role in Role::ALL {
        assert_eq!(
            status["servers"][role.name()]["run_id"],
            before["servers"][role.name()]["run_id"],
            "an engine was restarted"
        );
    }
    assert_eq!(status["drift"], serde_json::json!([]), "{status}");
    world.infra(&["backup", "now"]).exits(0);
    assert_eq!(world.infra(&["up", "--yes", "--json"]).exits(0).json()["changes"], 0);
    // One alone, by name; a dry run changes nothing.
    world
        .infra(&["rotate", "backup", "--dry-run"])
        .exits(0)
        .says("both passwords are accepted");
    assert_eq!(
        Pair::of(world).password(RedisUser::Backup),
        new.password(RedisUser::Backup)
    );
}
