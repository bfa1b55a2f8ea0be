//! Every finding of `infra backup verify` has an exit code of its own.

use infra::effects::cloud::s3::{Bucket, If};
use testkit::access;
use testkit::world::World;
use tokio::runtime::Runtime;

/// On an environment whose backups are whole; leaves them so.
pub fn each_damage_has_its_own(world: &World) {
    let runtime = Runtime::new().unwrap();
    let (cloud, names) = runtime.block_on(access::environment());
    let bucket = Bucket::new(&cloud, names.bucket());
    let verify = || world.infra(&["backup", "verify", "--without-load"]);
    verify().exits(0);
    let read = |key: &str| runtime.block_on(bucket.get(key)).unwrap().unwrap().body;
    // The bucket refuses to overwrite a backup, so the test removes an object before it damages it.
    let put = |key: &str, body: &[u8]| {
        runtime.block_on(bucket.delete(key, &If::Always)).unwrap();
        runtime.block_on(bucket.put(key, body, &If::Absent)).unwrap();
    };
    let keys: Vec<String> = (runtime
        .block_on(bucket.list("backups/production/"))
        .unwrap()
        .into_iter())
    .map(|listed| listed.key)
    .collect();
    let pieces: Vec<&String> = keys
        .iter()
        .filter(|key| key.contains("/log/") && key.ends_with(".zst"))
        .collect();
    // Neither the first nor the last of its timeline: what is missing there is told by its neighbours.
    let timeline = |key: &str| key.rsplit_once('/').unwrap().0.to_string();
    let piece = pieces
        .windows(3)
        .find(|three| timeline(three[0]) == timeline(three[2]))
        .map(|three| three[1])
        .unwrap();
    let body = read(piece);
    runtime.block_on(bucket.delete(piece, &If::Always)).unwrap();
    verify().exits(21).says("next: `infra backup now`");
    put(piece, &body);
    verify().exits(0);
    let part = keys.iter().find(|key| key.contains("/base.00000")).unwrap();
    let body = read(part);
    let mut flipped = body.clone();
    flipped[body.len() / 2] ^= 1;
    put(part, &flipped);
    verify().exits(22).says(part.rsplit('/').nth(1).unwrap());
    put(part, &body);
    world.in_the_sandbox(
        "curl -sf -d '{\"service\": \"s3\", \"operation\": \"ListObjectsV2\", \"status\": 403, \"count\": 100}' -H 'Content-Type: application/json' \
         \"$AWS_ENDPOINT_URL/_hv/fault\" >/dev/null",
    );
    let refused = verify();
    world.in_the_sandbox("curl -sf -X DELETE \"$AWS_ENDPOINT_URL/_hv/fault\" >/dev/null");
    refused.exits(24);
    verify().exits(0);
}
