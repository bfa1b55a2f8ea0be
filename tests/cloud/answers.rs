//! AWS as it answers now and then: late, throttled, in another order, or with an end to what it gave.

use crate::store;
use futures_util::future::join_all;
use infra::decide::cloud::plan;
use infra::effects::cloud::listing::Listed;
use infra::effects::cloud::s3::{Bucket, If};
use infra::effects::cloud::{describe, ec2, find, teardown};
use infra::effects::state::Lock;
use infra::model::cloud::{Action, HostAction};
use infra::model::error::Kind;
use infra::model::role::Role;
use infra::model::secret::Secret;
use infra::model::state::State;
use infra::ui::Ui;
use serde_json::json;
use std::time::{Duration, Instant};
use testkit::aws::{Aws, call, up, wanted};

#[tokio::test(flavor = "multi_thread")]
async fn policies_in_another_order_are_unchanged() {
    let aws = Aws::start();
    aws.turn(json!({"policies_reordered": true}));
    let cloud = aws.connect().await;
    let wanted = wanted(&cloud, "production");
    up(&cloud, &wanted).await.unwrap();
    let found = find::find(&cloud, &wanted).await.unwrap();
    let again = plan(&wanted, &found).unwrap();
    assert!(again.is_empty(), "{again}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_aws_does_not_see_yet_is_waited_for() {
    let aws = Aws::start();
    aws.turn(json!({"unseen_s": 4}));
    let cloud = aws.connect().await;
    let wanted = wanted(&cloud, "production");
    let store = store(&cloud, "production").await;
    let held = Lock::acquire(&store, &Ui::silent(), "infra up").await.unwrap();
    up(&cloud, &wanted).await.unwrap();
    held.release().await.unwrap();
    let found = find::find(&cloud, &wanted).await.unwrap();
    let again = plan(&wanted, &found).unwrap();
    assert!(again.is_empty(), "{again}");
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_of_a_bucket_that_was_just_made_have_what_is_in_it() {
    let aws = Aws::start();
    let cloud = aws.connect().await;
    let other = aws.connect().await;
    let store = store(&cloud, "production").await;
    let made = Instant::now();
    let bucket = store.bucket();
    let keys = ["a/0000000001", "a/0000000002", "b/x"];
    for key in keys {
        bucket.put(key, b"x", &If::Absent).await.unwrap();
    }
    let listed = |found: Vec<Listed>| found.into_iter().map(|object| object.key).collect::<Vec<_>>();
    // Each look meets a part of S3 that does not know the bucket yet.
    let unseen = || aws.turn(json!({"unseen_s": made.elapsed().as_secs_f64() + 1.0}));
    unseen();
    assert_eq!(listed(bucket.list("").await.unwrap()), keys);
    unseen();
    assert_eq!(bucket.folders("").await.unwrap(), ["a/", "b/"]);
    unseen();
    assert_eq!(bucket.last_numbered("a/").await.unwrap().as_deref(), Some(keys[1]));
    unseen();
    assert_eq!(bucket.versions("").await.unwrap().len(), keys.len());
    unseen();
    assert!(bucket.get("b/x").await.unwrap().is_some());
    unseen();
    let names = wanted(&cloud, "production").names;
    assert!(teardown::find(&cloud, &names).await.unwrap().bucket);
    unseen();
    assert!(bucket.delete("b/x", &If::Always).await.unwrap());
    assert_eq!(listed(bucket.list("").await.unwrap()), keys[..2]);
    // Another process has not made the bucket, and believes S3 at once.
    unseen();
    let other = Bucket::new(&other, bucket.name());
    assert_eq!(listed(other.list("").await.unwrap()), [] as [&str; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_is_led_to_a_machine_as_soon_as_ec2_sees_both() {
    let aws = Aws::start();
    let cloud = aws.connect().await;
    let begun = Instant::now();
    let (_, outcome) = up(&cloud, &wanted(&cloud, "production")).await.unwrap();
    // Everything is younger than this, and seen a moment later.
    aws.turn(json!({"unseen_s": begun.elapsed().as_secs_f64() + 0.5}));
    let replica = &outcome.host(Role::Replica).unwrap().id;
    ec2::associate(&cloud, &outcome.address, replica).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_whose_name_was_given_up_just_now_is_asked_for_again() {
    let aws = Aws::start();
    let cloud = aws.connect().await;
    let busy =
        json!({"service": "s3", "operation": "CreateBucket", "status": 409, "code": "OperationAborted", "count": 5});
    call(aws.address, "POST", "/_hv/fault", Some(busy)).unwrap();
    let store = store(&cloud, "production").await;
    store.bucket().put("a", b"x", &If::Absent).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_of_several_pages_is_whole() {
    let aws = Aws::start();
    let cloud = aws.connect().await;
    let store = store(&cloud, "production").await;
    let keys: Vec<String> = (0..1001).map(|number| format!("many/{number:04}")).collect();
    for some in keys.chunks(40) {
        let writes = some.iter().map(|key| store.bucket().put(key, b"", &If::Always));
        join_all(writes)
            .await
            .into_iter()
            .for_each(|written| drop(written.unwrap()));
    }
    let found = store.bucket().list("many/").await.unwrap();
    assert!(found.iter().map(|object| &object.key).eq(&keys), "{}", found.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_answers_404_though_it_was_written_is_read_all_the_same() {
    let aws = Aws::start();
    aws.turn(json!({"versions_settle_s": 600}));
    let cloud = aws.connect().await;
    up(&cloud, &wanted(&cloud, "production")).await.unwrap();
    let store = infra::effects::state::Store::new(&cloud, wanted(&cloud, "production").names.bucket(), "production");
    let held = Lock::acquire(&store, &Ui::silent(), "infra up").await.unwrap();
    let mut etag = store.save(&State::begin(jiff::Timestamp::now()), None).await.unwrap();
    for _ in 0..4 {
        let read = store.state().await.unwrap().expect("the state was written");
        assert_eq!(read.etag, etag);
        etag = store.save(&read.value, Some(&etag)).await.unwrap();
    }
    held.confirm(Duration::ZERO).await.unwrap();
    held.release().await.unwrap();
    assert!(Lock::standing(&store).await.unwrap().is_none());
    // Another process has not written it and has to know all the same.
    let other = Bucket::new(&aws.connect().await, store.bucket().name());
    for _ in 0..4 {
        assert!(other.get("state/production/state.json").await.unwrap().is_some());
    }
    assert!(other.get("state/production/absent.json").await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn throttled_calls_are_repeated_until_they_pass() {
    let aws = Aws::start();
    let cloud = aws.connect().await;
    let wanted = wanted(&cloud, "production");
    up(&cloud, &wanted).await.unwrap();
    let begun = Instant::now();
    aws.turn(json!({"throttled": {"ec2": [1000, 8], "s3": [1000, 8], "iam": [1000, 8], "ssm": [1000, 8]}}));
    let found = find::find(&cloud, &wanted).await.unwrap();
    let bucket = Bucket::new(&cloud, wanted.names.bucket());
    bucket.put("state/production/x", b"x", &If::Absent).await.unwrap();
    assert!(plan(&wanted, &found).unwrap().is_empty());
    assert!(begun.elapsed() > Duration::from_secs(7) && begun.elapsed() < Duration::from_secs(30));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_made_a_machine_in_another_zone_makes_no_second_one() {
    let aws = Aws::start();
    let cloud = aws.connect().await;
    let wanted = wanted(&cloud, "production");
    let found = find::find(&cloud, &wanted).await.unwrap();
    let first = plan(&wanted, &found).unwrap();
    let (_, outcome) = up(&cloud, &wanted).await.unwrap();
    let host = first.actions.iter().find_map(|action| match action {
        Action::Host(HostAction::Create(host)) if host.role == Role::Master => Some(host.clone()),
        _ => None,
    });
    let mut host = host.unwrap();
    let other = found
        .network
        .subnets
        .iter()
        .find(|subnet| subnet.zone != host.zone)
        .unwrap();
    (host.zone, host.subnet) = (other.zone.clone(), other.id.clone());
    let group = ec2::group(&cloud, &wanted.names).await.unwrap().unwrap().id;
    let run = ec2::run(
        &cloud,
        &wanted.names,
        &host,
        &group,
        &Secret::new("#cloud-config\n"),
        &[],
    )
    .await;
    let ec2::Run::Made(id) = run.unwrap() else {
        panic!("EC2 does not see the group")
    };
    assert_eq!(id, outcome.host(Role::Master).unwrap().id);
    assert_eq!(aws.machines().len(), 2);
}

/// After a failover the replica is the instance that a master's token made, and it may be lost.
#[tokio::test(flavor = "multi_thread")]
async fn the_first_token_of_a_role_does_not_lead_to_the_host_of_the_other_one() {
    let aws = Aws::start();
    let cloud = aws.connect().await;
    let wanted = wanted(&cloud, "production");
    let found = find::find(&cloud, &wanted).await.unwrap();
    let first = plan(&wanted, &found).unwrap();
    let (_, outcome) = up(&cloud, &wanted).await.unwrap();
    let replica = first.actions.iter().find_map(|action| match action {
        Action::Host(HostAction::Create(host)) if host.role == Role::Replica => Some(host.clone()),
        _ => None,
    });
    let (replica, names) = (replica.unwrap(), &wanted.names);
    let group = ec2::group(&cloud, names).await.unwrap().unwrap().id;
    let now_master = outcome.host(Role::Replica).unwrap().id.clone();
    for (id, role) in [
        (&now_master, Role::Master),
        (&outcome.host(Role::Master).unwrap().id, Role::Replica),
    ] {
        ec2::tag_role(&cloud, names, id, role).await.unwrap();
    }
    let tagged = ec2::instances(&cloud, names).await.unwrap();
    let role = |id: &str| tagged.iter().find(|instance| instance.id == id).unwrap().role;
    assert_eq!(role(&now_master), Role::Master);
    let secret = Secret::new("#cloud-config\n");
    let run = ec2::run(
        &cloud,
        names,
        &replica,
        &group,
        &secret,
        std::slice::from_ref(&now_master),
    )
    .await;
    let ec2::Run::Made(id) = run.unwrap() else {
        panic!("EC2 does not see the group")
    };
    assert_ne!(id, now_master);
    assert_eq!(aws.machines().len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deprecated_image_is_found_by_its_id() {
    let aws = Aws::start();
    let cloud = aws.connect().await;
    let (_, image) = describe::image(&cloud, "t3.micro", "ami-0deb11616d6436340")
        .await
        .unwrap();
    assert_eq!(image.id, "ami-0deb11616d6436340");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_whose_disk_key_is_refused_names_the_key() {
    let aws = Aws::start();
    aws.turn(json!({"disk_key_refused": true}));
    let cloud = aws.connect().await;
    let error = up(&cloud, &wanted(&cloud, "production")).await.unwrap_err();
    let said = format!("{:?} {:?}", error.chain(), error.next_step());
    assert!(said.contains("Client.InternalError"), "{said}");
    assert!(said.contains("get-ebs-default-kms-key-id"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signed_address_ends_no_later_than_the_credentials_that_sign_it() {
    let aws = Aws::start();
    let cloud = aws.connect_for(Duration::from_secs(1200), "us-east-1").await.unwrap();
    let address = async |cloud| {
        let bucket = Bucket::new(cloud, "some-bucket");
        let url = bucket.signed_url("a", Duration::from_secs(6 * 3600)).await.unwrap();
        let url = reqwest::Url::parse(url.expose()).unwrap();
        let life = url.query_pairs().find(|(name, _)| name == "X-Amz-Expires").unwrap().1;
        life.parse::<u64>().unwrap()
    };
    let life = address(&cloud).await;
    assert!((1100..=1200).contains(&life), "{life}");
    assert_eq!(address(&aws.connect().await).await, 6 * 3600, "keys that do not end");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ended_session_is_named_also_where_the_answer_has_no_text() {
    let aws = Aws::start();
    let cloud = aws.connect().await;
    let expired = json!({"service": "s3", "status": 400, "code": "ExpiredToken"});
    call(aws.address, "POST", "/_hv/fault", Some(expired)).unwrap();
    let error = find::find(&cloud, &wanted(&cloud, "production")).await.unwrap_err();
    let hint = error.next_step().unwrap_or_default();
    assert!(hint.contains("log in to AWS again"), "{:?} {hint}", error.chain());
}

#[tokio::test(flavor = "multi_thread")]
async fn regions_in_china_are_refused_before_any_request() {
    let aws = Aws::start();
    let error = aws
        .connect_for(Duration::from_secs(3600), "cn-north-1")
        .await
        .unwrap_err();
    assert_eq!(error.kind(), Kind::Usage);
    assert!(error.to_string().contains("cn-north-1"), "{error}");
}
