//! Compares the lists in `docs/hosts.md` with what `up` puts on a host, so that the two agree.
//!
//! `UPDATE_DOCS=1` writes the lists anew. Purposes are defined here.

use super::tests::settings;
use crate::effects::host::description::{Content, Reaction};
use crate::effects::host::engine::Layout;
use crate::effects::host::programs::Binary;
use crate::effects::host::{Copied, Description, Position, Settings, first_contact};
use crate::model::config::Engine;
use std::collections::BTreeSet;
use std::fmt::Write;

const BEGIN: &str = "<!-- from the code: a test holds these lists against it -->\n";
const END: &str = "<!-- end of what is from the code -->";

const PURPOSES: &[(&str, &str)] = &[
    ("redis-server", "the engine; `valkey-server` by `redis.engine: valkey`"),
    (
        "redis-tools",
        "its client and `redis-check-rdb`; `valkey-tools` likewise",
    ),
    ("ca-certificates", "the authorities by which the agent trusts S3"),
    ("nftables", "closes the metadata service"),
    ("unattended-upgrades", "security fixes by themselves"),
    ("/etc/infra", "what our own programs need, for root alone"),
    ("/etc/redis", "the engine reads its settings and cannot change them"),
    ("/etc/redis/tls", "certificates"),
    (
        "/etc/systemd/system/redis-server.service.d",
        "beside the distribution's unit",
    ),
    ("/etc/needrestart", "there whether needrestart is or not"),
    ("/etc/needrestart/conf.d", "there whether needrestart is or not"),
    ("/etc/infra/host.env", "names and paths of the engine, for our scripts"),
    (
        "/etc/infra/admin.password",
        "password of the user `admin` of Redis, for root over the socket",
    ),
    (
        "/etc/infra/backup.password",
        "password of the user `backup`, for the agent",
    ),
    ("/etc/infra/agent.env", "where the agent ships to"),
    (
        "/etc/infra/nsswitch.conf",
        "how the agent, which has no libraries, finds names",
    ),
    ("/etc/infra/firewall.nft", "only root speaks to the metadata service"),
    (
        "/etc/sysctl.d/60-infra.conf",
        "the kernel settings below, over a reboot",
    ),
    (
        "/etc/systemd/system/infra-huge-pages.service",
        "no transparent huge pages",
    ),
    (
        "/etc/systemd/system/infra-firewall.service",
        "loads the rules before the network is up",
    ),
    ("/etc/systemd/system/infra-agent.service", "the agent"),
    ("/etc/systemd/system/infra-backup.service", "one base"),
    (
        "/etc/systemd/system/infra-backup.timer",
        "one base every `backup.every`",
    ),
    (
        "/etc/systemd/system/infra-tunnel.service",
        "the tunnel, while the source speaks TLS",
    ),
    (
        "/etc/systemd/system/redis-server.service.d/infra.conf",
        "guard, limits and confinement of the engine",
    ),
    (
        "/etc/systemd/system/redis-server.service.d/infra-starts.conf",
        "the engine is started again without a limit on tries",
    ),
    (
        "/etc/ssh/sshd_config.d/01-infra.conf",
        "one user, by key; no forwarding. In user-data too",
    ),
    (
        "/etc/apt/apt.conf.d/60infra-upgrades",
        "security fixes only, never the engine, no reboot",
    ),
    (
        "/etc/needrestart/conf.d/60-infra.conf",
        "needrestart never restarts the engine",
    ),
    ("/etc/redis/redis.conf", "settings, and the role"),
    ("/etc/redis/users.acl", "users of Redis, and whether the app may log in"),
    (
        "/etc/redis/tls/host.crt",
        "this host's certificate, by the environment's own authority",
    ),
    ("/etc/redis/tls/host.key", "its key"),
    ("/etc/redis/tls/trusted.crt", "the environment's authority"),
    (
        "/usr/local/sbin/infra-guard",
        "no start of a master whose data is missing or older than its last copy, or that was replaced",
    ),
    (
        "/usr/local/sbin/infra-role",
        "promote, follow, open and close app access",
    ),
    (
        "/usr/local/sbin/infra-restore",
        "puts restored data in the place of the live",
    ),
    ("/usr/local/sbin/infra-agent", "the agent: one static program"),
    ("/usr/local/lib/infra", "where the engine may load programs from"),
    (
        "/usr/local/lib/infra/infra-module.so",
        "the engine's module: `replication` and `backup` log in from the pair alone",
    ),
    ("redis-server.service", "the engine"),
    ("infra-agent.service", "ships the log; keeps what a full copy replaces"),
    ("infra-tunnel.service", "leads the engine to a source with TLS"),
    (
        "/etc/systemd/system/infra-copy.service",
        "the copy, while the source lets nobody replicate",
    ),
    (
        "/etc/infra/copy-source.login",
        "user and password at the source, for the copy",
    ),
    (
        "/etc/infra/copy-master.login",
        "user and password at the engine, for the copy",
    ),
    (
        "infra-copy.service",
        "copies a source that lets nobody replicate; off otherwise",
    ),
    ("infra-backup.timer", "bases"),
    (
        "prometheus-node-exporter.service",
        "figures of the machine for Prometheus; off unless `monitoring.exporters` is set",
    ),
    ("prometheus-redis-exporter.service", "figures of the engine, likewise"),
    ("infra-huge-pages.service", "at boot"),
    ("infra-firewall.service", "at boot"),
    ("apt-daily.timer", "the distribution's: asks for package lists"),
    ("apt-daily-upgrade.timer", "the distribution's: security fixes"),
    (
        "vm.overcommit_memory",
        "a fork for a base never fails for memory that it will not touch",
    ),
    ("net.core.somaxconn", "connections that wait"),
];

fn purpose(of: &str, used: &mut BTreeSet<&'static str>) -> &'static str {
    let (name, text) = PURPOSES
        .iter()
        .find(|(name, _)| *name == of)
        .unwrap_or_else(|| panic!("say in this test what {of} is for"));
    used.insert(name);
    text
}

/// How many kinds of hosts there are, beside a master that copies.
const KINDS: usize = 3;

/// Returns the kinds of hosts: the master, the replica, and a restore instance; and what only a
/// master that copies has.
fn hosts() -> [(&'static str, Description); KINDS + 1] {
    let master = settings();
    let Position::FollowsSource(source) = &master.position else {
        panic!("the master of the tests follows a source");
    };
    let copies = Settings {
        position: Position::CopiesSource(Copied {
            upstream: source.clone(),
            rate: 8 << 20,
            leave_out: Vec::new(),
        }),
        ..master.clone()
    };
    let is_usual = master.describe().unwrap();
    let mut copies = copies.describe().unwrap();
    copies
        .files
        .retain(|file| is_usual.files.iter().all(|usual| usual.path != file.path));
    (copies.packages, copies.directories, copies.units) = (Vec::new(), Vec::new(), Vec::new());
    copies.sysctls.clear();
    let mut replica = master.clone();
    if let Some(backup) = &mut replica.backup {
        backup.ships = false;
    }
    replica.position = Position::FollowsMaster {
        address: "192.0.2.8".into(),
    };
    let restored = Settings {
        backup: None,
        restored_by: Some(Binary::new(b"program".to_vec())),
        ..master.clone()
    };
    let describe = |settings: &Settings| settings.describe().unwrap();
    [
        ("master", describe(&master)),
        ("replica", describe(&replica)),
        ("restored", describe(&restored)),
        ("a master that copies", copies),
    ]
}

/// Returns each thing once, in the order of the hosts, with the hosts that have it.
fn all<T: Clone>(of: impl Fn(&Description) -> Vec<T>, name: impl Fn(&T) -> String) -> Vec<(T, String)> {
    let hosts = hosts();
    let mut seen: Vec<(T, Vec<&str>)> = Vec::new();
    for (host, description) in &hosts {
        for thing in of(description) {
            match seen.iter_mut().find(|(there, _)| name(there) == name(&thing)) {
                Some((_, who)) => who.push(host),
                None => seen.push((thing, vec![host])),
            }
        }
    }
    seen.sort_by_key(|(thing, _)| name(thing));
    let text = |who: Vec<&str>| {
        if who.len() == KINDS {
            "every host".to_string()
        } else {
            who.join(", ").replace("beside", "beside the pair")
        }
    };
    seen.into_iter().map(|(thing, who)| (thing, text(who))).collect()
}

fn lists() -> String {
    let mut used = BTreeSet::new();
    let mut text = String::new();
    let mut line = |words: std::fmt::Arguments| writeln!(text, "{words}").unwrap();
    line(format_args!(
        "### Packages\n\nFrom the distribution's own repositories, by apt, signed by it; without what they recommend.\n"
    ));
    line(format_args!("| package | for |\n|---|---|"));
    for (package, _) in all(|host| host.packages.clone(), String::clone) {
        line(format_args!("| `{package}` | {} |", purpose(&package, &mut used)));
    }
    line(format_args!(
        "\n### Folders\n\n| folder | owner | mode | for |\n|---|---|---|---|"
    ));
    for (folder, _) in all(|host| host.directories.clone(), |folder| folder.path.clone()) {
        line(format_args!(
            "| `{}` | {}:{} | {:04o} | {} |",
            folder.path,
            folder.owner,
            folder.group,
            folder.mode,
            purpose(&folder.path, &mut used)
        ));
    }
    line(format_args!(
        "\n### Files\n\n| file | owner | mode | on | holds | for |\n|---|---|---|---|---|---|"
    ));
    for (file, who) in all(|host| host.files.clone(), |file| file.path.clone()) {
        let holds = match file.content {
            Content::Plain(_) => "text",
            Content::Secret(_) => "a secret",
            Content::Program(_) => "a program",
        };
        let (path, purpose) = (&file.path, purpose(&file.path, &mut used));
        line(format_args!(
            "| `{path}` | {}:{} | {:04o} | {who} | {holds} | {purpose} |",
            file.owner, file.group, file.mode
        ));
    }
    line(format_args!("\n### Units\n\n| unit | on | for |\n|---|---|---|"));
    for (unit, who) in all(|host| host.units.clone(), |unit| unit.name.clone()) {
        line(format_args!(
            "| `{}` | {who} | {} |",
            unit.name,
            purpose(&unit.name, &mut used)
        ));
    }
    line(format_args!(
        "\n### Kernel settings\n\n| setting | value | for |\n|---|---|---|"
    ));
    for (sysctl, _) in all(|host| host.sysctls.clone(), |sysctl| sysctl.key.clone()) {
        line(format_args!(
            "| `{}` | {} | {} |",
            sysctl.key,
            sysctl.value,
            purpose(&sysctl.key, &mut used)
        ));
    }
    let unused: Vec<&str> = (PURPOSES.iter().map(|(name, _)| *name))
        .filter(|name| !used.contains(name))
        .collect();
    assert!(unused.is_empty(), "nothing puts these on a host: {unused:?}");
    text
}

#[test]
fn the_document_lists_what_up_puts_on_a_host() {
    let path = std::path::PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").unwrap()).join("docs/hosts.md");
    let document = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = document.split_once(BEGIN).unwrap();
    let (listed, after) = rest.split_once(END).unwrap();
    let lists = format!("\n{}\n", lists());
    if listed != lists && std::env::var("UPDATE_DOCS").is_ok_and(|value| value == "1") {
        std::fs::write(&path, format!("{before}{BEGIN}{lists}{END}{after}")).unwrap();
        return;
    }
    assert_eq!(listed, lists, "UPDATE_DOCS=1 writes it anew");
    // Things that no description has: the document must name them in words.
    for words in [first_contact::OWN_KEY, "infra_host_ed25519_key", "/var/lib/infra"] {
        assert!(document.contains(words), "{words}");
    }
}

#[test]
fn the_other_engine_differs_only_in_names() {
    let other = Settings {
        engine: Engine::Valkey,
        ..settings()
    };
    let (ours, theirs) = (settings().describe().unwrap(), other.describe().unwrap());
    let layout = Layout::of(Engine::Valkey);
    let renamed = |path: &str| {
        path.replace("redis-server", "valkey-server")
            .replace("/etc/redis/redis.conf", layout.config_file)
            .replace("/etc/redis", "/etc/valkey")
    };
    let paths = |description: &Description| {
        description
            .files
            .iter()
            .map(|file| file.path.clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        paths(&ours).iter().map(|path| renamed(path)).collect::<Vec<_>>(),
        paths(&theirs)
    );
    assert_eq!(
        ours.files
            .iter()
            .filter(|file| file.on_change == Some(Reaction::ReloadSsh))
            .count(),
        1
    );
}
