//! Measures how fast the copy reads a source and writes it to a master, and how much memory that takes, with both servers
//! and the tunnel on loopback, which share the computer with it.
//!
//!     cargo bench --bench copy -- [keys] [--rounds N] [--report FILE]
//!
//! The source speaks TLS. It is measured near, 20 ms away, with large values, and with one key of 512 MB. Its peer is
//! `redis-cli --pipe`, which only writes what was dumped before. With a file, the figures of each run are written there as JSON.

use sandbox::addon::{Tls, make_certificate};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::error::Error;
use std::fs::{File, write};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};
use testkit::{free_port, processes, programs};

type Outcome<T> = Result<T, Box<dyn Error>>;

/// A round trip to a source on the same continent.
const FAR: Duration = Duration::from_millis(20);
const LARGE_KEYS: usize = 4_000;
const LARGE_BYTES: usize = 100_000;
const HUGE_BYTES: u64 = 512 << 20;

/// A process that ends with this one.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

struct Redis {
    _process: Ended,
    port: u16,
    tls_port: u16,
    folder: tempfile::TempDir,
    pin: String,
}

impl Redis {
    fn start() -> Outcome<Redis> {
        let folder = tempfile::tempdir()?;
        let shown = make_certificate(Tls::SelfSigned, &["127.0.0.1".into()], None)?.ok_or("no certificate")?;
        let path = |name: &str| folder.path().join(name);
        write(path("chain.pem"), &shown.chain)?;
        write(path("key.pem"), &shown.key)?;
        let (port, tls_port) = (free_port(), free_port());
        let mut command = Command::new("redis-server");
        command.args(["--bind", "127.0.0.1", "--save", "", "--port", &port.to_string()]);
        command.args(["--tls-port", &tls_port.to_string(), "--tls-auth-clients", "no"]);
        command.args([
            "--tls-cert-file",
            "chain.pem",
            "--tls-key-file",
            "key.pem",
            "--unixsocket",
            "socket",
        ]);
        let process = Ended(processes::spawn(command.current_dir(folder.path()), &path("redis.log")));
        while TcpStream::connect(("127.0.0.1", port)).is_err() || !path("socket").exists() {
            std::thread::sleep(Duration::from_millis(10));
        }
        let leaf = shown.chain.lines().filter(|line| !line.starts_with("-----"));
        let leaf = base64::Engine::decode(&base64::prelude::BASE64_STANDARD, leaf.collect::<String>())?;
        Ok(Redis {
            _process: process,
            port,
            tls_port,
            pin: format!("sha256:{}", hex::encode(Sha256::digest(leaf))),
            folder,
        })
    }

    fn connection(&self) -> Outcome<redis::Connection> {
        Ok(redis::Client::open(format!("redis://127.0.0.1:{}", self.port))?.get_connection()?)
    }

    fn clear(&self) -> Outcome<()> {
        Ok(redis::cmd("FLUSHALL").exec(&mut self.connection()?)?)
    }

    /// Adds so many strings of `length` bytes.
    fn fill(&self, keys: usize, length: usize) -> Outcome<()> {
        let mut connection = self.connection()?;
        for from in (0..keys).step_by(1000) {
            let mut batch = redis::pipe();
            for key in from..keys.min(from + 1000) {
                batch
                    .cmd("SET")
                    .arg(format!("key:{key:09}"))
                    .arg(format!("{key:0>length$}"))
                    .ignore();
            }
            batch.exec(&mut connection)?;
        }
        Ok(())
    }
}

/// Carries bytes between a port of its own and another one, each some time later.
fn relay(port: u16, one_way: Duration) -> Outcome<u16> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let own = listener.local_addr()?.port();
    std::thread::spawn(move || {
        for near in listener.incoming().flatten() {
            let Ok(far) = TcpStream::connect(("127.0.0.1", port)) else {
                continue;
            };
            if let (Ok(here), Ok(there)) = (near.try_clone(), far.try_clone()) {
                carry(here, there, one_way);
                carry(far, near, one_way);
            }
        }
    });
    Ok(own)
}

fn carry(mut from: TcpStream, mut to: TcpStream, one_way: Duration) {
    let _ = (from.set_nodelay(true), to.set_nodelay(true));
    let (sender, under_way) = channel::<(Instant, Vec<u8>)>();
    std::thread::spawn(move || {
        let mut bytes = vec![0; 256 << 10];
        while let Ok(count @ 1..) = from.read(&mut bytes) {
            if sender
                .send((Instant::now() + one_way, bytes[..count].to_vec()))
                .is_err()
            {
                return;
            }
        }
    });
    std::thread::spawn(move || {
        for (due, bytes) in under_way {
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            if to.write_all(&bytes).is_err() {
                return;
            }
        }
        let _ = to.shutdown(Shutdown::Write);
    });
}

/// Returns the agent as it goes to hosts, or else as cargo built it.
fn agent() -> std::path::PathBuf {
    let shipped = programs::path_of(&format!("infra-agent-{}", std::env::consts::ARCH));
    if shipped.exists() {
        shipped
    } else {
        programs::built("infra-agent")
    }
}

struct Measured {
    keys_per_s: f64,
    seconds: f64,
    /// The most resident memory of the copy, in MB.
    peak_mb: f64,
}

/// Copies everything once over TLS, to an empty master.
fn measure(source: &Redis, target: &Redis, port: u16) -> Outcome<Measured> {
    target.clear()?;
    let folder = tempfile::tempdir()?;
    let path = |name: &str| folder.path().join(name);
    let listen = free_port();
    let mut tunnel = Command::new(agent());
    tunnel.args([
        "tunnel",
        "--host",
        "127.0.0.1",
        "--port",
        &port.to_string(),
        "--trust",
        &source.pin,
    ]);
    tunnel
        .args(["--listen", &format!("127.0.0.1:{listen}"), "--status"])
        .arg(path("tunnel.json"));
    let _tunnel = Ended(processes::spawn(&mut tunnel, &path("log")));
    while TcpStream::connect(("127.0.0.1", listen)).is_err() {
        std::thread::sleep(Duration::from_millis(10));
    }
    write(path("source"), "")?;
    write(path("master"), "")?;
    let engine = UnixStream::connect(target.folder.path().join("socket"))?;
    let mut copy = Command::new(agent());
    // The first sweep is slow, so that the one that is asked for has everything to write.
    copy.args([
        "copy",
        "--host",
        "127.0.0.1",
        "--port",
        &listen.to_string(),
        "--rate",
        "65536",
        "--logins",
    ]);
    copy.arg(folder.path())
        .arg("--home")
        .arg(path("home"))
        .arg("--control")
        .arg(path("control"));
    copy.arg("--status")
        .arg(path("status.json"))
        .stdin(Stdio::from(OwnedFd::from(engine)));
    let copy = Ended(copy.stderr(File::create(path("copy.log"))?).spawn()?);
    while !path("control").exists() {
        std::thread::sleep(Duration::from_millis(5));
    }
    let asked = Command::new(agent())
        .arg("sweep")
        .arg("--control")
        .arg(path("control"))
        .output()?;
    if !asked.status.success() {
        return Err(format!("the sweep failed: {}", String::from_utf8_lossy(&asked.stderr)).into());
    }
    let report: Value = serde_json::from_slice(&asked.stdout)?;
    let (keys, ms) = (report["keys"].as_f64(), report["ms"].as_f64());
    let seconds = ms.ok_or("no `ms`")? / 1000.0;
    Ok(Measured {
        keys_per_s: (keys.ok_or("no `keys`")? / seconds).round(),
        seconds,
        peak_mb: peak_mb(copy.0.id())?,
    })
}

fn peak_mb(process: u32) -> Outcome<f64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .ok_or("no VmHWM")?;
    Ok((line.trim().trim_end_matches(" kB").parse::<f64>()? / 1024.0).round())
}

/// Returns the keys a second that `redis-cli --pipe` writes of values that were dumped before.
fn peer(source: &Redis, target: &Redis, keys: usize, file: &Path) -> Outcome<f64> {
    target.clear()?;
    let mut connection = source.connection()?;
    let mut dumped = std::io::BufWriter::new(File::create(file)?);
    for from in (0..keys).step_by(1000) {
        let names: Vec<String> = (from..keys.min(from + 1000))
            .map(|key| format!("key:{key:09}"))
            .collect();
        let mut batch = redis::pipe();
        for name in &names {
            batch.cmd("DUMP").arg(name);
        }
        let values: Vec<Vec<u8>> = batch.query(&mut connection)?;
        for (name, value) in names.iter().zip(values) {
            dumped.write_all(&redis::cmd("RESTORE").arg(name).arg(0).arg(value).get_packed_command())?;
        }
    }
    dumped.flush()?;
    let begun = Instant::now();
    let port = target.port.to_string();
    let done = Command::new("redis-cli")
        .args(["-p", &port, "--pipe"])
        .stdin(File::open(file)?)
        .output()?;
    let seconds = begun.elapsed().as_secs_f64();
    if !done.status.success() {
        return Err("redis-cli --pipe failed".into());
    }
    Ok((keys as f64 / seconds).round())
}

/// Takes the value of an option out of the words.
fn option(words: &mut Vec<String>, name: &str) -> Option<String> {
    let at = words.iter().position(|word| word == name)?;
    words.remove(at);
    (at < words.len()).then(|| words.remove(at))
}

fn main() -> Outcome<()> {
    let mut words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let report = option(&mut words, "--report");
    let rounds: u32 = option(&mut words, "--rounds").map_or(Ok(3), |text| text.parse())?;
    let keys: usize = words.first().map_or(Ok(1_000_000), |text| text.parse())?;
    let (source, target) = (Redis::start()?, Redis::start()?);
    let far = relay(source.tls_port, FAR / 2)?;
    let file = source.folder.path().join("dumped");
    let (mut near_rates, mut far_rates, mut megabytes) = (Vec::new(), Vec::new(), Vec::new());
    let (mut peers, mut peaks) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        source.clear()?;
        source.fill(keys, 32)?;
        let near = measure(&source, &target, source.tls_port)?;
        let away = measure(&source, &target, far)?;
        let pipe = peer(&source, &target, keys, &file)?;
        source.clear()?;
        source.fill(LARGE_KEYS, LARGE_BYTES)?;
        let large = measure(&source, &target, source.tls_port)?;
        let rate = (LARGE_KEYS * LARGE_BYTES) as f64 / f64::from(1 << 20) / large.seconds;
        source.clear()?;
        redis::cmd("SETRANGE")
            .arg("huge")
            .arg(HUGE_BYTES - 1)
            .arg("x")
            .exec(&mut source.connection()?)?;
        let huge = measure(&source, &target, source.tls_port)?;
        let peak = [near.peak_mb, away.peak_mb, large.peak_mb, huge.peak_mb]
            .into_iter()
            .fold(0.0, f64::max);
        println!(
            "{keys} keys: {:.0} a second, {:.0} from 20 ms away; redis-cli --pipe writes {pipe:.0}; {rate:.0} MB a second; \
             512 MB in {:.1} s; peak {peak:.0} MB",
            near.keys_per_s, away.keys_per_s, huge.seconds
        );
        near_rates.push(near.keys_per_s);
        far_rates.push(away.keys_per_s);
        peers.push(pipe);
        megabytes.push(rate.round());
        peaks.push(peak);
    }
    if let Some(report) = report {
        let figures = json!({
            "copy_keys_per_s": near_rates, "copy_far_keys_per_s": far_rates, "copy_pipe_keys_per_s": peers,
            "copy_mb_per_s": megabytes, "copy_peak_mb": peaks,
        });
        std::fs::write(report, figures.to_string())?;
    }
    Ok(())
}
