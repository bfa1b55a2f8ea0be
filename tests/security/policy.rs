//! The policies that `infra policy` prints, each given to a user who has nothing else: every command that it is for works, and nothing in it is too much.

use crate::machine::Machine;
use aws_sdk_ec2::types::{IpPermission, IpRange};
use serde_json::Value;
use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;
use testkit::access::{Keys, config, uses};
use testkit::world::World;
use tokio::runtime::Runtime;

/// Permissions that the whole way does not use, and why they are needed all the same: action and the
/// end of its resource.
const UNUSED_BY_OPERATOR: [(&str, &str); 2] = [
    // The automatic run resizes.
    ("ec2:ModifyInstanceAttribute", "instance/*"),
    // AWS asks by the path as it was written, with its slash; the sandbox by the path without.
    ("ssm:GetParametersByPath", "/production/*"),
];

/// A person lets the disks grow, which EC2 does only once in hours.
const UNUSED_BY_CI: [(&str, &str); 4] = [
    ("ec2:ModifyVolume", "volume/*"),
    ("ec2:ModifyVolume", "elastic-ip/*"),
    ("ec2:ModifyVolume", "security-group/*"),
    ("ec2:DescribeVolumesModifications", "*"),
];

struct Account {
    runtime: Runtime,
    iam: aws_sdk_iam::Client,
    ec2: aws_sdk_ec2::Client,
    s3: aws_sdk_s3::Client,
}

/// A user with exactly the rights that `infra policy` printed.
struct User {
    keys: Keys,
    arn: String,
    policy: Value,
}

impl Account {
    fn new() -> Self {
        let runtime = Runtime::new().unwrap();
        let config = runtime.block_on(config());
        let s3 = aws_sdk_s3::config::Builder::from(&config).force_path_style(true);
        Account {
            iam: aws_sdk_iam::Client::new(&config),
            ec2: aws_sdk_ec2::Client::new(&config),
            s3: aws_sdk_s3::Client::from_conf(s3.build()),
            runtime,
        }
    }

    fn user(&self, world: &World, audience: &str) -> User {
        let policy = world.infra(&["policy", audience]).exits(0).json();
        let text = policy.to_string();
        self.runtime.block_on(async {
            let user = self.iam.create_user().user_name(audience.to_string() + "-user");
            let user = user.send().await.unwrap().user.unwrap();
            let made = self.iam.create_policy().policy_name(audience).policy_document(text);
            let made = made.send().await.unwrap().policy.unwrap();
            let attach = self.iam.attach_user_policy().user_name(&user.user_name);
            attach.policy_arn(made.arn.unwrap()).send().await.unwrap();
            let key = self
                .iam
                .create_access_key()
                .user_name(&user.user_name)
                .send()
                .await
                .unwrap();
            let key = key.access_key.unwrap();
            User {
                keys: Keys {
                    id: key.access_key_id,
                    secret: key.secret_access_key,
                    token: None,
                },
                arn: user.arn,
                policy,
            }
        })
    }

    fn instances(&self, world: &World, role: &str) -> Vec<(String, String)> {
        let filter = |name: &str, value: &str| aws_sdk_ec2::types::Filter::builder().name(name).values(value).build();
        let filters = vec![filter("tag:infra:name", "demo"), filter("tag:infra:role", role)];
        let _ = world;
        let found = self.ec2.describe_instances().set_filters(Some(filters)).send();
        let found = self.runtime.block_on(found).unwrap().reservations.unwrap_or_default();
        found
            .into_iter()
            .flat_map(|reservation| reservation.instances.unwrap_or_default())
            .map(|instance| {
                let state = instance.state.unwrap().name.unwrap();
                (instance.instance_id.unwrap(), state.as_str().to_string())
            })
            .filter(|(_, state)| state != "terminated")
            .collect()
    }

    fn replica_stops(&self, world: &World) {
        let (id, _) = self.instances(world, "replica").remove(0);
        let stop = self.ec2.stop_instances().instance_ids(&id).send();
        self.runtime.block_on(stop).unwrap();
        world.until(Duration::from_secs(60), "the replica to stop", || {
            self.instances(world, "replica")[0].1 == "stopped"
        });
    }

    fn replica_is_lost(&self, world: &World) {
        let (id, _) = self.instances(world, "replica").remove(0);
        let end = self.ec2.terminate_instances().instance_ids(&id).send();
        self.runtime.block_on(end).unwrap();
        world.until(Duration::from_secs(60), "the replica to be gone", || {
            self.instances(world, "replica").is_empty()
        });
    }

    /// One rule more and one less than there should be.
    fn rules_drift(&self) {
        let block = |port: i32, cidr: &str| {
            let range = IpRange::builder().cidr_ip(cidr).build();
            let rule = IpPermission::builder().ip_protocol("tcp").from_port(port).to_port(port);
            rule.ip_ranges(range).build()
        };
        self.runtime.block_on(async {
            let groups = self.ec2.describe_security_groups().send().await.unwrap();
            let ours = |group: &&aws_sdk_ec2::types::SecurityGroup| group.group_name() == Some("infra-demo-production");
            let group = groups.security_groups().iter().find(ours).unwrap().group_id().unwrap();
            let more = self.ec2.authorize_security_group_ingress().group_id(group);
            more.ip_permissions(block(9999, "203.0.113.0/24")).send().await.unwrap();
            let less = self.ec2.revoke_security_group_ingress().group_id(group);
            less.ip_permissions(block(6379, "10.77.0.0/16")).send().await.unwrap();
        });
    }

    fn trust_drifts(&self) {
        let other = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":["ec2.amazonaws.com","lambda.amazonaws.com"]},"Action":"sts:AssumeRole"}]}"#;
        let set = self.iam.update_assume_role_policy().role_name("infra-demo-production");
        self.runtime.block_on(set.policy_document(other).send()).unwrap();
    }

    fn bucket_loses_its_policy(&self) {
        let delete = self
            .s3
            .delete_bucket_policy()
            .bucket("infra-demo-123456789012-us-east-1");
        self.runtime.block_on(delete.send()).unwrap();
    }
}

impl User {
    /// Every permission that was given to this user, or else refused.
    fn used(&self, given: bool) -> BTreeSet<(String, String)> {
        let text = |value: &Value| value.as_str().unwrap().to_string();
        uses()
            .iter()
            .filter(|one| one["caller"] == self.arn.as_str() && one["allowed"] == given)
            .map(|one| (text(&one["action"]), text(&one["resource"])))
            .collect()
    }

    /// Pairs of action and resource in the policy that no call has used.
    fn unused(&self) -> Vec<(String, String)> {
        let used = self.used(true);
        let all = |value: &Value| match value {
            Value::Array(values) => values.clone(),
            one => vec![one.clone()],
        };
        let mut unused = Vec::new();
        for statement in self.policy["Statement"].as_array().unwrap() {
            for action in all(&statement["Action"]) {
                for resource in all(&statement["Resource"]) {
                    let (action, resource) = (action.as_str().unwrap(), resource.as_str().unwrap());
                    // Statements about these kinds are joined; an action means nothing for a kind that is not its own.
                    let is_joined = ["elastic-ip/*", "security-group/*", "volume/*"]
                        .iter()
                        .any(|kind| resource.ends_with(kind))
                        && statement["Condition"]["StringEquals"]["aws:ResourceTag/infra:env"].is_string();
                    let is_used_elsewhere = is_joined && used.iter().any(|(one, _)| one == action);
                    if !is_used_elsewhere && !used.iter().any(|(one, on)| one == action && matches(resource, on)) {
                        unused.push((action.to_string(), resource.to_string()));
                    }
                }
            }
        }
        unused
    }

    #[track_caller]
    fn has_nothing_too_much(&self, exceptions: &[(&str, &str)]) {
        let unused = self.unused();
        let is_known = |(action, resource): &&(String, String)| {
            exceptions
                .iter()
                .any(|(one, end)| one == action && resource.ends_with(end))
        };
        let unknown: Vec<_> = unused.iter().filter(|pair| !is_known(pair)).collect();
        assert!(unknown.is_empty(), "in the policy, and never used: {unknown:#?}");
        assert_eq!(unused.len(), exceptions.len(), "used after all: {unused:#?}");
    }
}

/// IAM's `*`.
fn matches(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((before, after)) => text
            .strip_prefix(before)
            .is_some_and(|rest| (0..=rest.len()).any(|at| rest.is_char_boundary(at) && matches(after, &rest[at..]))),
    }
}

fn look_and_prove(world: &World) {
    world.infra(&["check"]).exits(0);
    world.infra(&["status"]).exits(0);
    world.infra(&["verify"]).exits(0);
    world.infra(&["backup", "now"]).exits(0);
    world.infra(&["backup", "list"]).exits(0);
    world.infra(&["backup", "verify", "--without-load"]).exits(0);
}

/// The app's way in is tried, by a scratch server whose port is opened for it; and the newest second is proven to load.
fn try_the_way_ahead(world: &World) {
    world.infra(&["switch-app", "--rehearse"]).exits(0);
    let engine = engine_of_the_master(world);
    let drill = ["backup", "drill", "--local", "--latest"];
    world.infra_under(&[("INFRA_REDIS_SERVER", &engine)], &drill).exits(0);
}

/// The master's own program, run on this computer, whose own may be older than what it is to load.
fn engine_of_the_master(world: &World) -> String {
    let disk = testkit::access::state_dir().join("machines");
    let disk = disk.join(Machine::of_role(world, "master").instance).join("root/usr");
    let script = format!(
        "#!/bin/sh\nset -- {0}/lib/*-linux-gnu/ld-linux-*.so.* --library-path \"$(echo {0}/lib/*-linux-gnu)\" {0}/bin/redis-server \"$@\"\nexec \"$@\"\n",
        disk.display()
    );
    let path = world.folder().join("redis-server");
    std::fs::write(&path, script).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path.to_str().unwrap().into()
}

/// Restores beside the pair and in its place, which only a person is there for.
fn bring_the_past_back(world: &World) {
    world.infra(&["backup", "drill", "--latest"]).exits(0);
    world.infra(&["restore", "--latest", "--to", "instance"]).exits(0);
    world.infra(&["redis-cli", "restored", "PING"]).exits(0).says("PONG");
    world.infra(&["restore", "--remove", "--confirm", "demo"]).exits(0);
    let live = ["restore", "--latest", "--to", "live", "--confirm", "demo"];
    world.infra(&live).exits(0);
    world.infra(&["rotate", "backup", "--yes"]).exits(0);
}

/// The role of master moves as planned, and back by force.
fn exchange_the_roles(world: &World) {
    world.infra(&["promote", "--confirm", "demo"]).exits(0);
    world.infra(&["promote", "--force", "--confirm", "demo"]).exits(0);
    world.infra(&["up", "--yes"]).exits(0);
}

fn nothing_is_left_to_do(world: &World) {
    assert_eq!(world.infra(&["up", "--yes", "--json"]).exits(0).json()["changes"], 0);
    assert_eq!(world.status()["drift"], serde_json::json!([]));
}

#[test]
fn the_printed_policies_are_enough_and_have_nothing_too_much() {
    let world = World::raise(500);
    let account = Account::new();
    let (operator, ci) = (account.user(&world, "operator"), account.user(&world, "ci"));

    world.run_as(Some(operator.keys.clone()));
    world.infra(&["check"]).exits(0);
    world.infra(&["up", "--yes"]).exits(0);
    look_and_prove(&world);
    account.rules_drift();
    account.trust_drifts();
    account.replica_stops(&world);
    world.infra(&["up", "--yes"]).exits(0);
    nothing_is_left_to_do(&world);
    world.rehearse_by("");
    try_the_way_ahead(&world);

    world.run_as(Some(ci.keys.clone()));
    look_and_prove(&world);
    try_the_way_ahead(&world);
    nothing_is_left_to_do(&world);
    account.rules_drift();
    account.replica_stops(&world);
    world.infra(&["up", "--yes"]).exits(0);
    account.replica_is_lost(&world);
    world.infra(&["up", "--yes"]).exits(0);
    nothing_is_left_to_do(&world);
    // No `switch-app` follows the first promotion, so the app is back on its old master and the
    // second run begins anew.
    world.run_as(Some(operator.keys.clone()));
    world.infra(&["promote", "--confirm", "demo", "--hold", "1s"]).exits(0);
    world.wait_for_more_writes(1_000);
    world.run_as(Some(ci.keys.clone()));
    world.infra(&["promote", "--confirm", "demo"]).exits(0);
    world.infra(&["switch-app", "--confirm", "demo"]).exits(0);
    assert_eq!(world.status()["app"], "endpoint");
    exchange_the_roles(&world);
    let resize = ["resize", "--type", "t3.small", "--confirm", "demo"];
    world.infra(&resize).exits(0);
    nothing_is_left_to_do(&world);
    assert_eq!(ci.used(false), BTreeSet::new(), "refused to the automatic run");

    // The user may neither change what protects the bucket, nor take anything away.
    account.bucket_loses_its_policy();
    world
        .infra(&["up", "--yes"])
        .exits(1)
        .says("allow `s3:PutBucketPolicy`");
    // The user could not end such an instance, so it is not even made.
    for arguments in [
        &["backup", "drill", "--latest"][..],
        &["restore", "--latest", "--to", "instance"],
    ] {
        world.infra(arguments).exits(1).says("allow `ec2:RunInstances`");
    }
    assert_eq!(world.status()["beside"], serde_json::json!([]));
    world.run_as(Some(operator.keys.clone()));
    world.infra(&["up", "--yes"]).exits(0);
    bring_the_past_back(&world);
    exchange_the_roles(&world);
    let resize = ["resize", "--disk-gb", "20", "--confirm", "demo"];
    world.infra(&resize).exits(0);
    nothing_is_left_to_do(&world);

    world.run_as(Some(ci.keys.clone()));
    world.scale(0, 0);
    world.set_var("REDIS_URL", &world.vars()["HOSTED_REDIS_URL"].clone());
    let down = ["down", "--confirm", "demo", "--delete-backups", "demo"];
    world.infra(&down).exits(1).says("allow `ssm:GetParametersByPath`");
    ci.has_nothing_too_much(&UNUSED_BY_CI);

    world.run_as(Some(operator.keys.clone()));
    world.infra(&down).exits(0);
    assert_eq!(operator.used(false), BTreeSet::new(), "refused to the operator");
    operator.has_nothing_too_much(&UNUSED_BY_OPERATOR);
}
