use super::*;
use crate::effects::host::facts::{FoundFile, FoundSysctl, FoundUnit};
use crate::effects::host::settings::{AppAccess, AppRights, Password, Passwords, Position, Settings, Upstream};
use crate::model::config::Engine;
use std::collections::BTreeMap;

const PASSWORDS: [&str; 6] = [
    "app-secret",
    "replication-secret",
    "backup-secret",
    "admin-secret",
    "source-secret",
    "monitoring-secret",
];

fn password(index: usize) -> Password {
    Password::only(Secret::new(PASSWORDS[index]))
}

pub(super) fn settings() -> Settings {
    let source = Upstream {
        host: "192.0.2.7".into(),
        port: 6390,
        user: None,
        password: Some(Secret::new(PASSWORDS[4])),
        trust: Some(trust::Policy::Verify),
        seen_as: Some("203.0.113.9".into()),
    };
    Settings {
        label: "master".into(),
        engine: Engine::Redis,
        position: Position::FollowsSource(source),
        app_access: AppAccess::Closed,
        endpoint: None,
        maxmemory: 100,
        settings: BTreeMap::new(),
        authority: "authority".into(),
        source_certificate: None,
        certificate: "certificate".into(),
        certificate_key: Secret::new("key-secret"),
        passwords: Passwords {
            app: password(0),
            replication: password(1),
            backup: password(2),
            monitoring: password(5),
            admin: password(3),
        },
        app: AppRights::default(),
        backup: Some(crate::effects::host::backup::Settings {
            ships: true,
            bucket_url: "http://192.0.2.1/bucket".into(),
            region: "us-east-1".into(),
            prefix: "backups/test".into(),
            period: std::time::Duration::from_secs(3600),
            rpo_s: 10,
            backlog_mb: 512,
            agent: crate::effects::host::programs::Binary::new(b"program".to_vec()),
        }),
        restored_by: None,
        module: crate::effects::host::programs::Binary::new(b"module".to_vec()),
        exporters: None,
        replicas: vec![[192, 0, 2, 8].into(), [192, 0, 2, 9].into()],
    }
}

/// Returns the facts of a host that is exactly as described.
fn facts_of(description: &Description) -> Facts {
    let mut facts = Facts::default();
    for file in &description.files {
        let found = FoundFile {
            mode: file.mode,
            owner: file.owner.clone(),
            group: file.group.clone(),
            sha256: file.content.digest(),
            text: (file.on_change == Some(Reaction::Configure)).then(|| Secret::new(file.content.text())),
        };
        facts.files.insert(file.path.clone(), found);
    }
    for directory in &description.directories {
        let found = FoundFile {
            mode: directory.mode,
            owner: directory.owner.clone(),
            group: directory.group.clone(),
            sha256: "-".into(),
            text: None,
        };
        facts.files.insert(directory.path.clone(), found);
    }
    for package in &description.packages {
        facts.packages.insert(package.clone(), "1".into());
    }
    for unit in &description.units {
        let found = FoundUnit {
            enabled: unit.enabled,
            active: unit.active.unwrap_or(false),
            restarting: false,
        };
        facts.units.insert(unit.name.clone(), found);
    }
    facts.firewall = true;
    for sysctl in &description.sysctls {
        let found = FoundSysctl {
            value: sysctl.value.clone(),
            writable: true,
        };
        facts.sysctls.insert(sysctl.key.clone(), found);
    }
    facts
}

fn texts(wanted: &Settings, facts: &Facts) -> Vec<String> {
    let plan = plan(&wanted.describe().unwrap(), facts).unwrap();
    plan.steps.into_iter().map(|step| step.text).collect()
}

#[test]
fn a_host_that_is_as_described_has_nothing_to_do() {
    let description = settings().describe().unwrap();
    let facts = facts_of(&description);
    let plan = plan(&description, &facts).unwrap();
    assert!(plan.is_empty() && plan.warnings.is_empty(), "{plan:?}");
    assert!(plan.pending(&facts, &description).is_empty());
}

#[test]
fn a_bare_host_gets_everything_and_its_engine_is_started_once() {
    let texts = texts(&settings(), &Facts::default());
    assert!(texts[0].starts_with("install redis-server"), "{texts:?}");
    let about_engine: Vec<_> = texts
        .iter()
        .filter(|text| text.contains("redis-server.service"))
        .collect();
    assert_eq!(
        about_engine[about_engine.len() - 2..],
        ["enable redis-server.service", "start redis-server.service"]
    );
    assert!(!texts.iter().any(|text| text.starts_with("restart")), "{texts:?}");
    assert!(!texts.iter().any(|text| text.contains("running engine")), "{texts:?}");
}

#[test]
fn more_memory_is_set_in_the_running_engine() {
    let facts = facts_of(&settings().describe().unwrap());
    let mut wanted = settings();
    wanted.maxmemory = 200;
    assert_eq!(
        texts(&wanted, &facts),
        [
            "change the content of /etc/redis/redis.conf (maxmemory)",
            "set maxmemory in the running engine"
        ]
    );
}

#[test]
fn a_setting_that_needs_a_restart_restarts_the_engine_once_and_sets_nothing_live() {
    let facts = facts_of(&settings().describe().unwrap());
    let mut wanted = settings();
    wanted.maxmemory = 200;
    wanted.app_access = AppAccess::Open;
    wanted.settings.insert("databases".into(), "32".into());
    assert_eq!(
        texts(&wanted, &facts),
        [
            "change the content of /etc/redis/users.acl",
            "change the content of /etc/redis/redis.conf (databases, maxmemory)",
            "restart redis-server.service for databases"
        ]
    );
}

#[test]
fn users_and_certificates_are_read_again_without_a_restart() {
    let facts = facts_of(&settings().describe().unwrap());
    let mut wanted = settings();
    wanted.app_access = AppAccess::Open;
    wanted.certificate = "another".into();
    let texts = texts(&wanted, &facts);
    assert_eq!(
        texts[2..],
        [
            "let the engine read its certificates again",
            "let the engine read its users again"
        ]
    );
}

#[test]
fn a_changed_period_restarts_the_timer_alone() {
    let facts = facts_of(&settings().describe().unwrap());
    let mut wanted = settings();
    wanted.backup.as_mut().unwrap().period = std::time::Duration::from_secs(1800);
    assert_eq!(
        texts(&wanted, &facts),
        [
            "change the content of /etc/systemd/system/infra-backup.timer",
            "let systemd read its units again",
            "restart infra-backup.timer"
        ]
    );
}

#[test]
fn a_promoted_master_is_never_made_to_follow() {
    let mut master = settings();
    master.position = Position::Master;
    let facts = facts_of(&master.describe().unwrap());
    let error = plan(&settings().describe().unwrap(), &facts).unwrap_err();
    assert!(error.to_string().contains("promoted master"), "{error}");
    assert!(texts(&master, &facts).is_empty());
    // Another host took its place, fenced from this one.
    let demoted = Description {
        demoted: true,
        ..settings().describe().unwrap()
    };
    assert!(!plan(&demoted, &facts).unwrap().is_empty());
}

#[test]
fn the_next_run_finishes_an_interrupted_one() {
    let description = settings().describe().unwrap();
    let mut facts = facts_of(&description);
    facts.pending = vec!["configure".into(), "load-users".into()];
    let plan = plan(&description, &facts).unwrap();
    let texts: Vec<_> = plan.steps.iter().map(|step| step.text.as_str()).collect();
    assert_eq!(
        texts[..2],
        [
            "try to reach the source 192.0.2.7:6390 from this host",
            "let the engine read its users again"
        ]
    );
    assert!(
        texts[2].starts_with("set ") && texts[2].contains("maxmemory"),
        "{texts:?}"
    );
    assert_eq!(texts[3], "tell the running engine its role");
    assert_eq!(plan.pending(&facts, &description), ["configure", "load-users"]);
}

#[test]
fn a_master_that_follows_directly_is_moved_to_the_tunnel_once_the_tunnel_leads_somewhere() {
    let mut facts = facts_of(&settings().describe().unwrap());
    facts.files.remove("/etc/systemd/system/infra-tunnel.service");
    facts.units.remove("infra-tunnel.service");
    let conf = facts.files.get_mut("/etc/redis/redis.conf").unwrap();
    let text = conf.text.as_ref().unwrap().expose();
    let before = text
        .replace("replicaof 127.0.0.1 6378", "replicaof 192.0.2.7 6390")
        .replace("tls-replication no", "tls-replication yes");
    (conf.sha256, conf.text) = ("before".into(), Some(Secret::new(before)));
    assert_eq!(
        texts(&settings(), &facts),
        [
            "change the content of /etc/redis/redis.conf (role)",
            "write /etc/systemd/system/infra-tunnel.service",
            "let systemd read its units again",
            "enable infra-tunnel.service",
            "start infra-tunnel.service",
            "try to reach the source 192.0.2.7:6390 from this host",
            "let the running engine follow the source through infra-tunnel.service",
        ]
    );
}

fn following(trust: Option<trust::Policy>) -> Settings {
    let mut wanted = settings();
    if let Position::FollowsSource(source) = &mut wanted.position {
        source.trust = trust;
    }
    wanted
}

#[test]
fn another_pin_restarts_the_tunnel_and_leaves_the_engine_alone() {
    let facts = facts_of(&settings().describe().unwrap());
    let pin = trust::Policy::Pin(trust::Digest::of(b""));
    assert_eq!(
        texts(&following(Some(pin)), &facts),
        [
            "change the content of /etc/systemd/system/infra-tunnel.service",
            "let systemd read its units again",
            "restart infra-tunnel.service",
            "try to reach the source 192.0.2.7:6390 from this host",
        ]
    );
}

#[test]
fn another_agent_restarts_the_tunnel() {
    let facts = facts_of(&settings().describe().unwrap());
    let mut wanted = settings();
    wanted.backup.as_mut().unwrap().agent = crate::effects::host::programs::Binary::new(b"newer".to_vec());
    let texts = texts(&wanted, &facts);
    assert!(texts.contains(&"restart infra-tunnel.service".into()), "{texts:?}");
}

#[test]
fn a_plain_source_is_followed_without_a_tunnel_and_is_tried_too() {
    let plain = following(None);
    let description = plain.describe().unwrap();
    assert!(!description.files.iter().any(|file| file.path.contains("tunnel")));
    let conf = configuration(&description).unwrap().content.text();
    assert!(conf.contains("\nreplicaof 192.0.2.7 6390\n") && conf.contains("\ntls-replication no\n"));
    let facts = facts_of(&settings().describe().unwrap());
    assert_eq!(
        texts(&plain, &facts),
        [
            "change the content of /etc/redis/redis.conf (role)",
            "try to reach the source 192.0.2.7:6390 from this host",
            "tell the running engine its role",
            "disable infra-tunnel.service",
            "stop infra-tunnel.service",
        ]
    );
}

#[test]
fn a_promoted_master_keeps_its_tunnel_so_that_it_can_return() {
    let mut master = settings();
    master.position = Position::Master;
    let unit = FoundUnit {
        enabled: true,
        active: true,
        restarting: false,
    };
    let mut facts = facts_of(&master.describe().unwrap());
    facts.units.insert("infra-tunnel.service".into(), unit);
    assert_eq!(texts(&master, &facts), [] as [&str; 0]);
}

#[test]
fn a_unit_that_systemd_is_about_to_start_again_is_restarted_or_stopped() {
    let dying = FoundUnit {
        enabled: true,
        active: false,
        restarting: true,
    };
    let mut facts = facts_of(&settings().describe().unwrap());
    facts.units.insert("infra-agent.service".into(), dying.clone());
    facts.units.insert("redis-server.service".into(), dying.clone());
    let planned = texts(&settings(), &facts);
    assert!(planned.contains(&"restart infra-agent.service".into()), "{planned:?}");
    assert!(planned.contains(&"restart redis-server.service".into()), "{planned:?}");
    let mut facts = facts_of(&settings().describe().unwrap());
    facts.units.insert("infra-tunnel.service".into(), dying);
    assert!(texts(&settings(), &facts).contains(&"restart infra-tunnel.service".into()));
    let planned = texts(&following(None), &facts);
    assert!(planned.contains(&"stop infra-tunnel.service".into()), "{planned:?}");
}

#[test]
fn a_kernel_setting_that_the_machine_refuses_is_reported_and_is_no_change() {
    let description = settings().describe().unwrap();
    let mut facts = facts_of(&description);
    let refused = FoundSysctl {
        value: "0".into(),
        writable: false,
    };
    facts.sysctls.insert("vm.overcommit_memory".into(), refused);
    let plan = plan(&description, &facts).unwrap();
    assert!(plan.is_empty());
    assert_eq!(plan.warnings.len(), 1);
    assert!(plan.warnings[0].contains("vm.overcommit_memory"), "{:?}", plan.warnings);
}

#[test]
fn plans_of_a_new_host_and_of_one_changed_file_are_as_recorded() {
    let wanted = settings().describe().unwrap();
    insta::assert_snapshot!("new host", shown(&plan(&wanted, &Facts::default()).unwrap()));

    let mut facts = facts_of(&wanted);
    let refused = FoundSysctl {
        value: "0".into(),
        writable: false,
    };
    facts.sysctls.insert("vm.overcommit_memory".into(), refused);
    let mut more = settings();
    more.maxmemory = 200;
    let changed = plan(&more.describe().unwrap(), &facts).unwrap();
    insta::assert_snapshot!("one changed file", shown(&changed));
}

fn shown(plan: &Plan) -> String {
    let steps = plan.steps.iter().map(|step| format!("master: {}\n", step.text));
    let warnings = plan
        .warnings
        .iter()
        .map(|warning| format!("master: warning: {warning}\n"));
    steps.chain(warnings).collect()
}

#[test]
fn no_form_of_a_plan_shows_a_secret() {
    let plan = plan(&settings().describe().unwrap(), &Facts::default()).unwrap();
    let shown = format!("{} {plan:?}", shown(&plan));
    assert!(shown.contains("/etc/redis/users.acl"));
    for secret in PASSWORDS.into_iter().chain(["key-secret"]) {
        assert!(!shown.contains(secret), "{secret} is shown");
    }
}

#[test]
fn a_replica_s_agent_keeps_replaced_data_and_ships_nothing() {
    let mut wanted = settings();
    wanted.backup.as_mut().unwrap().ships = false;
    let description = wanted.describe().unwrap();
    let text = |path: &str| {
        let file = description.files.iter().find(|file| file.path == path);
        file.map(|file| file.content.text().to_string())
    };
    assert!(text("/etc/infra/agent.env").unwrap().ends_with("\nINFRA_SHIPS=no\n"));
    assert!(
        text("/etc/systemd/system/infra-agent.service")
            .unwrap()
            .contains("Description=Keeps what")
    );
    assert!(text("/usr/local/sbin/infra-agent").is_some());
    assert_eq!(text("/etc/systemd/system/infra-backup.timer"), None);
    let units: Vec<&str> = description.units.iter().map(|unit| unit.name.as_str()).collect();
    assert!(
        units.contains(&"infra-agent.service") && !units.contains(&"infra-backup.timer"),
        "{units:?}"
    );
}
