//! Both hosts are lost, and more of the account with them; the bucket has all.

use super::grow::{at_every_point, is_wanted, kill};
use super::hosts::Hosts;
use super::roles;
use std::time::{Duration, Instant};
use testkit::access;
use testkit::pair::Pair;
use testkit::world::World;

use infra::decide::vars::hosted_var;
use infra::effects::cloud::ec2;

/// The rest of an account of which both hosts are gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Left {
    /// Everything else.
    Account,
    /// The bucket: no address, no security group, no secret, no role.
    Bucket,
    /// The backups in the bucket, without the state beside them.
    Backups,
}

const RESTORE: [&str; 6] = ["restore", "--latest", "--to", "pair", "--confirm", "demo"];

const WAYS: [Left; 3] = [Left::Account, Left::Bucket, Left::Backups];

/// Removes all that `infra up` makes, except hosts and bucket; with an argument the state too.
const TAKE_AWAY: &str = r#"
import boto3, os, sys
client = lambda name: boto3.client(name, endpoint_url=os.environ["AWS_ENDPOINT_URL"])
ec2, ssm, iam = map(client, ("ec2", "ssm", "iam"))
for address in ec2.describe_addresses()["Addresses"]:
    if "AssociationId" in address:
        ec2.disassociate_address(AssociationId=address["AssociationId"])
    ec2.release_address(AllocationId=address["AllocationId"])
for group in ec2.describe_security_groups()["SecurityGroups"]:
    if group["GroupName"].startswith("infra-"):
        ec2.delete_security_group(GroupId=group["GroupId"])
for pair in ec2.describe_key_pairs()["KeyPairs"]:
    ec2.delete_key_pair(KeyName=pair["KeyName"])
pages = ssm.get_paginator("get_parameters_by_path").paginate(Path="/infra/", Recursive=True)
for name in [one["Name"] for page in pages for one in page["Parameters"]]:
    ssm.delete_parameter(Name=name)
role = "infra-demo-production"
iam.remove_role_from_instance_profile(InstanceProfileName=role, RoleName=role)
iam.delete_instance_profile(InstanceProfileName=role)
for policy in iam.list_role_policies(RoleName=role)["PolicyNames"]:
    iam.delete_role_policy(RoleName=role, PolicyName=policy)
iam.delete_role(RoleName=role)
if sys.argv[1:]:
    # The bucket answers over TLS alone.
    s3 = boto3.client("s3", endpoint_url=os.environ["AWS_ENDPOINT_URL_S3"], verify=os.environ["AWS_CA_BUNDLE"])
    bucket = next(one["Name"] for one in s3.list_buckets()["Buckets"] if one["Name"].startswith("infra-demo-"))
    for found in s3.list_objects_v2(Bucket=bucket, Prefix="state/").get("Contents", []):
        s3.delete_object(Bucket=bucket, Key=found["Key"])
"#;

impl Left {
    fn take_the_rest_away(self, world: &World) {
        let state = match self {
            Left::Account => return,
            Left::Bucket => "",
            Left::Backups => "state",
        };
        // The secrets of before are looked for while they are known.
        world.no_secret_was_shown();
        let script = world.folder().join("take-away.py");
        std::fs::write(&script, TAKE_AWAY).unwrap();
        let python = access::paths().python_environment().join("bin/python");
        world.in_the_sandbox(&format!("{} {} {state}", python.display(), script.display()));
    }

    /// Gives the app the new endpoint and password after a restore, if they could not be the old ones.
    fn name_the_endpoint(self, world: &World) {
        if self != Left::Account {
            world.infra(&["switch-app", "--confirm", "demo"]).exits(0);
        }
    }
}

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

/// Before the app is moved, its data is at the source: a restore would go back to an older second of it.
pub fn a_pair_that_only_followed_is_not_restored(world: &World) {
    world.infra(&["backup", "now"]).exits(0);
    let (master, replica) = roles(world);
    let pair = Pair::of(world);
    [master, replica].iter().for_each(|id| lose(world, &pair, id));
    Left::Backups.take_the_rest_away(world);
    world.infra(&RESTORE).exits(1).says("the app had not left its source");
    world.infra(&["up", "--yes"]).exits(0);
}

/// One way, of every run's own, or all of them.
pub fn is_over_with_one_command(world: &World) {
    if super::all() {
        if is_wanted("ways") {
            WAYS.into_iter().for_each(|left| play(world, left));
        }
        if is_wanted("restore") {
            is_survived_at_every_point(world, Left::Account);
        }
        if is_wanted("restore-from-bucket") {
            is_survived_at_every_point(world, Left::Backups);
        }
    } else {
        let seed = usize::try_from(jiff::Timestamp::now().as_second()).unwrap();
        play(world, WAYS[seed % WAYS.len()]);
    }
}

/// The restore is killed at each of its points, every time after both hosts were lost, and what else is not left.
fn is_survived_at_every_point(world: &World, left: Left) {
    at_every_point(&format!("restore --to pair, left is the {left:?}:"), |number| {
        let begun = Instant::now();
        write_all_down(world);
        let (master, replica) = roles(world);
        let pair = Pair::of(world);
        lose(world, &pair, &master);
        lose(world, &pair, &replica);
        left.take_the_rest_away(world);
        let point = kill(world, &RESTORE, number);
        if let Some(point) = &point {
            let took = Hosts::of(world).take_writes();
            assert!(
                took.iter().filter(|(_, takes)| *takes).count() <= 1,
                "{point}: {took:?}"
            );
            let again = world.infra(&RESTORE);
            if again.code() != Some(0) {
                // The killed command had come to its end, and there is a pair again.
                again.exits(1).says("--to live");
            }
        }
        left.name_the_endpoint(world);
        world.infra(&["up", "--yes"]).exits(0).says("nothing to change");
        assert_eq!(world.status()["app"], "endpoint");
        world.scale(2, 1);
        world.wait_for_more_writes(100);
        world.nothing_was_lost(100);
        println!(
            "restore  {number:>3} {:<60} {:>5.1} s",
            point.as_deref().unwrap_or("not killed"),
            begun.elapsed().as_secs_f64()
        );
        point.is_some()
    });
}

/// Stops the app, and has the log of the last second in the bucket: it is shipped with the next one.
fn write_all_down(world: &World) {
    world.scale(0, 0);
    world.infra(&["backup", "now"]).exits(0);
}

/// The app may have gone back to its source since the last backup; its data is there then.
fn an_app_on_its_source_is_left_there(world: &World) {
    let vars = world.vars();
    let source = vars
        .get(&hosted_var("REDIS_URL"))
        .unwrap_or_else(|| panic!("{:?}", vars.keys()));
    world.set_var("REDIS_URL", source);
    world.infra(&RESTORE).exits(1).says("names the source, which answers");
    world.set_var("REDIS_URL", &vars["REDIS_URL"]);
}

fn play(world: &World, left: Left) {
    println!("the worst day, on which only the {left:?} is left");
    write_all_down(world);
    let (master, replica) = roles(world);
    let pair = Pair::of(world);
    lose(world, &pair, &master);
    // A new master would be empty, and the replica would copy that.
    world.infra(&["up", "--yes"]).exits(1).says("promote --force");
    let whole = RESTORE;
    world.infra(&whole).exits(1).says("promote --force");
    lose(world, &pair, &replica);
    world.infra(&["up", "--yes"]).exits(1).says("--to pair");
    left.take_the_rest_away(world);
    if left == Left::Backups {
        // A new pair would follow the source that infra.yml still names.
        world
            .infra(&["restore", "--latest", "--to", "pair", "--dry-run"])
            .exits(0)
            .says("the app had left its source");
        an_app_on_its_source_is_left_there(world);
    }
    let restored = world.infra(&whole).exits(0);
    restored.says("the master serves");
    if left == Left::Account {
        restored.says("names the endpoint as before");
    } else {
        restored.says("`infra switch-app` sets the app's vars");
    }
    left.name_the_endpoint(world);
    world.infra(&whole).exits(1).says("--to live");
    world.infra(&["up", "--yes"]).exits(0).says("nothing to change");
    assert_eq!(world.status()["app"], "endpoint");
    world.scale(2, 1);
    world.wait_for_more_writes(200);
    world.nothing_was_lost(200);
}
