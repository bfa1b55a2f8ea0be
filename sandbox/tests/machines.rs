//! Machines as users of EC2 see them, and what is left of them.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use support::{Aws, Key, Sandbox, is_open, until, wait_for_ssh};

const SHORT: Duration = Duration::from_secs(15);

fn image(aws: &mut Aws) -> String {
    let name = json!({"Name": "/aws/service/debian/release/13/latest/amd64"});
    aws.call("ssm", "get_parameter", name)["Parameter"]["Value"]
        .as_str()
        .unwrap()
        .to_owned()
}

fn permission(port: u16, source: &str) -> Value {
    json!([{"IpProtocol": "tcp", "FromPort": port, "ToPort": port, "IpRanges": [{"CidrIp": source}]}])
}

/// A security group that lets ssh in from this computer, and a key pair.
fn prepare(aws: &mut Aws, key: &Key) -> String {
    aws.ec2(
        "import_key_pair",
        json!({"KeyName": "pair", "PublicKeyMaterial": key.public()}),
    );
    let group = aws.ec2(
        "create_security_group",
        json!({"GroupName": "pair", "Description": "a pair"}),
    );
    let group = group["GroupId"].as_str().unwrap().to_owned();
    let rules = permission(22, "10.77.0.1/32");
    aws.ec2(
        "authorize_security_group_ingress",
        json!({"GroupId": group, "IpPermissions": rules}),
    );
    group
}

fn launch(aws: &mut Aws, group: &str, more: Value) -> String {
    let mut arguments = json!({
        "ImageId": image(aws), "InstanceType": "t3.micro", "MinCount": 1, "MaxCount": 1, "KeyName": "pair",
        "SecurityGroupIds": [group],
    });
    arguments
        .as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    aws.ec2("run_instances", arguments)["Instances"][0]["InstanceId"]
        .as_str()
        .unwrap()
        .to_owned()
}

fn address(aws: &mut Aws, id: &str) -> String {
    aws.wait_for_state(id, "running");
    aws.instance(id)["PublicIpAddress"].as_str().unwrap().to_owned()
}

const METADATA: &str = r#"
token=$(curl -sf -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60' http://169.254.169.254/latest/api/token)
curl -s -o /dev/null -w '%{http_code} ' http://169.254.169.254/latest/meta-data/instance-id
curl -s -H "X-aws-ec2-metadata-token: $token" http://169.254.169.254/latest/meta-data/instance-id
"#;

#[test]
fn a_machine_lives_as_its_instance_does() {
    let sandbox = Sandbox::up("life");
    let mut aws = sandbox.aws();
    let key = Key::new();
    let group = prepare(&mut aws, &key);

    let user_data = "#!/bin/sh\ntouch /root/user-data-ran\n";
    let id = launch(&mut aws, &group, json!({"UserData": user_data}));
    let public = address(&mut aws, &id);
    wait_for_ssh(&public);
    assert_eq!(key.ssh(&public, "cloud-init status --wait"), "status: done");
    key.ssh(&public, "sudo test -e /root/user-data-ran");
    assert_eq!(key.ssh(&public, METADATA), format!("401 {id}"));

    // Packages come from the image: the machine has no route to any other place.
    assert!(!key.ssh(&public, "ip route").contains("default"));
    key.ssh(
        &public,
        "sudo apt-get -q update && sudo DEBIAN_FRONTEND=noninteractive apt-get -q -y install redis-server",
    );
    key.ssh(
        &public,
        "sudo sed -i 's/^bind .*/bind 0.0.0.0/; s/^protected-mode .*/protected-mode no/' /etc/redis/redis.conf",
    );
    key.ssh(
        &public,
        "sudo systemctl restart redis-server && redis-cli set kept value && redis-cli save",
    );

    // The security group decides, even after the machine's root has flushed all its rules.
    assert!(!is_open(&public, 6379), "a port that no rule opens");
    let rules = permission(6379, "10.77.0.1/32");
    aws.ec2(
        "authorize_security_group_ingress",
        json!({"GroupId": group, "IpPermissions": rules}),
    );
    until("the port to be opened", SHORT, || is_open(&public, 6379));
    aws.ec2(
        "revoke_security_group_ingress",
        json!({"GroupId": group, "IpPermissions": rules}),
    );
    until("the port to be closed", SHORT, || !is_open(&public, 6379));
    key.ssh(&public, "sudo nft flush ruleset");
    until("the rules to be back", SHORT, || !is_open(&public, 6379));

    let elastic = aws.ec2("allocate_address", json!({"Domain": "vpc"}));
    aws.ec2(
        "associate_address",
        json!({"AllocationId": elastic["AllocationId"], "InstanceId": id}),
    );
    let elastic = elastic["PublicIp"].as_str().unwrap();
    until("the elastic address to answer", SHORT, || is_open(elastic, 22));

    let booted = key.ssh(elastic, "systemctl show --property UserspaceTimestampMonotonic");
    aws.ec2("reboot_instances", json!({"InstanceIds": [id]}));
    until("the machine to go down", SHORT, || !is_open(elastic, 22));
    wait_for_ssh(elastic);
    assert_ne!(
        key.ssh(elastic, "systemctl show --property UserspaceTimestampMonotonic"),
        booted
    );
    assert_eq!(key.ssh(elastic, "redis-cli get kept"), "value");

    aws.ec2("stop_instances", json!({"InstanceIds": [id]}));
    aws.wait_for_state(&id, "stopped");
    assert!(!is_open(elastic, 22), "a stopped machine");
    aws.ec2("start_instances", json!({"InstanceIds": [id]}));
    wait_for_ssh(elastic);
    assert_eq!(key.ssh(elastic, "redis-cli get kept"), "value");
    sandbox.succeed(&["status"]);

    aws.ec2("terminate_instances", json!({"InstanceIds": [id]}));
    aws.wait_for_state(&id, "terminated");
    assert!(
        !sandbox.state.join("machines").join(&id).exists(),
        "the disk of a terminated machine"
    );
    let traces = sandbox.traces();
    assert!(
        !traces
            .iter()
            .any(|trace| trace.contains("/run/netns/") || trace.starts_with("mount")),
        "{traces:#?}"
    );
}

#[test]
fn down_leaves_nothing_after_the_supervisor_was_killed() {
    let sandbox = Sandbox::up("killed");
    let mut aws = sandbox.aws();
    let key = Key::new();
    let group = prepare(&mut aws, &key);
    let first = launch(&mut aws, &group, json!({}));
    wait_for_ssh(&address(&mut aws, &first));
    // The second one is killed in the middle of its start.
    launch(&mut aws, &group, json!({}));
    kill(Pid::from_raw(sandbox.supervisor()), Signal::SIGKILL).unwrap();
    drop(aws);

    until("status to tell of it", SHORT, || {
        !sandbox.run(&["status"]).status.success()
    });
    let traces = sandbox.traces();
    assert!(
        traces.iter().any(|trace| trace.starts_with("process")),
        "the machines outlive it: {traces:#?}"
    );
    sandbox.succeed(&["down"]);
    assert_eq!(sandbox.traces(), Vec::<String>::new());

    // Leftovers of a killed supervisor do not hinder the next `up`.
    sandbox.succeed(&["up", "--no-app"]);
    kill(Pid::from_raw(sandbox.supervisor()), Signal::SIGKILL).unwrap();
    until("the supervisor to be gone", SHORT, || {
        !sandbox.run(&["status"]).status.success()
    });
    sandbox.succeed(&["up", "--no-app"]);
    sandbox.succeed(&["status"]);
    sandbox.succeed(&["up", "--no-app"]);
    sandbox.succeed(&["down"]);
    assert_eq!(sandbox.traces(), Vec::<String>::new());
}

#[test]
fn an_elastic_address_answers_from_its_new_machine_before_arp_entries_expire() {
    let sandbox = Sandbox::up("elastic");
    let mut aws = sandbox.aws();
    let key = Key::new();
    let group = prepare(&mut aws, &key);
    let machines = [launch(&mut aws, &group, json!({})), launch(&mut aws, &group, json!({}))];
    let mut names = Vec::new();
    for machine in &machines {
        aws.wait_for_state(machine, "running");
        let own = address(&mut aws, machine);
        wait_for_ssh(&own);
        key.ssh(&own, "cloud-init status --wait");
        names.push(key.ssh(&own, "hostname"));
    }
    assert_ne!(names[0], names[1]);
    let allocated = aws.ec2("allocate_address", json!({"Domain": "vpc"}));
    let elastic = allocated["PublicIp"].as_str().unwrap();
    let mut connection: Option<TcpStream> = None;
    for (machine, name) in machines.iter().zip(&names) {
        let association =
            json!({"AllocationId": allocated["AllocationId"], "InstanceId": machine, "AllowReassociation": true});
        aws.ec2("associate_address", association);
        // The call returns before both machines follow, as on EC2: the former one may still answer.
        until(&format!("{elastic} to be {name}"), SHORT, || {
            key.try_ssh(elastic, "hostname").is_ok_and(|answer| answer == *name)
        });
        match &mut connection {
            None => {
                let mut established = TcpStream::connect((elastic, 22)).unwrap();
                assert!(established.read(&mut [0; 64]).unwrap() > 0, "a banner");
                connection = Some(established);
            }
            // Neither machine answers on a connection to the former one, not even with a reset.
            Some(moved) => {
                moved.write_all(b"anybody there?").unwrap();
                moved.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
                let silence = moved.read(&mut [0; 64]).unwrap_err();
                assert_eq!(silence.kind(), std::io::ErrorKind::WouldBlock, "{silence}");
            }
        }
    }
}
