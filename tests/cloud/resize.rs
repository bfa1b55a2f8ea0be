//! Another instance type and larger disks, against the sandbox's AWS API.

use infra::effects::cloud::{Cloud, ec2, find};
use infra::model::role::Role;
use std::time::{Duration, Instant};
use testkit::aws::{Aws, up, wanted};

async fn until(cloud: &Cloud, id: &str, state: &str) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while ec2::state_of(cloud, id).await.unwrap().as_deref() != Some(state) {
        assert!(Instant::now() < deadline, "{id} is not {state}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_host_gets_another_type_and_its_own_memory_counts() {
    let aws = Aws::start();
    let cloud = aws.connect().await;
    let mut wanted = wanted(&cloud, "production");
    let (_, outcome) = up(&cloud, &wanted).await.unwrap();
    let id = outcome.host(Role::Replica).unwrap().id.clone();
    let error = ec2::set_type(&cloud, &id, "t3.small").await.unwrap_err();
    assert!(format!("{error:#}").contains("IncorrectInstanceState"), "{error:#}");
    ec2::stop(&cloud, &id, false).await.unwrap();
    until(&cloud, &id, "stopped").await;
    ec2::set_type(&cloud, &id, "t3.small").await.unwrap();

    // infra.yml still says the smaller type: each host has the memory of its own.
    let memory = async |wanted: &infra::model::cloud::Wanted| {
        let found = find::find(&cloud, wanted).await.unwrap();
        [Role::Master, Role::Replica].map(|role| {
            let host = found.instances.iter().find(|host| host.role == role).unwrap();
            found.memory_of(host).unwrap()
        })
    };
    assert_eq!(memory(&wanted).await, [1 << 30, 2 << 30]);
    wanted.instance_type = "t3.small".into();
    assert_eq!(memory(&wanted).await, [1 << 30, 2 << 30]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_grows_in_place_and_the_next_change_says_how_long_to_wait() {
    let aws = Aws::start();
    let cloud = aws.connect().await;
    let wanted = wanted(&cloud, "production");
    let (_, outcome) = up(&cloud, &wanted).await.unwrap();
    let id = &outcome.host(Role::Replica).unwrap().id;
    let disks = ec2::disks(&cloud, &wanted.names).await.unwrap();
    let disk = &disks[id];
    assert_eq!(disk.gb, 16);
    assert_eq!(ec2::disk_change(&cloud, &disk.volume).await.unwrap(), None);
    ec2::grow_disk(&cloud, &disk.volume, 24).await.unwrap();
    assert_eq!(
        ec2::disk_change(&cloud, &disk.volume).await.unwrap().as_deref(),
        Some("modifying")
    );
    let error = ec2::grow_disk(&cloud, &disk.volume, 32).await.unwrap_err();
    assert!(error.next_step().unwrap().contains("in an hour"), "{error:#}");
    let deadline = Instant::now() + Duration::from_secs(10);
    while ec2::disk_change(&cloud, &disk.volume).await.unwrap().as_deref() != Some("completed") {
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let error = ec2::grow_disk(&cloud, &disk.volume, 32).await.unwrap_err();
    assert!(format!("{error:#}").contains("once in six hours"), "{error:#}");
    let found = find::find(&cloud, &wanted).await.unwrap();
    let host = found.instances.iter().find(|host| host.id == *id).unwrap();
    assert_eq!(host.disk_gb, Some(24));
}
