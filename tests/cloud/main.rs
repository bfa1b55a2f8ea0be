//! The cloud's part of `up` and `down`, and the bucket's content, against the sandbox's AWS API.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod answers;
mod credits;
mod epoch;
mod fence;
mod lock;
mod requests;
mod resize;
mod retention;

use infra::decide::cloud::plan;
use infra::effects::cloud::s3::{Bucket, If, Written};
use infra::effects::cloud::{Cloud, apply, ec2, find, teardown};
use infra::effects::state::{Journal, Lock, Store};
use infra::model::cloud::{Rule, Source};
use infra::model::error::{Error, Kind};
use infra::model::role::Role;
use infra::model::state::State;
use infra::ui::Ui;
use serde_json::json;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};
use testkit::aws::{Aws, SECRET, make_parameter, up, user_data, wanted};

/// Returns a store in a new bucket that is made and not set up.
async fn store(cloud: &Cloud, env: &str) -> Store {
    let wanted = wanted(cloud, env);
    let found = find::find(cloud, &wanted).await.unwrap();
    let plan = plan(&wanted, &found).unwrap();
    apply::make_bucket(cloud, &wanted, &plan, &Ui::silent()).await.unwrap();
    Store::new(cloud, wanted.names.bucket(), env)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_account_gets_everything_and_a_second_plan_is_empty() {
    let aws = Aws::start();
    let cloud = aws.connect().await;
    let wanted = wanted(&cloud, "production");
    let (first, outcome) = up(&cloud, &wanted).await.unwrap();
    println!("{first}");
    assert_eq!(
        outcome.done.len(),
        first.actions.len(),
        "everything that was planned was done"
    );
    let (master, replica) = (
        outcome.host(Role::Master).unwrap(),
        outcome.host(Role::Replica).unwrap(),
    );
    assert_eq!((master.state.as_str(), replica.state.as_str()), ("running", "running"));
    assert_ne!(master.zone, replica.zone, "losing a zone must not lose both");
    assert_eq!(outcome.public_address(Role::Master).unwrap(), outcome.address.public_ip);
    assert_ne!(
        outcome.public_address(Role::Replica).unwrap(),
        outcome.address.public_ip
    );

    let machines = aws.machines();
    assert_eq!(machines.len(), 2);
    for machine in &machines {
        assert!(machine["role"].is_string(), "{machine}");
        assert_eq!(machine["tags"]["infra:env"], "production");
        assert_eq!(machine["tags"]["infra:generation"], "1700000000");
    }

    let begun = Instant::now();
    let found = find::find(&cloud, &wanted).await.unwrap();
    let took = begun.elapsed();
    let second = plan(&wanted, &found).unwrap();
    println!("{second}\nfound in {took:?}");
    assert!(second.is_empty(), "{second}");
    assert!(second.drift.is_empty(), "{second}");
    assert!(took < Duration::from_secs(2), "looking took {took:?}");
    assert!(found.image.is_some());
    assert_eq!(
        found.machine_type.as_ref().map(|machine| machine.memory_bytes),
        Some(1 << 30)
    );
    let shown = format!(
        "{first} {first:?} {found:?} {outcome:?} {}",
        serde_json::to_string(&first).unwrap()
    );
    assert!(!shown.contains(SECRET), "a secret shows");
}

#[tokio::test(flavor = "multi_thread")]
async fn edited_rules_are_mended_both_ways_and_only_those() {
    let aws = Aws::start();
    let cloud = aws.connect().await;
    let mut wanted = wanted(&cloud, "production");
    up(&cloud, &wanted).await.unwrap();
    let group = ec2::group(&cloud, &wanted.names).await.unwrap().unwrap();
    let intruder = Rule::tcp(22, Source::Ipv4("0.0.0.0/0".into()));
    let lost = Rule::tcp(6379, Source::Members);
    ec2::authorize(&cloud, &group.id, &intruder).await.unwrap();
    ec2::revoke(&cloud, &group.id, &lost).await.unwrap();
    wanted.admin_cidrs = vec!["198.51.100.0/24".parse().unwrap()];

    let (mended, _) = up(&cloud, &wanted).await.unwrap();
    let changes: Vec<String> = mended.changes().iter().map(ToString::to_string).collect();
    assert_eq!(
        changes,
        [
            "+ rule infra-demo-production: allow tcp 22 from 198.51.100.0/24",
            "+ rule infra-demo-production: allow tcp 6379 from 198.51.100.0/24",
            "+ rule infra-demo-production: allow tcp 6379 from its members",
            "- rule infra-demo-production: no longer allow tcp 22 from 0.0.0.0/0",
            "- rule infra-demo-production: no longer allow tcp 22 from 203.0.113.7/32",
            "- rule infra-demo-production: no longer allow tcp 6379 from 203.0.113.7/32",
        ]
    );
    let rules = ec2::group(&cloud, &wanted.names).await.unwrap().unwrap().rules;
    let want: BTreeSet<Rule> = [
        Rule::tcp(22, Source::Ipv4("198.51.100.0/24".into())),
        Rule::tcp(6379, Source::Ipv4("198.51.100.0/24".into())),
        Rule::tcp(6379, Source::Ipv4("0.0.0.0/0".into())),
        lost,
    ]
    .into();
    assert_eq!(rules, want);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_apply_says_what_was_done_and_the_next_one_goes_on() {
    let aws = Aws::start();
    let cloud = aws.connect().await;
    let wanted = wanted(&cloud, "production");
    let found = find::find(&cloud, &wanted).await.unwrap();
    let first = plan(&wanted, &found).unwrap();
    let inputs = apply::Inputs {
        parameter: &make_parameter,
        user_data: &|role, secrets| match role {
            Role::Master => user_data(role, secrets),
            Role::Replica => Err(Error::failed("think of user-data for the replica")),
        },
    };
    let error = apply::apply(&cloud, &wanted, &found, &first, &inputs, &Ui::silent())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), Kind::Partial);
    let text = error.to_string();
    assert!(text.contains("instance infra-demo-production-master"), "{text}");
    assert!(!text.contains("instance infra-demo-production-replica"), "{text}");
    assert!(
        error
            .chain()
            .iter()
            .any(|line| line.contains("user-data for the replica")),
        "{:?}",
        error.chain()
    );

    let master = aws.machines().remove(0)["id"].clone();
    let (rest, outcome) = up(&cloud, &wanted).await.unwrap();
    assert_eq!(
        rest.actions.len(),
        2,
        "the replica and the address's way to the master are left:\n{rest}"
    );
    assert_eq!(outcome.host(Role::Master).unwrap().id, master);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_plan_twice_makes_no_second_machine_and_a_lost_machine_is_made_anew() {
    let aws = Aws::start();
    let cloud = aws.connect().await;
    let wanted = wanted(&cloud, "production");
    let found = find::find(&cloud, &wanted).await.unwrap();
    let same = plan(&wanted, &found).unwrap();
    let inputs = apply::Inputs {
        parameter: &make_parameter,
        user_data: &user_data,
    };
    let mut ids = BTreeSet::new();
    for _ in 0..2 {
        let outcome = apply::apply(&cloud, &wanted, &found, &same, &inputs, &Ui::silent())
            .await
            .unwrap();
        ids.extend(outcome.hosts.values().map(|host| host.id.clone()));
    }
    assert_eq!(ids.len(), 2, "{ids:?}");
    assert_eq!(ec2::addresses(&cloud, &wanted.names).await.unwrap().len(), 1);

    let lost = ec2::instances(&cloud, &wanted.names).await.unwrap();
    let lost = lost
        .into_iter()
        .find(|instance| instance.role == Role::Replica)
        .unwrap();
    ec2::terminate(&cloud, std::slice::from_ref(&lost.id)).await.unwrap();
    let (again, outcome) = up(&cloud, &wanted).await.unwrap();
    assert_eq!(again.actions.len(), 1, "{again}");
    assert_ne!(outcome.host(Role::Replica).unwrap().id, lost.id);
}

#[tokio::test(flavor = "multi_thread")]
async fn teardown_leaves_nothing_but_backups_and_those_only_until_they_are_named() {
    let aws = Aws::start();
    let cloud = aws.connect().await;
    let wanted = wanted(&cloud, "production");
    let names = &wanted.names;
    up(&cloud, &wanted).await.unwrap();
    let store = Store::new(&cloud, names.bucket(), "production");
    let held = Lock::acquire(&store, &Ui::silent(), "infra down").await.unwrap();
    let state = State::begin(jiff::Timestamp::now());
    let etag = store.save(&state, None).await.unwrap();
    store
        .save(
            &State {
                endpoint: Some("192.0.2.1".into()),
                ..state
            },
            Some(&etag),
        )
        .await
        .unwrap();
    let bucket = Bucket::new(&cloud, names.bucket());
    bucket
        .put("backups/production/hourly/a", b"base", &If::Absent)
        .await
        .unwrap();

    let standing = teardown::find(&cloud, names).await.unwrap();
    let down = infra::decide::teardown::teardown(names, &standing, false);
    println!("{down}");
    let removed = teardown::apply(&cloud, names, &down, Some(&held), &Ui::silent())
        .await
        .unwrap();
    assert_eq!(removed.removed.len(), down.removals.len(), "{removed:?}");
    let left = teardown::find(&cloud, names).await.unwrap();
    let only_backups = infra::model::cloud::Standing {
        bucket: true,
        backups: 1,
        backup_bytes: 4,
        backup_versions: 1,
        ..Default::default()
    };
    assert_eq!(left, only_backups);
    assert!(
        infra::decide::teardown::teardown(names, &left, false).is_empty(),
        "a second down has nothing to do"
    );

    let down = infra::decide::teardown::teardown(names, &left, true);
    let removed = teardown::apply(&cloud, names, &down, None, &Ui::silent())
        .await
        .unwrap();
    assert!(removed.kept.is_empty(), "{removed:?}");
    assert_eq!(
        teardown::find(&cloud, names).await.unwrap(),
        infra::model::cloud::Standing::default()
    );
    assert!(
        aws.machines().iter().all(|machine| machine["state"] == "terminated"),
        "{:?}",
        aws.machines()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_another_environment_uses_stays() {
    let aws = Aws::start();
    let cloud = aws.connect().await;
    let ours = store(&cloud, "production").await;
    let other = store(&cloud, "staging").await;
    other.save(&State::begin(jiff::Timestamp::now()), None).await.unwrap();
    let names = wanted(&cloud, "production").names;
    let held = Lock::acquire(&ours, &Ui::silent(), "infra down").await.unwrap();
    let standing = teardown::find(&cloud, &names).await.unwrap();
    let down = infra::decide::teardown::teardown(&names, &standing, true);
    let removed = teardown::apply(&cloud, &names, &down, Some(&held), &Ui::silent())
        .await
        .unwrap();
    assert_eq!(
        removed.kept,
        [format!("bucket {}: something else is in it", names.bucket())]
    );
    assert!(other.state().await.unwrap().is_some());

    // Both environments keep their rules in the one lifecycle.
    let production = plan(
        &wanted(&cloud, "production"),
        &find::find(&cloud, &wanted(&cloud, "production")).await.unwrap(),
    );
    assert!(!production.unwrap().to_string().contains("~ bucket"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journal_takes_entries_from_one_writer_only() {
    let aws = Aws::start();
    let cloud = aws.connect().await;
    let store = store(&cloud, "production").await;
    assert!(Journal::latest(&store).await.unwrap().is_none());
    let mut first = Journal::begin(&store, "infra promote").await.unwrap();
    first.append("fenced", "pause", json!({"offset": 17})).await.unwrap();
    let mut resumed = Journal::latest(&store).await.unwrap().unwrap();
    assert_eq!(resumed.id(), first.id());
    resumed.append("promoted", "promote", json!(null)).await.unwrap();
    let error = first.append("fenced", "back", json!(null)).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Locked);
    let stored = Journal::open(&store, first.id()).await.unwrap().unwrap();
    let steps: Vec<&str> = stored.entries().iter().map(|entry| entry.step.as_str()).collect();
    assert_eq!(steps, ["pause", "promote"]);
    assert_eq!(stored.last("pause").unwrap().detail["offset"], 17);
}

#[tokio::test(flavor = "multi_thread")]
async fn state_is_written_only_over_what_was_read() {
    let aws = Aws::start();
    let cloud = aws.connect().await;
    let early = Store::new(&cloud, "infra-demo-none", "production");
    assert!(
        early.state().await.unwrap().is_none(),
        "without a bucket there is no state, and no error"
    );
    let store = store(&cloud, "production").await;
    let state = State::begin(jiff::Timestamp::now());
    let etag = store.save(&state, None).await.unwrap();
    assert_eq!(store.state().await.unwrap().unwrap().value, state);
    let newer = State {
        phase: "following".into(),
        ..state.clone()
    };
    store.save(&newer, Some(&etag)).await.unwrap();
    let late = State {
        phase: "fenced".into(),
        ..state.clone()
    };
    assert_eq!(store.save(&late, Some(&etag)).await.unwrap_err().kind(), Kind::Locked);
    assert_eq!(store.save(&late, None).await.unwrap_err().kind(), Kind::Locked);
    assert_eq!(store.state().await.unwrap().unwrap().value, newer);
    // A repeated request meets its own first success, so the same content counts as written.
    assert_eq!(
        store.save(&newer, None).await.unwrap(),
        store.state().await.unwrap().unwrap().etag
    );
    let raw = store.bucket().put("other", b"x", &If::Absent).await.unwrap();
    assert!(matches!(raw, Written::Done(_)));
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_credentials_and_wrong_fields_are_named() {
    let aws = Aws::start();
    let error = aws.connect_as("AKIAIOSFODNN7EXAMPLE", "wrong").await.unwrap_err();
    println!("{:?}", error.chain());
    assert!(error.next_step().unwrap().contains("credentials"), "{error:?}");
    let cloud = aws.connect().await;
    for (field, change) in [
        (
            "hosts.instance_type",
            (|wanted| wanted.instance_type = "t9.huge".into()) as fn(&mut infra::model::cloud::Wanted),
        ),
        ("hosts.image", |wanted| wanted.image = "ami-0123456789abcdef0".into()),
        ("hosts.image", |wanted| wanted.image = "plan9".into()),
        ("hosts.subnet", |wanted| {
            wanted.subnet = Some("subnet-0123456789abcdef0".into())
        }),
        ("hosts.zones", |wanted| wanted.zones = vec!["a".into(), "z".into()]),
        ("hosts.disk_gb", |wanted| wanted.disk_gb = 1),
    ] {
        let mut wanted = wanted(&cloud, "production");
        change(&mut wanted);
        let found = find::find(&cloud, &wanted).await;
        let error = found.and_then(|found| plan(&wanted, &found).map(|_| ())).unwrap_err();
        assert!(error.next_step().unwrap().contains(field), "{field}: {error:?}");
        println!("{:?} → {}", error.chain(), error.next_step().unwrap());
    }
}
