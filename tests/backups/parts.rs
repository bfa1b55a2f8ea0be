//! Some keys of a restore, as commands that replace the live ones.

use infra::effects::backup::catalogue::Wish;
use infra::effects::backup::restore::{self, Altered, COMMANDS};
use infra::ui::Ui;
use std::process::{Command, Stdio};
use std::time::Duration;
use testkit::backups::{ENV, World};
use testkit::waiting::until;

#[tokio::test(flavor = "multi_thread")]
async fn some_keys_become_commands_that_an_engine_takes() {
    let mut world = World::new(2).await;
    world.start_shipping();
    world.ask(&["SET", "user:1", "before", "EX", "3600"]);
    world.ask(&["RPUSH", "user:list", "a", "b", "c"]);
    world.ask(&["SET", "user:short", "before", "PX", "4000"]);
    world.ask(&["SET", "other", "before"]);
    let second = jiff::Timestamp::now().as_second();
    std::thread::sleep(Duration::from_secs(5));
    world.ask(&["SET", "user:1", "after"]);
    world.ask(&["DEL", "user:list"]);
    until("the second is shipped", || world.shipped_until() > second);
    let catalogue = world.catalogue().await;
    let wish = Wish::At(jiff::Timestamp::from_second(second).unwrap());
    let choice = restore::choose(&catalogue, &wish).unwrap();
    for (keep_life, keys) in [(false, 2), (true, 3)] {
        let folder = tempfile::tempdir().unwrap();
        let altered = Altered {
            keys: Some("user:*".into()),
            keep_life,
        };
        let step = Ui::silent().step("restore");
        let restored = restore::to_folder(&world.bucket, ENV, &choice, folder.path(), true, &altered, &step)
            .await
            .unwrap();
        let picked = restored.picked.unwrap();
        assert_eq!((picked.keys, picked.expired), (keys, 3 - keys));
        let commands = std::fs::File::open(folder.path().join(COMMANDS)).unwrap();
        let done = Command::new("redis-cli")
            .arg("-s")
            .arg(world.path("s"))
            .arg("--pipe")
            .stdin(Stdio::from(commands))
            .output()
            .unwrap();
        assert!(done.status.success(), "{done:?}");
        assert_eq!(world.ask(&["GET", "user:1"]), "before");
        assert_eq!(world.ask(&["LLEN", "user:list"]), "3");
        assert_eq!(world.ask(&["GET", "other"]), "before");
    }
    assert_eq!(world.ask(&["GET", "user:short"]), "before");
}
