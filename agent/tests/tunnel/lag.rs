//! How much later bytes arrive through the tunnel than without it, at 20 MB a second.

use super::peer::{BOTH, chain, listen, serve};
use super::rig::{Tunnel, pin, shown};
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, StreamOwned};
use sandbox::addon::{Shown, Tls};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};
use trust::{Digest, Trust};

const CHUNK: usize = 16 << 10;
const CHUNKS_A_SECOND: u32 = 20_000_000 / (CHUNK as u32);
const SECONDS: u32 = 3;
/// The most that the tunnel may add.
const MOST: Duration = Duration::from_millis(5);

/// Returns the median and the 99th percentile of the lag of all chunks.
fn lag(from: &mut impl Read, epoch: Instant) -> (Duration, Duration) {
    let mut chunk = vec![0; CHUNK];
    let mut lags: Vec<Duration> = (0..CHUNKS_A_SECOND * SECONDS)
        .map(|_| {
            from.read_exact(&mut chunk).unwrap();
            let stamp = u64::from_be_bytes(chunk[..8].try_into().unwrap());
            epoch.elapsed().saturating_sub(Duration::from_nanos(stamp))
        })
        .collect();
    lags.sort_unstable();
    (lags[lags.len() / 2], lags[lags.len() * 99 / 100])
}

fn directly(port: u16, shown: &Shown) -> impl Read {
    let config = Trust::Pin(Digest::of(&chain(shown)[0])).client_config().unwrap();
    let name = ServerName::try_from("127.0.0.1").unwrap();
    let connection = ClientConnection::new(Arc::new(config), name).unwrap();
    let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let mut stream = StreamOwned::new(connection, stream);
    stream.flush().unwrap();
    stream
}

#[test]
fn less_than_5_ms_are_added_at_20_mb_a_second() {
    let shown = shown(Tls::On);
    let epoch = Instant::now();
    let port = serve(listen(), &shown, &BOTH, move |mut session| {
        let mut chunk = vec![b'x'; CHUNK];
        let begun = Instant::now();
        for number in 0..CHUNKS_A_SECOND * SECONDS {
            let due = begun + Duration::from_secs(1) * number / CHUNKS_A_SECOND;
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            let stamp = u64::try_from(epoch.elapsed().as_nanos()).unwrap();
            chunk[..8].copy_from_slice(&stamp.to_be_bytes());
            if session.write_all(&chunk).and_then(|()| session.flush()).is_err() {
                return;
            }
        }
    });
    let tunnel = Tunnel::start("127.0.0.1", port, &pin(&shown));
    // Others use this computer too: the best of three counts.
    let added = (0..3)
        .map(|_| {
            let without = lag(&mut directly(port, &shown), epoch);
            let with = lag(&mut tunnel.connect(), epoch);
            println!("median and 99th percentile: {with:?} with the tunnel, {without:?} without");
            with.0.saturating_sub(without.0)
        })
        .min()
        .unwrap();
    assert!(added < MOST, "the tunnel adds {added:?}");
}
