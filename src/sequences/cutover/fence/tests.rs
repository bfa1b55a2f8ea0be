use super::*;
use crate::effects::redis::testing::TestServer;

/// The longest round trip between an operator and the source.
const FAR: Duration = Duration::from_millis(300);

#[tokio::test]
async fn raising_and_checking_a_pause_take_one_round_trip_each() {
    let source = TestServer::start(&[]).await;
    let far = source.far(FAR).await;
    let open = far.connect(0).await.unwrap();
    let fence = Fence::raise(&far, Some(open)).await.unwrap();
    let raising = fence.raised.elapsed();
    let begun = Instant::now();
    fence.check().await.unwrap();
    let checking = begun.elapsed();
    let begun = Instant::now();
    fence.extend(Duration::from_secs(60)).await.unwrap();
    let extending = begun.elapsed();
    for took in [raising, checking, extending] {
        assert!((FAR..FAR * 2).contains(&took), "{took:?}");
    }
}

#[tokio::test]
async fn a_pause_of_a_far_source_never_comes_near_its_end() {
    let source = TestServer::start(&[]).await;
    let fence = Fence::raise(&source.far(FAR).await, None).await.unwrap();
    let begun = Instant::now();
    while begun.elapsed() < TERM + RENEWAL * 3 {
        fence.holds().unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    fence.lift().await.unwrap();
}
