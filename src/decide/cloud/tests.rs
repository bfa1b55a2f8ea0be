//! Plans for many worlds. `settled` is the world that a plan leads to; each test disturbs it.

use super::*;
use crate::model::cloud::*;
use crate::model::error::Result;
use crate::model::names::Names;
use crate::model::role::Role;
use crate::model::secret::Secret;
use crate::model::secrets::{Secrets, parameter};
use std::collections::BTreeSet;

const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ infra";

fn wanted() -> Wanted {
    Wanted {
        names: Names::new("demo", "production", "123456789012", "us-east-1").unwrap(),
        generation: 7,
        tls_only: true,
        expiry: Expiry::keeping(48, 35, 12, 3600),
        object_lock: None,
        parameters: Wanted::standard_parameters(),
        admin_cidrs: vec!["203.0.113.7/32".parse().unwrap()],
        app_cidrs: vec!["0.0.0.0/0".parse().unwrap()],
        scrape_cidrs: Vec::new(),
        own_address: None,
        instance_type: "t3.micro".into(),
        image: "debian-13".into(),
        disk_gb: 16,
        zones: Vec::new(),
        subnet: None,
    }
}

fn empty() -> Found {
    let subnet = |zone: &str| Subnet {
        id: format!("subnet-{zone}"),
        zone: format!("us-east-1{zone}"),
    };
    Found {
        network: Network {
            vpc: Some("vpc-1".into()),
            subnets: ["c", "b", "a", "e"].map(subnet).to_vec(),
            offering_zones: ["us-east-1a", "us-east-1b", "us-east-1c"].map(str::to_string).into(),
        },
        image: Some(Image {
            id: "ami-1".into(),
            root_device: "/dev/xvda".into(),
            smallest_gb: 8,
        }),
        machine_type: Some(MachineType {
            memory_bytes: 1 << 30,
            network_bytes_per_s: None,
            architecture: "amd64".into(),
        }),
        ..Found::default()
    }
}

fn host(role: Role, zone: &str) -> Instance {
    Instance {
        id: format!("i-{role}"),
        role,
        state: "running".into(),
        instance_type: "t3.micro".into(),
        image_id: "ami-0".into(),
        image_name: Some("debian-13".into()),
        disk_gb: Some(16),
        zone: format!("us-east-1{zone}"),
        private_ip: Some("10.0.0.4".into()),
        public_ip: None,
        generation: Some(7),
        reason: None,
    }
}

fn settled() -> Found {
    let wanted = wanted();
    let mut secrets = Secrets::default();
    for parameter in wanted
        .parameters
        .iter()
        .filter(|parameter| parameter.make == Make::Always)
    {
        secrets.insert(parameter.name.clone(), Secret::new(KEY));
    }
    Found {
        bucket: Some(BucketFound {
            versioned: true,
            encrypted: true,
            public_access_blocked: true,
            tagged: true,
            statements: bucket_statements(&wanted.names, true),
            object_lock: None,
            lifecycle: lifecycle(&wanted.names, wanted.expiry),
        }),
        secrets,
        key_pair: Some(KeyPair {
            id: "key-1".into(),
            fingerprint: "T7SvZ2cslqpPj6nKzitCBHHlpVF3r3MvLwmFL0fk0IE=".into(),
            public_key: Some(KEY.into()),
        }),
        group: Some(Group {
            id: "sg-1".into(),
            rules: wanted_rules(&wanted.admin_cidrs, &wanted.app_cidrs, &[]),
        }),
        role: Some(RoleFound {
            trust: trust_policy(&wanted.names),
            policy: Some(backup_policy(&wanted.names)),
        }),
        profile: Some(Profile {
            arn: "arn".into(),
            roles: vec!["infra-demo-production".into()],
        }),
        instances: vec![host(Role::Master, "a"), host(Role::Replica, "b")],
        addresses: vec![Address {
            allocation_id: "eipalloc-1".into(),
            public_ip: "192.0.2.1".into(),
            instance: Some("i-master".into()),
        }],
        ..empty()
    }
}

/// Returns the plan for a settled world that was disturbed.
fn after(disturb: impl FnOnce(&mut Wanted, &mut Found)) -> Result<Plan> {
    let (mut wanted, mut found) = (wanted(), settled());
    disturb(&mut wanted, &mut found);
    plan(&wanted, &found)
}

fn lines(disturb: impl FnOnce(&mut Wanted, &mut Found)) -> Vec<String> {
    after(disturb)
        .unwrap()
        .changes()
        .iter()
        .map(ToString::to_string)
        .collect()
}

#[test]
fn an_empty_account_gets_everything() {
    let plan = plan(&wanted(), &empty()).unwrap();
    insta::assert_snapshot!("empty_account", plan);
    insta::assert_json_snapshot!("empty_account_json", plan);
}

#[test]
fn a_settled_world_is_left_alone() {
    let plan = after(|_, _| {}).unwrap();
    assert!(plan.is_empty());
    insta::assert_snapshot!("settled", plan);
}

#[test]
fn what_up_does_not_change_is_shown_with_the_command_that_does() {
    let plan = after(|wanted, found| {
        wanted.instance_type = "t3.small".into();
        wanted.disk_gb = 32;
        wanted.image = "ami-9".into();
        wanted.zones = vec!["a".into(), "c".into()];
        found.image = None;
    })
    .unwrap();
    assert!(plan.is_empty());
    insta::assert_snapshot!("drift", plan);
}

#[test]
fn named_zones_belong_to_the_pair_since_a_failover_exchanges_the_roles() {
    let name = |wanted: &mut Wanted| wanted.zones = vec!["b".into(), "a".into()];
    assert_eq!(after(|wanted, _| name(wanted)).unwrap().drift, []);
    // The master keeps the zone of the replica, so a new replica gets the other one.
    let lines = lines(|wanted, found| {
        name(wanted);
        found.instances.retain(|instance| instance.role == Role::Master);
    });
    assert!(lines.iter().any(|line| line.contains("in us-east-1b")), "{lines:?}");
}

#[test]
fn a_newer_image_of_the_same_name_is_no_drift() {
    assert_eq!(
        after(|_, found| found.image.as_mut().unwrap().id = "ami-newer".into())
            .unwrap()
            .drift,
        []
    );
}

#[test]
fn each_lost_setting_of_the_bucket_is_mended_alone() {
    type Disturb = fn(&mut BucketFound);
    const REFUSE: &str = "refuse everything but https, and to overwrite a backup";
    let cases: [(Disturb, &str); 8] = [
        (|bucket| bucket.versioned = false, "keep versions"),
        (|bucket| bucket.encrypted = false, "encrypt"),
        (|bucket| bucket.public_access_blocked = false, "block public access"),
        (|bucket| bucket.tagged = false, "tag"),
        (|bucket| bucket.statements.clear(), REFUSE),
        (|bucket| drop(bucket.statements.pop()), REFUSE),
        // Somebody may have weakened a statement.
        (|bucket| bucket.statements[1]["Effect"] = "Allow".into(), REFUSE),
        (
            |bucket| bucket.lifecycle[1].expire_days = Some(1),
            "expire backups/production/hourly/ after 2 d, backups/production/log/ after 2 d, backups/production/daily/ after 35 d, \
             backups/production/monthly/ after 372 d; old versions after 7 d",
        ),
    ];
    for (disturb, want) in cases {
        let lines = lines(|_, found| disturb(found.bucket.as_mut().unwrap()));
        assert_eq!(lines, [format!("~ bucket infra-demo-123456789012-us-east-1: {want}")]);
    }
}

#[test]
fn without_https_the_bucket_is_not_asked_to_refuse_http() {
    let lines = lines(|wanted, found| {
        wanted.tls_only = false;
        found.bucket.as_mut().unwrap().statements.remove(0);
    });
    assert_eq!(lines, [] as [&str; 0]);
}

#[test]
fn a_retention_is_set_where_it_is_wanted_and_never_taken_away() {
    let lock = |days| {
        Some(ObjectLock {
            mode: LockMode::Governance,
            days,
        })
    };
    let with = |asked: Option<ObjectLock>, there: Option<ObjectLock>| {
        lines(|wanted, found| {
            wanted.object_lock = asked;
            found.bucket.as_mut().unwrap().object_lock = there;
        })
    };
    for there in [None, lock(3)] {
        assert!(with(lock(30), there)[0].contains("lock every new object for 30 d (governance)"));
    }
    assert_eq!(with(lock(30), lock(30)), [] as [&str; 0]);
    assert_eq!(with(None, lock(30)), [] as [&str; 0]);
}

#[test]
fn rules_are_mended_both_ways_and_a_host_in_a_block_is_no_difference() {
    let lines = lines(|wanted, found| {
        let rules = &mut found.group.as_mut().unwrap().rules;
        rules.remove(&Rule::tcp(6379, Source::Members));
        rules.insert(Rule::tcp(22, Source::Group("sg-2".into())));
        rules.remove(&Rule::tcp(22, Source::Ipv4("203.0.113.7/32".into())));
        rules.remove(&Rule::tcp(6379, Source::Ipv4("203.0.113.7/32".into())));
        rules.insert(Rule::tcp(22, Source::Ipv4("203.0.113.0/24".into())));
        rules.insert(Rule::tcp(6379, Source::Ipv4("203.0.113.0/24".into())));
        wanted.admin_cidrs = vec!["203.0.113.7/24".parse().unwrap()];
    });
    assert_eq!(
        lines,
        [
            "+ rule infra-demo-production: allow tcp 6379 from its members",
            "- rule infra-demo-production: no longer allow tcp 22 from sg-2",
        ]
    );
}

#[test]
fn a_changed_own_address_is_reported_with_the_old_one() {
    let lines = lines(|wanted, _| {
        wanted.admin_cidrs = vec!["198.51.100.9/32".parse().unwrap()];
        wanted.own_address = Some("198.51.100.9/32".parse().unwrap());
    });
    assert_eq!(
        lines,
        [
            "+ rule infra-demo-production: allow tcp 22 from 198.51.100.9/32 (your own address, no longer 203.0.113.7/32)",
            "+ rule infra-demo-production: allow tcp 6379 from 198.51.100.9/32 (your own address, no longer 203.0.113.7/32)",
            "- rule infra-demo-production: no longer allow tcp 22 from 203.0.113.7/32",
            "- rule infra-demo-production: no longer allow tcp 6379 from 203.0.113.7/32",
        ]
    );
}

#[test]
fn nobody_but_the_app_reaches_redis_and_nobody_but_operators_ssh_and_scrapers_exporters() {
    let rules = wanted_rules(
        &["203.0.113.7/32".parse().unwrap()],
        &["198.51.100.0/24".parse().unwrap()],
        &["192.0.2.5/32".parse().unwrap()],
    );
    let open: BTreeSet<String> = rules.iter().map(ToString::to_string).collect();
    let want = [
        "tcp 22 from 203.0.113.7/32",
        "tcp 6379 from 198.51.100.0/24",
        "tcp 6379 from 203.0.113.7/32",
        "tcp 6379 from its members",
        "tcp 9100 from 192.0.2.5/32",
        "tcp 9121 from 192.0.2.5/32",
    ];
    assert_eq!(open, want.map(str::to_string).into());
}

#[test]
fn a_key_pair_is_known_by_key_or_by_fingerprint_and_another_is_replaced() {
    assert!(
        after(|_, found| found.key_pair.as_mut().unwrap().public_key = None)
            .unwrap()
            .is_empty()
    );
    let other = |found: &mut Found| {
        let pair = found.key_pair.as_mut().unwrap();
        pair.public_key = None;
        pair.fingerprint = "another".into();
    };
    let lines = lines(|_, found| other(found));
    assert_eq!(
        lines,
        ["~ key pair infra-demo-production: replace the key another by the environment's own"]
    );
}

#[test]
fn a_wider_policy_or_trust_is_put_back() {
    let lines = lines(|_, found| {
        let role = found.role.as_mut().unwrap();
        role.trust["Statement"][0]["Principal"] = "*".into();
        role.policy.as_mut().unwrap()["Statement"][0]["Resource"] = "*".into();
        found.profile.as_mut().unwrap().roles = vec!["another".into()];
    });
    assert_eq!(
        lines,
        [
            "~ role infra-demo-production: trust EC2 alone",
            "~ role infra-demo-production: may put objects under \
             arn:aws:s3:::infra-demo-123456789012-us-east-1/backups/production/* and nothing else",
            "~ instance profile infra-demo-production: gives the role infra-demo-production",
        ]
    );
}

#[test]
fn a_lost_host_gets_a_bootstrap_key_again_and_keeps_out_of_the_others_zone() {
    let plan = after(|_, found| {
        found.instances.retain(|instance| instance.role == Role::Master);
        found.instances[0].zone = "us-east-1b".into();
    })
    .unwrap();
    let lines: Vec<String> = plan.changes().iter().map(ToString::to_string).collect();
    assert_eq!(
        lines,
        [
            "+ parameter /infra/demo/production/bootstrap-host-key/replica: SecureString",
            "+ instance infra-demo-production-replica: t3.micro in us-east-1a, debian-13 (ami-1), 16 GB encrypted gp3",
        ]
    );
}

#[test]
fn a_stopped_host_is_started_and_the_address_led_back() {
    let lines = lines(|_, found| {
        found.instances[0].state = "stopped".into();
        found.addresses[0].instance = Some("i-elsewhere".into());
    });
    assert_eq!(
        lines,
        [
            "~ instance infra-demo-production-master: start i-master",
            "~ address infra-demo-production: leads to the master, no longer to i-elsewhere",
        ]
    );
}

#[test]
fn duplicates_are_an_error_that_names_both() {
    let error = after(|_, found| {
        let mut second = host(Role::Master, "c");
        second.id = "i-second".into();
        found.instances.push(second);
    })
    .unwrap_err();
    assert!(
        error.to_string().contains("i-master") && error.to_string().contains("i-second"),
        "{error}"
    );
    let error = after(|_, found| {
        let second = Address {
            allocation_id: "eipalloc-2".into(),
            public_ip: "192.0.2.2".into(),
            instance: None,
        };
        found.addresses.push(second);
    })
    .unwrap_err();
    assert!(
        error.to_string().contains("192.0.2.1") && error.to_string().contains("192.0.2.2"),
        "{error}"
    );
}

#[test]
fn zones_that_are_named_are_taken_and_those_without_the_type_are_not() {
    let zones = |change: fn(&mut Wanted, &mut Found)| -> Result<Vec<String>> {
        let (mut wanted, mut found) = (wanted(), empty());
        change(&mut wanted, &mut found);
        let actions = plan(&wanted, &found)?.actions.into_iter();
        Ok(actions
            .filter_map(|action| match action {
                Action::Host(HostAction::Create(host)) => Some(host.zone),
                _ => None,
            })
            .collect())
    };
    assert_eq!(zones(|_, _| {}).unwrap(), ["us-east-1a", "us-east-1b"]);
    assert_eq!(
        zones(|wanted, _| wanted.zones = vec!["c".into(), "us-east-1e".into()]).unwrap(),
        ["us-east-1c", "us-east-1e"]
    );
    assert_eq!(
        zones(|_, found| {
            found.network.offering_zones.remove("us-east-1a");
        })
        .unwrap(),
        ["us-east-1b", "us-east-1c"]
    );
    assert_eq!(
        zones(|wanted, _| wanted.subnet = Some("subnet-e".into())).unwrap(),
        ["us-east-1e", "us-east-1e"]
    );
    for (change, field) in [
        (
            (|wanted, _| wanted.zones = vec!["a".into(), "x".into()]) as fn(&mut Wanted, &mut Found),
            "hosts.zones",
        ),
        (|wanted, _| wanted.subnet = Some("subnet-9".into()), "hosts.subnet"),
        (
            |_, found| found.network.offering_zones = ["us-east-1a".to_string()].into(),
            "hosts.zones",
        ),
        (|_, found| found.machine_type = None, "hosts.instance_type"),
        (|_, found| found.image = None, "hosts.image"),
        (|_, found| found.network.subnets.clear(), "hosts.subnet"),
        (
            |_, found| found.image.as_mut().unwrap().smallest_gb = 20,
            "hosts.disk_gb",
        ),
    ] {
        let error = zones(change).unwrap_err();
        assert!(error.next_step().unwrap().contains(field), "{field}: {error}");
    }
}

#[test]
fn client_tokens_differ_by_everything_that_makes_another_machine() {
    let names = wanted().names;
    let other = Names::new("demo", "staging", "123456789012", "us-east-1").unwrap();
    let tokens: BTreeSet<String> = [
        client_token(&names, Role::Master, 7, 0),
        client_token(&names, Role::Replica, 7, 0),
        client_token(&names, Role::Master, 8, 0),
        client_token(&names, Role::Master, 7, 1),
        client_token(&other, Role::Master, 7, 0),
    ]
    .into();
    assert_eq!(tokens.len(), 5);
    assert!(tokens.iter().all(|token| token.len() == 64), "EC2 takes 64 characters");
    assert_eq!(
        client_token(&names, Role::Master, 7, 0),
        client_token(&names, Role::Master, 7, 0)
    );
}

#[test]
fn backups_expire_after_the_days_that_hold_as_many_as_are_kept() {
    let days = |hourly, daily, monthly, period| {
        let expiry = Expiry::keeping(hourly, daily, monthly, period);
        (expiry.hourly_days, expiry.daily_days, expiry.monthly_days)
    };
    assert_eq!(days(48, 35, 12, 3600), (2, 35, 372));
    assert_eq!(days(49, 35, 12, 3600), (3, 35, 372));
    assert_eq!(days(48, 35, 12, 1800), (1, 35, 372));
    assert_eq!(days(0, 0, 0, 3600), (1, 1, 31));
}

#[test]
fn no_secret_is_in_a_plan_or_in_what_was_found() {
    let plan = plan(&wanted(), &empty()).unwrap();
    let mut found = settled();
    found.secrets.insert(parameter::SSH_KEY, Secret::new("hunter2"));
    let shown = format!("{plan} {plan:?} {found:?} {}", serde_json::to_string(&plan).unwrap());
    assert!(!shown.contains("hunter2"));
}
