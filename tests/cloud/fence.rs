//! The network ACL that cuts the old master off, from its making to its removal.

use super::{Cloud, Role, Ui, ec2, teardown, up, wanted};
use infra::model::names::Names;
use serde_json::{Value, json};
use testkit::aws::Aws;

/// Returns true if the ACL of a machine's subnet lets anything through.
fn is_reachable(aws: &Aws, id: &str) -> bool {
    let machine = aws.machines().into_iter().find(|machine| machine["id"] == id).unwrap();
    let entries: &Vec<Value> = machine["acl"]["entries"].as_array().unwrap();
    entries.iter().any(|entry| entry["allow"] == true)
}

async fn cut_off(cloud: &Cloud, names: &Names, id: &str) {
    let place = ec2::place_of(cloud, id).await.unwrap();
    assert_eq!(place.objection(), None);
    let made = ec2::cut_off(cloud, names, id, &place).await.unwrap();
    assert_eq!(
        ec2::network_fences(cloud, names).await.unwrap(),
        [made],
        "it is found by its tags"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_is_cut_off_and_gets_its_network_back_only_once_it_is_stopped() {
    let aws = Aws::start();
    let cloud = aws.connect().await;
    let wanted = wanted(&cloud, "production");
    let (_, made) = up(&cloud, &wanted).await.unwrap();
    let [master, replica] = [Role::Master, Role::Replica].map(|role| made.host(role).unwrap().id.clone());
    aws.turn(json!({ "stop_hangs": true }));
    ec2::stop(&cloud, &master, true).await.unwrap();
    cut_off(&cloud, &wanted.names, &master).await;
    assert!(!is_reachable(&aws, &master));
    assert!(is_reachable(&aws, &replica), "only that host is cut off");

    let refused = up(&cloud, &wanted).await.unwrap_err();
    assert!(refused.to_string().contains("stopping"), "{refused:#}");
    assert!(refused.next_step().unwrap().contains("stop-instances --force"));
    assert!(!is_reachable(&aws, &master), "it may still take writes");

    aws.turn(json!({ "stop_hangs": false }));
    let state = async || ec2::state_of(&cloud, &master).await.unwrap();
    while state().await.as_deref() != Some("stopped") {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let (plan, _) = up(&cloud, &wanted).await.unwrap();
    assert!(plan.to_string().contains("network ACL"), "{plan}");
    assert!(is_reachable(&aws, &master));
    assert_eq!(ec2::network_fences(&cloud, &wanted.names).await.unwrap(), []);
    let (again, _) = up(&cloud, &wanted).await.unwrap();
    assert!(again.actions.is_empty(), "{again}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_else_is_cut_off_and_what_is_removed_leaves_no_acl() {
    let aws = Aws::start();
    let cloud = aws.connect().await;
    let wanted = wanted(&cloud, "production");
    let (_, made) = up(&cloud, &wanted).await.unwrap();
    let master = made.host(Role::Master).unwrap().id.clone();
    cut_off(&cloud, &wanted.names, &master).await;
    let standing = teardown::find(&cloud, &wanted.names).await.unwrap();
    let down = infra::decide::teardown::teardown(&wanted.names, &standing, true);
    assert!(down.to_string().contains("network ACL"), "{down}");
    teardown::apply(&cloud, &wanted.names, &down, None, &Ui::silent())
        .await
        .unwrap();
    assert_eq!(ec2::network_fences(&cloud, &wanted.names).await.unwrap(), []);

    // Two environments whose hosts share their subnets.
    let (_, one) = up(&cloud, &super::wanted(&cloud, "one")).await.unwrap();
    up(&cloud, &super::wanted(&cloud, "two")).await.unwrap();
    let master = &one.host(Role::Master).unwrap().id;
    assert!(is_reachable(&aws, master));
    let place = ec2::place_of(&cloud, master).await.unwrap();
    let objection = place.objection().unwrap();
    assert!(objection.contains("would cut off eni-"), "{objection}");
}
