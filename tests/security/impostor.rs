//! Another server at the right address: an sshd with another host key that accepts every login, and
//! a TLS server whose certificate another authority has signed.

use crate::machine::{Machine, text};
use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use testkit::world::World;

/// Leaves the master with an sshd that must not be trusted.
pub fn nobody_begins_to_log_in_where_another_key_is_shown(world: &World) {
    let master = Machine::of_role(world, "master");
    // The impostor takes everybody, and writes down all that he hears.
    let changed = master.root(
        "cd /etc/ssh; rm infra_host_ed25519_key*; ssh-keygen -q -t ed25519 -N '' -f infra_host_ed25519_key
         printf 'LogLevel DEBUG3\\nPermitRootLogin yes\\nPasswordAuthentication yes\\nPermitEmptyPasswords yes\\nAuthenticationMethods any\\nPerSourcePenalties no\\n' \
             >sshd_config.d/00-impostor.conf
         sed -i '/AllowUsers/d; /AuthenticationMethods/d' sshd_config.d/01-infra.conf
         passwd -d admin; systemctl restart ssh; systemctl is-active ssh",
    );
    assert!(changed.ends_with("active\n"), "{changed}");
    let heard = || {
        master.root("journalctl -u ssh --no-pager -o cat --since -10min; journalctl -t sshd-session -t sshd-auth --no-pager -o cat --since -10min")
    };
    let mark = heard().matches("userauth-request").count();

    for arguments in [
        &["status"][..],
        &["up", "--yes"],
        &["promote", "--confirm", "demo"],
        &["backup", "now"],
        &["ssh", "master", "--", "true"],
        &["restore", "--latest", "--to", "live", "--confirm", "demo"],
    ] {
        let answer = world.infra(arguments);
        let printed = answer.printed();
        assert!(answer.code().is_some_and(|code| code != 0), "{printed}");
        let says = ["nothing was sent", "REMOTE HOST IDENTIFICATION HAS CHANGED"];
        assert!(says.iter().any(|words| printed.contains(words)), "{printed}");
        let hint = ["next:", "see what `infra status` says"];
        assert!(hint.iter().any(|words| printed.contains(words)), "{printed}");
    }
    let log = heard();
    assert!(log.matches("Connection from").count() >= 6, "{log}");
    assert_eq!(log.matches("userauth-request").count(), mark, "{log}");

    // He would have heard it: somebody who does not look is let in at once.
    let careless = Command::new("ssh")
        .args([
            "-F",
            "none",
            "-o",
            "BatchMode=yes",
            "-o",
            "StrictHostKeyChecking=no",
            "-o",
            "UserKnownHostsFile=/dev/null",
        ])
        .args([&format!("admin@{}", master.addresses[0]), "true"])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(
        heard().matches("userauth-request").count() > mark,
        "{}",
        text(&careless)
    );
}

/// A TLS server in a machine's network, which keeps all that a client says to it.
struct Impostor {
    process: Child,
}

impl Impostor {
    fn at(world: &World, machine: &Machine) -> Self {
        machine.root("systemctl stop redis-server");
        let path = |name: &str| world.folder().join(name).display().to_string();
        let made = Command::new("openssl")
            .args([
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:P-256",
                "-nodes",
                "-days",
                "2",
                "-subj",
                "/CN=impostor",
            ])
            .args([
                "-addext",
                &format!("subjectAltName=IP:{}", machine.addresses.join(",IP:")),
            ])
            .args(["-keyout", &path("impostor.key"), "-out", &path("impostor.crt")])
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", text(&made));
        let process = Command::new("ip")
            .args([
                "netns",
                "exec",
                &machine.namespace(),
                "openssl",
                "s_server",
                "-quiet",
                "-accept",
                "6379",
            ])
            .args(["-key", &path("impostor.key"), "-cert", &path("impostor.crt")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(500));
        Impostor { process }
    }

    /// Returns all that it was told, to its end.
    fn heard(mut self) -> String {
        self.process.kill().unwrap();
        let mut heard = Vec::new();
        self.process.stdout.take().unwrap().read_to_end(&mut heard).unwrap();
        self.process.wait().unwrap();
        String::from_utf8_lossy(&heard).into_owned()
    }
}

pub fn no_password_is_told_to_a_server_that_another_authority_vouches_for(world: &World) {
    let master = Machine::of_role(world, "master");
    let impostor = Impostor::at(world, &master);
    let answers = [
        &["redis-cli", "master", "PING"][..],
        &["verify"],
        &["promote", "--confirm", "demo"],
        &["status", "--json"],
    ]
    .map(|arguments| world.infra(arguments));
    // First what he heard: commands also fail where he was told something, since he does not answer.
    assert_eq!(impostor.heard(), "");
    let [asked @ .., status] = answers;
    for answer in asked {
        assert!(answer.code().is_some_and(|code| code != 0), "{}", answer.printed());
        assert!(
            answer.printed().to_lowercase().contains("certificate"),
            "{}",
            answer.printed()
        );
    }
    assert!(status.printed().contains("certificate"), "{}", status.printed());

    // He would have heard it.
    let impostor = Impostor::at(world, &master);
    let careless = Command::new("timeout")
        .args([
            "3",
            "redis-cli",
            "-h",
            &master.addresses[0],
            "--tls",
            "--insecure",
            "--user",
            "admin",
            "--pass",
            "canary",
            "PING",
        ])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let heard = impostor.heard();
    assert!(heard.contains("canary"), "{heard} {}", text(&careless));
    master.root("systemctl start redis-server");
}
