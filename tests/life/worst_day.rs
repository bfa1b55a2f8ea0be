//! Both hosts are lost, and the bucket has all.

use super::roles;
use std::time::Duration;
use testkit::pair::Pair;
use testkit::world::World;

use infra::effects::cloud::ec2;

/// Terminates an instance and waits until EC2 no longer lists it.
fn lose(world: &World, pair: &Pair, id: &str) {
    let Pair {
        runtime, cloud, names, ..
    } = pair;
    let ids = [id.to_string()];
    let terminated = ec2::terminate(cloud, &ids);
    runtime.block_on(terminated).unwrap();
    world.until(Duration::from_secs(60), "the instance to be gone", || {
        let standing = runtime.block_on(ec2::instances(cloud, names)).unwrap();
        standing.iter().all(|instance| instance.id != id)
    });
}

pub fn is_over_with_one_command(world: &World) {
    world.scale(0, 0);
    // The log of the last second is shipped with the next one.
    world.infra(&["backup", "now"]).exits(0);
    let (master, replica) = roles(world);
    let pair = Pair::of(world);
    lose(world, &pair, &master);
    // A new master would be empty, and the replica would copy that.
    world.infra(&["up", "--yes"]).exits(1).says("promote --force");
    let whole = ["restore", "--latest", "--to", "pair", "--confirm", "demo"];
    world.infra(&whole).exits(1).says("promote --force");
    lose(world, &pair, &replica);
    world.infra(&["up", "--yes"]).exits(1).says("--to pair");
    world.infra(&whole).exits(0).says("the master serves");
    world.infra(&whole).exits(1).says("--to live");
    world.infra(&["up", "--yes"]).exits(0).says("nothing to change");
    world.scale(2, 1);
    world.wait_for_more_writes(200);
    world.nothing_was_lost(200);
}
