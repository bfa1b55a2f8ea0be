//! How bytes flow: a slow reader, a half that closes, and many connections.

use super::peer::{BOTH, listen, serve};
use super::redis::Redis;
use super::rig::{Tunnel, pin, shown, until};
use infra_agent::record::Obstacle;
use sandbox::addon::{Engine, Tls};
use std::io::{Read, Write};
use std::net::Shutdown;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const CHUNK: usize = 64 << 10;
/// Much more than the kernel's buffers on the way take.
const ALL: u64 = 128 << 20;
/// The most that the tunnel may grow by in KiB while nobody reads: its buffers, and some slack.
const GROWTH: u64 = 1024;

/// Waits until the counter has not moved for half a second, and returns it.
fn stalled(counter: &AtomicU64) -> u64 {
    let mut last = (counter.load(Ordering::SeqCst), Instant::now());
    until("nothing moves any more", || {
        let now = counter.load(Ordering::SeqCst);
        if now != last.0 {
            last = (now, Instant::now());
        }
        now > 0 && last.1.elapsed() > Duration::from_millis(500)
    });
    last.0
}

/// Waits for the end of the connection by which the rig saw it listen. Returns the peak of its memory.
fn warmed_up(tunnel: &Tunnel) -> u64 {
    until("the first connection is gone", || {
        let status = tunnel.status();
        status.opened == 1 && status.connected_since.is_none()
    });
    tunnel.memory("VmHWM")
}

#[test]
fn a_reader_that_stalls_stops_the_source_and_costs_no_memory() {
    let shown = shown(Tls::On);
    let sent = Arc::new(AtomicU64::new(0));
    let count = sent.clone();
    let port = serve(listen(), &shown, &BOTH, move |mut session| {
        let chunk = vec![b'x'; CHUNK];
        let mut own = 0;
        while own < ALL && session.write_all(&chunk).is_ok() {
            own += CHUNK as u64;
            count.store(own, Ordering::SeqCst);
        }
        session.conn.send_close_notify();
        let _ = session.flush();
        let _ = session.sock.shutdown(Shutdown::Write);
        let _ = session.read(&mut [0; 1]);
    });
    let tunnel = Tunnel::start("127.0.0.1", port, &pin(&shown));
    let before = warmed_up(&tunnel);
    let mut client = tunnel.connect();
    let waiting = stalled(&sent);
    assert!(waiting < ALL / 2, "{waiting} bytes went on while nobody read");
    let grown = tunnel.memory("VmHWM").saturating_sub(before);
    assert!(grown < GROWTH, "grew by {grown} KiB");

    let mut bytes = vec![0; CHUNK];
    let mut all = 0;
    loop {
        match client.read(&mut bytes).unwrap() {
            0 => break,
            length => all += length as u64,
        }
    }
    assert_eq!(all, ALL);
    let grown = tunnel.memory("VmHWM").saturating_sub(before);
    assert!(grown < GROWTH, "grew by {grown} KiB");
}

#[test]
fn a_source_that_stalls_stops_the_client_and_costs_no_memory() {
    let shown = shown(Tls::On);
    let port = serve(listen(), &shown, &BOTH, |mut session| {
        if session.read(&mut [0; 1]).is_ok_and(|length| length > 0) {
            std::thread::sleep(Duration::from_secs(60));
        }
    });
    let tunnel = Tunnel::start("127.0.0.1", port, &pin(&shown));
    let before = warmed_up(&tunnel);
    let mut client = tunnel.connect();
    let sent = Arc::new(AtomicU64::new(0));
    let count = sent.clone();
    std::thread::spawn(move || {
        let chunk = vec![b'x'; CHUNK];
        while count.load(Ordering::SeqCst) < ALL && client.write_all(&chunk).is_ok() {
            count.fetch_add(CHUNK as u64, Ordering::SeqCst);
        }
    });
    let waiting = stalled(&sent);
    assert!(waiting < ALL / 2, "{waiting} bytes went on while nobody read");
    let grown = tunnel.memory("VmHWM").saturating_sub(before);
    assert!(grown < GROWTH, "grew by {grown} KiB");
}

#[test]
fn a_half_that_closes_leaves_the_other_half_open() {
    let shown = shown(Tls::On);
    let port = serve(listen(), &shown, &BOTH, |mut session| {
        let mut all = Vec::new();
        if session.read_to_end(&mut all).is_ok() && !all.is_empty() {
            all.make_ascii_uppercase();
            session.write_all(&all).unwrap();
            session.conn.send_close_notify();
            session.flush().unwrap();
        }
    });
    let tunnel = Tunnel::start("127.0.0.1", port, &pin(&shown));
    let mut client = tunnel.connect();
    let all = vec![b'a'; 3 << 20];
    client.write_all(&all).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut back = Vec::new();
    client.read_to_end(&mut back).unwrap();
    assert_eq!(back.len(), all.len());
    assert!(back.iter().all(|byte| *byte == b'A'));
    until("both halves are closed", || tunnel.status().connected_since.is_none());
    assert_eq!(tunnel.status().trouble, None);
}

#[test]
fn a_source_that_breaks_off_is_reported_and_the_client_is_let_go() {
    let shown = shown(Tls::On);
    let source = Redis::tls(Engine::Redis7, &shown, &shown.chain, &[]);
    let tunnel = Tunnel::start("127.0.0.1", source.port, &pin(&shown));
    let mut client = tunnel.connect();
    assert_eq!(super::rig::ask(&mut client, "PING"), "+PONG");
    drop(source);
    assert_eq!(client.read(&mut [0; 1]).unwrap_or(0), 0);
    until("the end is reported", || tunnel.status().trouble.is_some());
    let trouble = tunnel.status().trouble.unwrap();
    assert_eq!(trouble.obstacle, Obstacle::Ended, "{trouble:?}");
}

#[test]
fn a_thousand_connections_leave_nothing_behind() {
    let shown = shown(Tls::On);
    let source = Redis::tls(Engine::Redis7, &shown, &shown.chain, &[]);
    let tunnel = Tunnel::start("127.0.0.1", source.port, &pin(&shown));
    let connect = |times: usize| {
        for _ in 0..times {
            assert_eq!(tunnel.ask("PING"), "+PONG");
        }
        until("all connections are gone", || tunnel.holdings().1 == 2);
    };
    connect(50);
    let (before, memory) = (tunnel.holdings(), tunnel.memory("VmRSS"));
    connect(1000);
    assert_eq!(tunnel.holdings(), before);
    let grown = tunnel.memory("VmRSS").saturating_sub(memory);
    assert!(grown < GROWTH, "grew by {grown} KiB");
    assert!(tunnel.status().opened >= 1050);
}
