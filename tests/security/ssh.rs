//! Only the operator's key gets into a host by ssh: neither what the host was born with does, nor a
//! mistake of ours.

use crate::machine::{Machine, parameter, text};
use base64::Engine as _;
use infra::effects::host::description::{Content, Description, File, Reaction};
use infra::effects::host::engine::Layout;
use infra::effects::host::{apply, lockdown};
use infra::effects::remote::{Session, Target};
use infra::model::secret::Secret;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::time::Duration;
use testkit::world::World;

/// sshd names what it would take: a key, and nothing else.
pub const REFUSED: &str = "Permission denied (publickey).";

/// Returns the last line of ssh. Each try comes from another loopback address, since sshd shuts out
/// an address for a while that fails too often.
pub fn login(world: &World, machine: &Machine, from: &str, user: &str, key: Option<&str>, options: &[&str]) -> String {
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

pub fn ssh_takes_the_operators_key_and_nothing_else(world: &World, machine: &Machine) {
    let key = parameter("ssh-key");
    // Root, and another user, with the very key in their lists, and with passwords that are none.
    machine.root(
        "useradd -m -s /bin/bash intruder; passwd -d intruder; passwd -d root; for home in /root /home/intruder; do mkdir -p $home/.ssh; \
         cp /home/admin/.ssh/authorized_keys $home/.ssh/; done; chown -R intruder: /home/intruder",
    );
    assert_eq!(login(world, machine, "127.0.0.2", "admin", Some(&key), &[]), "inside");
    assert_eq!(login(world, machine, "127.0.0.3", "root", Some(&key), &[]), REFUSED);
    assert_eq!(login(world, machine, "127.0.0.4", "intruder", Some(&key), &[]), REFUSED);
    let stranger = infra::effects::remote::KeyPair::generate("stranger").unwrap();
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

pub fn the_key_that_a_host_was_born_with_is_dead(world: &World, machine: &Machine) {
    let instances = testkit::access::instances();
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
    let known = testkit::secrets::known(&world.vars());
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
        engine: Layout::of(infra::model::config::Engine::Redis),
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
        demoted: false,
        source: None,
    }
}

pub fn settings_of_ssh_that_would_lock_out_are_not_taken(machine: &Machine) {
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
        // The next run ends what was begun, with right settings; sshd took them without losing anybody.
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
