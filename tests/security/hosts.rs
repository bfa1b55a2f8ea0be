//! What a host lets happen to it: who logs in, what its services may do, what upgrades touch, and what it was made with.

use crate::machine::{Machine, parameter, text};
use crate::world::World;
use base64::Engine as _;
use infra::host::description::{Content, Description, File, Reaction};
use infra::host::engine::Layout;
use infra::host::{apply, lockdown};
use infra::remote::{Session, Target};
use infra::secret::Secret;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

#[test]
fn hosts_let_in_the_operator_alone_and_confine_what_runs_on_them() {
    let world = World::raise(2_000);
    world.infra(&["up", "--yes"]).exits(0);
    let replica = Machine::of_role(&world, "replica");
    ssh_takes_the_operators_key_and_nothing_else(&world, &replica);
    the_key_that_a_host_was_born_with_is_dead(&world, &replica);
    settings_of_ssh_that_would_lock_out_are_not_taken(&replica);
    services_are_confined(&[&replica, &Machine::of_role(&world, "master")]);
    upgrades_leave_the_engine_alone_and_status_tells(&world, &replica);
    flushed_rules_are_drift(&world, &replica);
    all_of_it_outlives_a_reboot(&world, replica);

    world.infra(&["restore", "--latest", "--to", "instance"]).exits(0);
    let beside = Machine::tagged(&world, "infra:purpose", "restored");
    the_key_that_a_host_was_born_with_is_dead(&world, &beside);
    assert_eq!(login(&world, &beside, "127.0.0.8", "admin", None, &[]), REFUSED);
    for instance in [
        &beside,
        &Machine::of_role(&world, "replica"),
        &Machine::of_role(&world, "master"),
    ] {
        was_made_as_asked(&instance.instance);
        let asked = instance.root("setpriv --reuid nobody --regid 65534 --clear-groups bash -c 'exec 3<>/dev/tcp/169.254.169.254/80 && echo reached'");
        assert!(!asked.contains("reached"), "{asked}");
    }
    world.infra(&["restore", "--remove", "--confirm", "demo"]).exits(0);
}

/// sshd names what it would take: a key, and nothing else.
const REFUSED: &str = "Permission denied (publickey).";

/// What the last line of ssh is. From an address of the machine's own loopback for each, since sshd shuts out an address for a while that fails too often.
fn login(world: &World, machine: &Machine, from: &str, user: &str, key: Option<&str>, options: &[&str]) -> String {
    let file = world.folder().join("login-key");
    std::fs::write(&file, key.unwrap_or_default()).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    let output = Command::new("ip")
        .args([
            "netns",
            "exec",
            &machine.namespace(),
            "ssh",
            "-F",
            "none",
            "-b",
            from,
            "-i",
        ])
        .arg(&file)
        .args([
            "-o",
            "BatchMode=yes",
            "-o",
            "StrictHostKeyChecking=no",
            "-o",
            "UserKnownHostsFile=/dev/null",
            "-o",
            "IdentitiesOnly=yes",
        ])
        .args(["-o", "LogLevel=ERROR"])
        .args(options)
        .args([&format!("{user}@127.0.0.1"), "echo", "inside"])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    std::fs::remove_file(file).unwrap();
    let said = text(&output);
    let last = said.lines().next_back().unwrap_or_default();
    last.strip_prefix(&format!("{user}@127.0.0.1: "))
        .unwrap_or(last)
        .to_string()
}

fn ssh_takes_the_operators_key_and_nothing_else(world: &World, machine: &Machine) {
    let key = parameter("ssh-key");
    // Root, and another user, with the very key in their lists, and with passwords that are none.
    machine.root(
        "useradd -m -s /bin/bash intruder; passwd -d intruder; passwd -d root; for home in /root /home/intruder; do mkdir -p $home/.ssh; \
         cp /home/admin/.ssh/authorized_keys $home/.ssh/; done; chown -R intruder: /home/intruder",
    );
    assert_eq!(login(world, machine, "127.0.0.2", "admin", Some(&key), &[]), "inside");
    assert_eq!(login(world, machine, "127.0.0.3", "root", Some(&key), &[]), REFUSED);
    assert_eq!(login(world, machine, "127.0.0.4", "intruder", Some(&key), &[]), REFUSED);
    let stranger = infra::remote::KeyPair::generate("stranger").unwrap();
    let stranger = stranger.private.expose();
    assert_eq!(
        login(world, machine, "127.0.0.5", "admin", Some(stranger), &[]),
        REFUSED
    );
    let by_password = ["-o", "PreferredAuthentications=password,keyboard-interactive,none"];
    assert_eq!(login(world, machine, "127.0.0.6", "admin", None, &by_password), REFUSED);
    // The way in leads no further.
    for options in [
        &["-W", "127.0.0.1:6379"][..],
        &["-o", "ExitOnForwardFailure=yes", "-R", "7777:127.0.0.1:22"],
    ] {
        let said = login(world, machine, "127.0.0.7", "admin", Some(&key), options);
        assert!(
            said.contains("prohibited") || said.contains("failed"),
            "{options:?}: {said}"
        );
    }
    machine.root("userdel -r intruder; rm -r /root/.ssh; passwd -l root");
}

fn the_key_that_a_host_was_born_with_is_dead(world: &World, machine: &Machine) {
    let instances = crate::access::instances();
    let instance = instances
        .iter()
        .find(|one| one["id"] == machine.instance.as_str())
        .unwrap();
    let told = base64::engine::general_purpose::STANDARD
        .decode(instance["user_data"].as_str().unwrap())
        .unwrap();
    let told: serde_yaml::Value = serde_yaml::from_slice(&told).unwrap();
    let public = told["ssh_keys"]["ed25519_public"].as_str().unwrap();
    let born = public.split_whitespace().nth(1).unwrap();
    // No longer shown to anybody.
    let scan = Command::new("ip")
        .args(["netns", "exec", &machine.namespace(), "ssh-keyscan", "127.0.0.1"])
        .output()
        .unwrap();
    let shown: Vec<String> = String::from_utf8_lossy(&scan.stdout)
        .lines()
        .map(String::from)
        .collect();
    assert_eq!(shown.len(), 1, "{shown:?}");
    assert!(!shown[0].contains(born), "{shown:?}");
    let own = machine.root("cat /etc/ssh/infra_host_ed25519_key.pub");
    assert!(
        shown[0].contains(own.split_whitespace().nth(1).unwrap()),
        "{shown:?} {own}"
    );
    // Nor on the disk where sshd would find it, nor in the parameters; and it opens nothing.
    assert_eq!(machine.root(&format!("grep -rl '{born}' /etc/ssh /home /root")), "");
    let private = told["ssh_keys"]["ed25519_private"].as_str().unwrap();
    assert_eq!(login(world, machine, "127.0.0.9", "admin", Some(private), &[]), REFUSED);
    let known = crate::secrets::known(&world.vars());
    assert!(
        !known.keys().any(|name| name.contains("bootstrap-host-key")),
        "{:?}",
        known.keys()
    );
}

/// A file of ssh settings alone, as a mistake of ours would bring it.
fn only_ssh_settings(content: &str) -> Description {
    Description {
        label: "replica".into(),
        engine: Layout::of(infra::config::Engine::Redis),
        packages: Vec::new(),
        directories: Vec::new(),
        files: vec![File {
            path: lockdown::SSH_SETTINGS.into(),
            owner: "root".into(),
            group: "root".into(),
            mode: 0o644,
            content: Content::Plain(content.into()),
            on_change: Some(Reaction::ReloadSsh),
        }],
        sysctls: Vec::new(),
        units: Vec::new(),
    }
}

fn settings_of_ssh_that_would_lock_out_are_not_taken(machine: &Machine) {
    let target = Target {
        label: "replica".into(),
        address: machine.addresses[0].clone(),
        port: 22,
        user: "admin".into(),
        private_key: Secret::new(parameter("ssh-key")),
        pinned: vec![machine.root("cat /etc/ssh/infra_host_ed25519_key.pub").parse().unwrap()],
    };
    let good = machine.root(&format!("cat {}", lockdown::SSH_SETTINGS));
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        for (bad, why) in [
            ("PermitRootLogin perhaps\n", "sshd refuses"),
            ("AllowUsers somebody\n", "no longer let admin in"),
            ("PubkeyAuthentication no\n", "no longer let admin in"),
        ] {
            let session = Session::connect(&target, Duration::from_secs(20)).await.unwrap();
            let step = infra::ui::Ui::silent().step("");
            let outcome = apply::converge(&session, &only_ssh_settings(bad), &step).await;
            let error = outcome.unwrap_err();
            assert!(error.chain().join(": ").contains(why), "{:?}", error.chain());
            let there = session.download(lockdown::SSH_SETTINGS).await.unwrap();
            assert_eq!(String::from_utf8_lossy(&there), good);
        }
        // What was begun is ended by the next run, with settings that are right; sshd took them without losing anybody.
        let session = Session::connect(&target, Duration::from_secs(20)).await.unwrap();
        let step = infra::ui::Ui::silent().step("");
        let stricter = good.replace("MaxAuthTries 5", "MaxAuthTries 4");
        for content in [&stricter, &good] {
            apply::converge(&session, &only_ssh_settings(content), &step)
                .await
                .unwrap();
            let again = Session::connect(&target, Duration::from_secs(20)).await.unwrap();
            let tries = again.run("sudo -n sshd -T | grep maxauthtries", None).await.unwrap();
            let wanted = if content.contains("MaxAuthTries 4") {
                "maxauthtries 4\n"
            } else {
                "maxauthtries 5\n"
            };
            assert_eq!(tries.text(), wanted);
        }
    });
    assert_eq!(
        machine.root("ls /etc/ssh/sshd_config.d | grep -E 'infra-(new|before)'"),
        ""
    );
}

fn services_are_confined(machines: &[&Machine]) {
    for machine in machines {
        for (unit, worst) in [
            ("redis-server.service", 1.5),
            ("infra-agent.service", 2.0),
            ("infra-firewall.service", 2.5),
            ("infra-huge-pages.service", 1.5),
        ] {
            let said = machine.root(&format!("systemd-analyze security --no-pager {unit} | grep Overall"));
            let score: f64 = said
                .split(": ")
                .nth(1)
                .and_then(|rest| rest.split(' ').next())
                .unwrap()
                .parse()
                .unwrap();
            println!("{unit}: {score}");
            assert!(score <= worst, "{said}");
        }
        // Not what is asked for, but what the kernel holds the processes to.
        for (unit, capabilities) in [("redis-server.service", 0), ("infra-agent.service", 0b1010_u64)] {
            let status = machine.root(&format!("cat /proc/$(systemctl show -p MainPID --value {unit})/status"));
            let field = |name: &str| {
                let line = status
                    .lines()
                    .find_map(|line| line.strip_prefix(name))
                    .unwrap_or_else(|| panic!("{status}"));
                line.trim().to_string()
            };
            assert_eq!(field("NoNewPrivs:"), "1", "{unit}");
            assert_eq!(field("Seccomp:"), "2", "{unit}");
            assert_eq!(
                u64::from_str_radix(&field("CapBnd:"), 16).unwrap(),
                capabilities,
                "{unit}"
            );
            let mounts = machine.root(&format!(
                "cat /proc/$(systemctl show -p MainPID --value {unit})/mountinfo"
            ));
            let root = mounts
                .lines()
                .rfind(|line| line.split(' ').nth(4) == Some("/"))
                .unwrap();
            assert!(root.split(' ').nth(5).unwrap().starts_with("ro"), "{unit}: {root}");
        }
        if machine
            .root("systemctl is-enabled infra-backup.timer")
            .contains("enabled")
        {
            let base = machine.root("systemctl start infra-backup.service && echo made");
            assert_eq!(
                base,
                "made\n",
                "{}",
                machine.root("journalctl -u infra-backup -o cat --no-pager")
            );
        }
        // The engine alone cannot change its settings or its users.
        let written = machine.root(
            "REDISCLI_AUTH=$(cat /etc/infra/admin.password) redis-cli -s /run/redis/redis-server.sock --user admin --no-auth-warning ACL SAVE; echo; \
             REDISCLI_AUTH=$(cat /etc/infra/admin.password) redis-cli -s /run/redis/redis-server.sock --user admin --no-auth-warning CONFIG REWRITE",
        );
        assert!(!written.contains("OK"), "{written}");
    }
}

/// A repository with newer packages that say they are Debian's security fixes: one of the engine, one of something else. Then the daily run, and not a rehearsal of it.
fn upgrades_leave_the_engine_alone_and_status_tells(world: &World, machine: &Machine) {
    machine.root("DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends jq");
    let made = machine.root(
        "set -e; mkdir -p /srv/fixes; cd /srv/fixes
        for name in redis-server redis-tools jq; do
            rm -rf x; dpkg-deb -R /usr/share/infra-sandbox/packages/${name}_*.deb x
            sed -i 's/^Version: .*/&+fix1/; s/(= [^)]*)/(>= 0)/' x/DEBIAN/control; dpkg-deb -b x $name.deb >/dev/null
        done; rm -rf x
        apt-ftparchive packages . >Packages
        apt-ftparchive -o APT::FTPArchive::Release::Origin=Debian -o APT::FTPArchive::Release::Label=Debian-Security \
            -o APT::FTPArchive::Release::Codename=trixie-security release . >/tmp/Release; mv /tmp/Release .
        echo 'deb [trusted=yes] file:/srv/fixes ./' >/etc/apt/sources.list.d/fixes.list
        apt-get -qq update && echo made",
    );
    assert!(made.ends_with("made\n"), "{made}");
    let version = |name: &str| machine.root(&format!("dpkg-query -W -f '${{Version}}' {name}"));
    let engine = || machine.root("systemctl show -p MainPID --value redis-server");
    let (before, process) = (version("redis-server"), engine());
    let said = machine.root("unattended-upgrade -d");
    assert!(version("jq").ends_with("+fix1"), "{said}");
    assert_eq!((version("redis-server"), engine()), (before.clone(), process), "{said}");
    assert!(said.contains("redis-server is blacklisted"), "{said}");
    // As the timer would run it.
    let periodic =
        machine.root("apt-config dump | grep -E 'APT::Periodic::(Enable|Update-Package-Lists|Unattended-Upgrade) '");
    assert_eq!(periodic.matches("\"1\"").count(), 3, "{periodic}");
    assert_eq!(
        machine.root("systemctl is-active apt-daily.timer apt-daily-upgrade.timer"),
        "active\nactive\n"
    );

    let upkeep = || {
        world.status()["upkeep"]
            .as_array()
            .unwrap()
            .iter()
            .map(|line| line.as_str().unwrap().to_string())
            .collect::<Vec<_>>()
    };
    let told = upkeep();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(
        told[0].starts_with(&format!("replica: redis-server {before} could become {before}+fix1")),
        "{told:?}"
    );
    machine.root("touch /run/reboot-required");
    assert!(upkeep().iter().any(|line| line.contains("reboot")), "{:?}", upkeep());

    // What is told to do does it: the engine comes back as what it was.
    world
        .infra(&[
            "ssh",
            "replica",
            "--",
            "sudo",
            "DEBIAN_FRONTEND=noninteractive",
            "apt-get",
            "install",
            "-y",
            "--only-upgrade",
            "redis-server",
            "redis-tools",
        ])
        .exits(0);
    assert!(version("redis-server").ends_with("+fix1"));
    machine.root("rm /run/reboot-required");
    world.until(Duration::from_secs(60), "the upgraded replica to follow", || {
        let status = world.status();
        status["servers"]["replica"]["link_up"] == true && status["upkeep"].as_array().unwrap().is_empty()
    });
}

fn flushed_rules_are_drift(world: &World, machine: &Machine) {
    machine.root("nft delete table inet infra");
    let drift = world.status()["drift"].to_string();
    assert!(drift.contains("restart infra-firewall.service"), "{drift}");
    world.infra(&["up", "--yes"]).exits(0);
    assert!(machine.root("nft list table inet infra").contains("169.254.169.254"));
}

fn all_of_it_outlives_a_reboot(world: &World, machine: Machine) {
    let begun = machine.root("cat /proc/1/stat; systemctl --no-block reboot");
    assert!(!begun.is_empty());
    let answers = || {
        let printed = world.infra(&[
            "ssh",
            "replica",
            "--",
            "uptime",
            "-s",
            "&&",
            "systemctl",
            "is-active",
            "redis-server",
            "infra-agent",
            "infra-firewall",
        ]);
        printed.code() == Some(0)
    };
    // Down first: a look that comes too early sees the old system.
    std::thread::sleep(Duration::from_secs(3));
    world.until(Duration::from_secs(90), "the replica to be back", answers);
    let machine = Machine::of_role(world, "replica");
    let asked = machine.root("setpriv --reuid nobody --regid 65534 --clear-groups bash -c 'exec 3<>/dev/tcp/169.254.169.254/80 && echo reached'; nft list table inet infra");
    assert!(!asked.contains("reached") && asked.contains("skuid"), "{asked}");
    world.infra(&["up", "--dry-run", "--detailed-exitcode"]).exits(0);
}

/// As EC2 itself describes it.
fn was_made_as_asked(instance: &str) {
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let client = aws_sdk_ec2::Client::new(&crate::access::config().await);
        let answer = client.describe_instances().instance_ids(instance).send().await.unwrap();
        let found = &answer.reservations()[0].instances()[0];
        let options = found.metadata_options().unwrap();
        assert_eq!(options.http_tokens().unwrap().as_str(), "required");
        assert_eq!(options.http_put_response_hop_limit(), Some(1));
        assert_eq!(options.http_endpoint().unwrap().as_str(), "enabled");
        let disks: Vec<String> = found
            .block_device_mappings()
            .iter()
            .filter_map(|mapping| Some(mapping.ebs()?.volume_id()?.to_string()))
            .collect();
        assert!(!disks.is_empty(), "{found:?}");
        let answer = client
            .describe_volumes()
            .set_volume_ids(Some(disks))
            .send()
            .await
            .unwrap();
        for volume in answer.volumes() {
            assert_eq!(volume.encrypted(), Some(true), "{volume:?}");
        }
    });
}

#[test]
fn the_settings_of_needrestart_are_its_language() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("templates/needrestart.conf");
    let script = "use strict; our %nrconf; do $ARGV[0]; die $@ if $@; my @never = grep { 'redis-server.service' =~ $_ } keys %{$nrconf{override_rc}}; \
                  print $nrconf{override_rc}{$never[0]}";
    let output = Command::new("perl").args(["-e", script]).arg(file).output().unwrap();
    assert_eq!(text(&output), "0");
}
