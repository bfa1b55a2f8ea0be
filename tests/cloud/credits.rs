//! The CPU credits of burstable hosts, from the sandbox's CloudWatch.

use infra::decide::credits::{WINDOW, credits};
use infra::effects::cloud::credits::cpu_credits;
use infra::model::cloud::Balance;
use infra::model::role::Role;
use jiff::Timestamp;
use serde_json::json;
use std::collections::BTreeMap;
use testkit::aws::{Aws, call, up, wanted};

#[tokio::test(flavor = "multi_thread")]
async fn the_credits_of_each_host_are_read_with_their_trend() {
    let aws = Aws::start();
    let cloud = aws.connect().await;
    let (_, outcome) = up(&cloud, &wanted(&cloud, "production")).await.unwrap();
    let ids = Role::ALL.map(|role| outcome.host(role).unwrap().id.clone());
    let ask = async || {
        let found = cpu_credits(&cloud, &ids, Timestamp::now(), WINDOW).await.unwrap();
        found.expect("the operator may ask")
    };
    let full: BTreeMap<String, Vec<Balance>> = ask().await;
    assert_eq!(full.keys().collect::<Vec<_>>().len(), 2, "{full:?}");
    for balances in full.values() {
        let credits = credits(balances).unwrap();
        assert_eq!((credits.left, credits.gain_an_hour), (288.0, Some(0.0)));
    }
    aws.turn(json!({"cpu_credits": [20, -24]}));
    let falling = credits(&ask().await[&ids[0]]).unwrap();
    let gain = falling.gain_an_hour.unwrap();
    assert!((20.0..23.0).contains(&falling.left), "{falling:?}");
    assert!((-24.1..-23.9).contains(&gain), "{falling:?}");
    let minutes = falling.gone_at.unwrap().duration_since(Timestamp::now()).as_mins();
    assert!((45..=51).contains(&minutes), "{minutes} minutes");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_may_not_ask_is_told_so_and_other_refusals_are_errors() {
    let aws = Aws::start();
    let cloud = aws.connect().await;
    let ids = ["i-0123456789abcdef0".to_string()];
    let ask = async || cpu_credits(&cloud, &ids, Timestamp::now(), WINDOW).await;
    let nothing = ask().await.unwrap().expect("the operator may ask");
    assert!(nothing.is_empty(), "{nothing:?}");
    call(
        aws.address,
        "POST",
        "/_hv/fault",
        Some(json!({"service": "monitoring", "status": 400, "code": "AccessDeniedException", "count": 1})),
    )
    .unwrap();
    assert!(ask().await.unwrap().is_none());
    call(
        aws.address,
        "POST",
        "/_hv/fault",
        Some(json!({"service": "monitoring", "status": 400, "code": "ThrottlingException", "count": 1})),
    )
    .unwrap();
    let error = ask().await.unwrap_err();
    assert!(format!("{error:#}").contains("cloudwatch:GetMetricData"), "{error:#}");
    assert!(error.next_step().unwrap().contains("in a minute"), "{error:#}");
}
