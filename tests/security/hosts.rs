//! A host is closed: who logs in (how, in `ssh`), what its services may do, what upgrades touch, and
//! what it was made with.

use crate::machine::{Machine, text};
use crate::ssh::{
    REFUSED, login, settings_of_ssh_that_would_lock_out_are_not_taken, ssh_takes_the_operators_key_and_nothing_else,
    the_key_that_a_host_was_born_with_is_dead,
};
use infra::effects::host::lockdown;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;
use testkit::world::World;

#[test]
fn hosts_let_in_the_operator_alone_and_confine_what_runs_on_them() {
    let world = World::raise(2_000);
    world.infra(&["up", "--yes"]).exits(0);
    let replica = Machine::of_role(&world, "replica");
    ssh_takes_the_operators_key_and_nothing_else(&world, &replica);
    the_key_that_a_host_was_born_with_is_dead(&world, &replica);
    settings_of_ssh_that_would_lock_out_are_not_taken(&replica);
    services_are_confined(&[&replica, &Machine::of_role(&world, "master")]);
    the_tunnel_is_confined_and_listens_on_loopback_alone(&Machine::of_role(&world, "master"));
    upgrades_leave_the_engine_alone_and_status_tells(&world, &replica);
    flushed_rules_are_drift(&world, &replica);
    a_lost_module_is_told_and_put_back(&world, &replica);
    all_of_it_outlives_a_reboot(&world, replica);

    world.infra(&["restore", "--latest", "--to", "instance"]).exits(0);
    let restored = Machine::tagged(&world, "infra:purpose", "restored");
    the_key_that_a_host_was_born_with_is_dead(&world, &restored);
    // The user-data had done this already, before the first login.
    let written = format!(
        "grep -c 'Writing to {} ' /var/log/cloud-init.log",
        lockdown::SSH_SETTINGS
    );
    assert_eq!(restored.root(&written), "1\n");
    assert_eq!(login(&world, &restored, "127.0.0.8", "admin", None, &[]), REFUSED);
    for instance in [
        &restored,
        &Machine::of_role(&world, "replica"),
        &Machine::of_role(&world, "master"),
    ] {
        was_made_as_asked(&instance.instance);
        let asked = instance.root("setpriv --reuid nobody --regid 65534 --clear-groups bash -c 'exec 3<>/dev/tcp/169.254.169.254/80 && echo reached'");
        assert!(!asked.contains("reached"), "{asked}");
    }
    world.infra(&["restore", "--remove", "--confirm", "demo"]).exits(0);
}

fn the_tunnel_is_confined_and_listens_on_loopback_alone(master: &Machine) {
    let said = master.root("systemd-analyze security --no-pager infra-tunnel.service | grep Overall");
    let score = said.split(": ").nth(1).and_then(|rest| rest.split(' ').next());
    assert!(score.unwrap().parse::<f64>().unwrap() <= 1.5, "{said}");
    let status = master.root("cat /proc/$(systemctl show -p MainPID --value infra-tunnel)/status");
    for (name, value) in [
        ("CapPrm:", "0000000000000000"),
        ("CapBnd:", "0000000000000000"),
        ("Seccomp:", "2"),
    ] {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        assert_eq!(line.trim(), value, "{name}");
    }
    let user = status.lines().find_map(|line| line.strip_prefix("Uid:")).unwrap();
    assert!(!user.split_whitespace().any(|user| user == "0"), "{user}");
    let listens = master.root("ss -Htln | grep 6378");
    assert_eq!(listens.split_whitespace().nth(3), Some("127.0.0.1:6378"), "{listens}");
    assert_eq!(listens.lines().count(), 1, "{listens}");
    assert_eq!(
        master.root("ss -Htuln | wc -l; ls /run/infra-tunnel").lines().last(),
        Some("status.json")
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
        // Reads the capabilities that the kernel enforces, not those that the unit asks for.
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
    // The timers of the distribution run it by themselves.
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

    // What only the operator may do is one command, and the engine comes back as what it was.
    machine.root("rm /run/reboot-required");
    world.infra(&["upgrade", "--dry-run"]).exits(0).says("could become");
    world.infra(&["upgrade", "--confirm", "demo"]).exits(0);
    assert!(version("redis-server").ends_with("+fix1"));
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

/// A client cannot unload the module from a running engine, and no engine starts without it.
fn a_lost_module_is_told_and_put_back(world: &World, machine: &Machine) {
    let ask = |words: &str| {
        machine.root(&format!(
            "REDISCLI_AUTH=$(cat /etc/infra/admin.password) redis-cli -s /run/redis/redis-server.sock --user admin --no-auth-warning {words}"
        ))
    };
    let unloaded = ask("MODULE UNLOAD infra");
    assert!(unloaded.contains("MODULE command not allowed"), "{unloaded}");
    machine.root("rm /usr/local/lib/infra/infra-module.so; systemctl restart redis-server");
    let alarms = world.status()["alarms"].to_string();
    assert!(alarms.contains("infra-module.so is missing"), "{alarms}");
    // systemd still tries to start the engine, or has given up.
    world.infra(&["up", "--yes"]).exits(0);
    let loaded = ask("INFO modules");
    assert!(loaded.contains("module:name=infra,"), "{loaded}");
    world.until(Duration::from_secs(60), "the replica to follow again", || {
        let status = world.status();
        status["servers"]["replica"]["link_up"] == true && status["drift"].as_array().unwrap().is_empty()
    });
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

/// Returns the host as EC2 describes it.
fn was_made_as_asked(instance: &str) {
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let client = aws_sdk_ec2::Client::new(&testkit::access::config().await);
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
    let file = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").unwrap()).join("templates/needrestart.conf");
    let script = "use strict; our %nrconf; do $ARGV[0]; die $@ if $@; my @never = grep { 'redis-server.service' =~ $_ } keys %{$nrconf{override_rc}}; \
                  print $nrconf{override_rc}{$never[0]}";
    let output = Command::new("perl").args(["-e", script]).arg(file).output().unwrap();
    assert_eq!(text(&output), "0");
}
