//! The end of a log after a power loss: zeros, where the file's length reached the disk and its
//! content did not. No engine loads a log that ends like this.

use super::host::{Host, settings, source};
use infra::effects::host::{AppAccess, Position};
use sandbox::addon::{Engine, Program};
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;

const ZEROS: [usize; 4] = [1, 100, 1025, (2 << 20) + 7];
/// A command whose value is torn: 95 bytes of it and its line end are missing.
const TORN: &[u8] = b"*3\r\n$3\r\nSET\r\n$1\r\nb\r\n$100\r\nhello";
const OPEN_TRANSACTION: &[u8] = b"*1\r\n$5\r\nMULTI\r\n*3\r\n$3\r\nSET\r\n$1\r\nb\r\n$1\r\n1\r\n";

fn tails() -> Vec<Vec<u8>> {
    let mut tails: Vec<Vec<u8>> = ZEROS.map(|count| vec![0; count]).into();
    // With 97 zeros the engine would take the zeros for the value, and with 98 refuse the log.
    tails.extend([40, 97, 98, 5000].map(|count| [TORN, &vec![0; count]].concat()));
    tails.push(TORN.to_vec());
    tails.push([OPEN_TRANSACTION, &[0; 3000]].concat());
    tails
}

fn program(engine: Engine) -> Program {
    let paths = sandbox::paths::Paths::from_environment().unwrap();
    engine.ensure(&paths, &|line| eprintln!("{line}")).unwrap()
}

fn start(host: &mut Host, program: &Program) {
    host.start_by(program.command().unwrap().into_std());
}

/// Returns the increment that the engine writes.
fn increment(host: &Host) -> PathBuf {
    let manifest = host.text("data/appendonlydir/appendonly.aof.manifest");
    let last = manifest.lines().rfind(|line| line.contains("type i")).unwrap();
    let name = last.split(' ').nth(1).unwrap();
    host.path("data/appendonlydir").join(name)
}

fn append(host: &Host, bytes: &[u8]) {
    let mut log = std::fs::File::options().append(true).open(increment(host)).unwrap();
    log.write_all(bytes).unwrap();
}

/// Returns a host with an agent, whose engine has written a key and ended.
fn master(program: &Program) -> Host {
    let mut host = Host::with(&settings(Position::Master, AppAccess::Open).describe().unwrap());
    host.add_agent();
    assert!(host.guard().0);
    start(&mut host, program);
    host.ask(&["CONFIG", "SET", "appendfsync", "always"]);
    assert_eq!(host.ask(&["SET", "a", "1"]), "OK");
    host.crash();
    host
}

fn copies(host: &Host) -> Vec<PathBuf> {
    let folder = std::fs::read_dir(host.path("agent/cut-off"));
    let entries = folder.into_iter().flatten();
    entries.map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn a_log_with_any_end_of_a_power_loss_is_cut_and_loads_with_all_that_was_whole() {
    for engine in [Engine::Redis8, Engine::Valkey8] {
        let program = program(engine);
        let mut host = master(&program);
        for tail in tails() {
            let whole = std::fs::read(increment(&host)).unwrap();
            append(&host, &tail);
            let (allowed, said) = host.guard();
            assert!(allowed, "{engine:?}, {} bytes: {said}", tail.len());
            assert_eq!(std::fs::read(increment(&host)).unwrap(), whole, "{engine:?}");
            let copies = copies(&host);
            assert_eq!(copies.len(), 1, "{copies:?}");
            assert_eq!(std::fs::read(&copies[0]).unwrap(), tail, "{engine:?}");
            std::fs::remove_file(&copies[0]).unwrap();
        }
        append(&host, &[0; 5000]);
        assert!(host.guard().0);
        start(&mut host, &program);
        assert_eq!(host.ask(&["GET", "a"]), "1", "{engine:?}");
        assert_eq!(host.ask(&["EXISTS", "b"]), "0", "{engine:?}");
        assert_eq!(host.ask(&["SET", "c", "1"]), "OK");
        host.crash();
        assert!(host.guard().0);
        start(&mut host, &program);
        assert_eq!(host.ask(&["GET", "c"]), "1", "{engine:?}");
    }
}

/// The reason for the cut: the engines themselves do not do it.
#[test]
fn an_engine_alone_refuses_zeros_or_takes_them_for_a_value() {
    for engine in [Engine::Redis8, Engine::Valkey8] {
        let program = program(engine);
        let mut host = master(&program);
        append(&host, &[0; 5000]);
        let mut server: Command = program.command().unwrap().into_std();
        let output = server.arg(host.path("etc/redis/redis.conf")).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(!output.status.success() && said.contains("Bad file format"), "{said}");
        assert!(host.guard().0);
        append(&host, &[TORN, &[0; 97]].concat());
        start(&mut host, &program);
        assert!(host.ask(&["GET", "b"]).starts_with("hello"), "{engine:?}");
    }
}

#[test]
fn a_follower_with_zeros_at_the_end_of_its_log_starts_too() {
    let program = program(Engine::Redis8);
    let mut host = Host::with(&settings(source(), AppAccess::Closed).describe().unwrap());
    host.add_agent();
    start(&mut host, &program);
    host.crash();
    append(&host, &[0; 5000]);
    assert!(host.guard().0);
    start(&mut host, &program);
    assert!(host.ask(&["ROLE"]).starts_with("slave"));
}

#[test]
fn a_log_that_is_damaged_before_its_end_is_refused_with_the_way_out() {
    let program = program(Engine::Redis8);
    let host = master(&program);
    append(&host, &[&[0; 5000][..], b"*1\r\n$4\r\nPING\r\n"].concat());
    let damaged = std::fs::read(increment(&host)).unwrap();
    let (allowed, said) = host.guard();
    assert!(!allowed && said.contains("cannot be read at byte"), "{said}");
    let refused = host.text("refused");
    assert!(
        refused.contains("put the data back") && refused.lines().count() == 1,
        "{refused}"
    );
    assert_eq!(std::fs::read(increment(&host)).unwrap(), damaged, "nothing was cut");
    assert!(copies(&host).is_empty());
    let follower = Host::with(&settings(source(), AppAccess::Closed).describe().unwrap());
    std::fs::copy(follower.path("etc/redis/redis.conf"), host.path("etc/redis/redis.conf")).unwrap();
    let (allowed, said) = host.guard();
    assert!(!allowed && said.contains("appendonlydir aside"), "{said}");
}

#[test]
fn only_the_newest_copies_of_what_was_cut_are_kept() {
    let program = program(Engine::Redis8);
    let host = master(&program);
    for count in 1..=12 {
        append(&host, &[OPEN_TRANSACTION, &vec![0; count]].concat());
        assert!(host.guard().0);
    }
    let mut lengths: Vec<u64> = copies(&host)
        .iter()
        .map(|path| path.metadata().unwrap().len())
        .collect();
    lengths.sort_unstable();
    let open = OPEN_TRANSACTION.len() as u64;
    assert_eq!(lengths, (5..=12).map(|count| open + count).collect::<Vec<_>>());
}
