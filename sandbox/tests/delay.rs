//! The operator's distance, measured with real connections between two network namespaces.

#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use sandbox::delay::{Relay, Tap};
use sandbox::network::{Namespace, in_namespace};

const ROUND_TRIP: Duration = Duration::from_millis(80);
/// Allows for timers of a millisecond each way, and for other tests on this computer.
const LATER_AT_MOST: Duration = Duration::from_millis(25);

/// Two namespaces with an address each, taken away at the end of the test.
struct Shores {
    operator: Namespace,
    servers: Namespace,
    _relay: Relay,
}

impl Shores {
    async fn make() -> Self {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let shore = async |side: &str, address: &str| {
            let namespace = Namespace::named(format!("delay-{side}-{}-{number}", std::process::id()));
            namespace.add().await.unwrap();
            let tap = Tap::open("eth0", Some(namespace.path())).await.unwrap();
            let script = format!("link set lo up\naddr add {address}/16 dev eth0\nlink set eth0 up\n");
            namespace.batch(&script).await.unwrap();
            (namespace, tap)
        };
        let (operator, far) = shore("operator", "10.77.0.2").await;
        let (servers, near) = shore("servers", "10.77.0.1").await;
        Self {
            operator,
            servers,
            _relay: Relay::between(far, near, ROUND_TRIP / 2),
        }
    }

    /// Runs the operator's part against a server that does this with its first connection.
    async fn talk<T: Send + 'static>(
        &self,
        server: impl FnOnce(TcpStream) + Send + 'static,
        operator: impl FnOnce(SocketAddr) -> T + Send + 'static,
    ) -> T {
        let listener = in_namespace(self.servers.path(), || Ok(TcpListener::bind("10.77.0.1:0")?));
        let listener = listener.await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = std::thread::spawn(move || server(listener.accept().unwrap().0));
        let said = in_namespace(self.operator.path(), move || Ok(operator(address)))
            .await
            .unwrap();
        serving.join().unwrap();
        said
    }
}

impl Drop for Shores {
    fn drop(&mut self) {
        for namespace in [&self.operator, &self.servers] {
            let path = namespace.path();
            let name = path.rsplit('/').next().unwrap();
            assert!(
                Command::new("ip")
                    .args(["netns", "del", name])
                    .status()
                    .unwrap()
                    .success()
            );
        }
    }
}

fn assert_takes(round_trips: u32, took: Duration, doing: &str) {
    let least = ROUND_TRIP * round_trips;
    let is_right = (least..least + LATER_AT_MOST * round_trips.max(1)).contains(&took);
    assert!(is_right, "{doing} took {took:?} instead of {round_trips} round trips");
}

#[tokio::test(flavor = "multi_thread")]
async fn connecting_and_each_answer_take_one_round_trip() {
    let shores = Shores::make().await;
    let echo = |mut stream: TcpStream| {
        let mut request = [0; 4];
        while stream.read_exact(&mut request).is_ok() {
            stream.write_all(&request).unwrap();
        }
    };
    let (connecting, answers) = shores
        .talk(echo, |address| {
            let begun = Instant::now();
            let mut stream = TcpStream::connect(address).unwrap();
            let connecting = begun.elapsed();
            stream.set_nodelay(true).unwrap();
            let answers: Vec<Duration> = (0..3)
                .map(|_| {
                    let begun = Instant::now();
                    stream.write_all(b"ping").unwrap();
                    stream.read_exact(&mut [0; 4]).unwrap();
                    begun.elapsed()
                })
                .collect();
            (connecting, answers)
        })
        .await;
    assert_takes(1, connecting, "connecting");
    for answer in answers {
        assert_takes(1, answer, "an answer");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_takes_one_round_trip_and_stays_a_refusal() {
    let shores = Shores::make().await;
    let free = in_namespace(shores.servers.path(), || Ok(TcpListener::bind("10.77.0.1:0")?));
    let address = free.await.unwrap().local_addr().unwrap();
    let tried = in_namespace(shores.operator.path(), move || {
        let begun = Instant::now();
        let kind = TcpStream::connect(address).map(drop).map_err(|error| error.kind());
        Ok((kind, begun.elapsed()))
    });
    let (refused, took) = tried.await.unwrap();
    assert_eq!(refused, Err(ErrorKind::ConnectionRefused));
    assert_takes(1, took, "a refusal");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_sent_together_arrives_together() {
    const REQUESTS: usize = 500;
    let shores = Shores::make().await;
    let answering = |mut stream: TcpStream| {
        stream.set_nodelay(true).unwrap();
        let mut request = [0; 1];
        for _ in 0..REQUESTS {
            stream.read_exact(&mut request).unwrap();
            stream.write_all(&request).unwrap();
        }
    };
    let took = shores
        .talk(answering, |address| {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.set_nodelay(true).unwrap();
            let begun = Instant::now();
            for _ in 0..REQUESTS {
                stream.write_all(b"x").unwrap();
            }
            stream.read_exact(&mut [0; REQUESTS]).unwrap();
            begun.elapsed()
        })
        .await;
    // One after the other they would take 40 s. A TCP window that opens needs some round trips.
    assert!((ROUND_TRIP..ROUND_TRIP * 10).contains(&took), "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn much_data_is_delayed_and_not_slowed_down() {
    const LENGTH: usize = 40 << 20;
    let shores = Shores::make().await;
    let sending = |mut stream: TcpStream| stream.write_all(&vec![7; LENGTH]).unwrap();
    let took = shores
        .talk(sending, |address| {
            let mut stream = TcpStream::connect(address).unwrap();
            let begun = Instant::now();
            let mut data = Vec::new();
            stream.read_to_end(&mut data).unwrap();
            assert_eq!(data.len(), LENGTH);
            begun.elapsed()
        })
        .await;
    // If each packet waited for the one before it, this would take half an hour.
    assert!(took < Duration::from_secs(20), "{took:?}");
}
