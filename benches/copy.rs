//! Measures how fast the copy reads a source and writes it to a master, how far it is behind an app that writes, how much memory it takes,
//! and what MONITOR takes from the source. Both servers and the tunnel are on loopback, and share the computer with it.
//!
//!     cargo bench --bench copy -- [keys] [--rounds N] [--report FILE]
//!
//! The source speaks TLS. It is measured near, 20 ms away, with large values, with one string and one hash of 512 MB, and while an app writes
//! 2,000 and 5,000 times a second, and with small keys that all expire. Its peer is `redis-cli --pipe`, which only writes what was dumped before. With a file, the figures of each run are written there as JSON.

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
/// The rate of a copy that nobody waits for, so that the sweep that is asked for has everything to write.
const SLOW: u64 = 65_536;
/// The usual rate of the copy.
const USUAL: u64 = 8 << 20;
/// How long an app writes while the lag is measured, and how often that is looked at.
const WRITING: Duration = Duration::from_secs(10);
const BEAT: Duration = Duration::from_millis(100);
/// Keys that the app writes, and how long their values are.
const WRITTEN_KEYS: u64 = 100_000;
const WRITTEN_BYTES: usize = 100;
/// Commands by which the cost of MONITOR is measured.
const COMMANDS: usize = 300_000;

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
        // The wrapper of a test's processes has a working folder of its own.
        for (setting, name) in [
            ("--tls-cert-file", "chain.pem"),
            ("--tls-key-file", "key.pem"),
            ("--unixsocket", "socket"),
        ] {
            command.arg(setting).arg(path(name));
        }
        let process = Ended(processes::spawn(&mut command, &path("redis.log")));
        let end = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(("127.0.0.1", port)).is_err() || !path("socket").exists() {
            if Instant::now() > end {
                return Err(std::fs::read_to_string(path("redis.log"))?.into());
            }
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

    /// Adds so many small keys of one type, each of which expires in a day or so.
    fn fill_expiring(&self, keys: usize, kind: Kind) -> Outcome<()> {
        let mut connection = self.connection()?;
        for from in (0..keys).step_by(1000) {
            let mut batch = redis::pipe();
            for key in from..keys.min(from + 1000) {
                let name = format!("key:{key:09}");
                match kind {
                    Kind::String => batch.cmd("SET").arg(&name).arg(format!("{key:032}")).ignore(),
                    Kind::Hash => batch
                        .cmd("HSET")
                        .arg(&name)
                        .arg("field")
                        .arg(format!("{key:024}"))
                        .ignore(),
                };
                batch.cmd("PEXPIRE").arg(&name).arg(86_400_000 + key).ignore();
            }
            batch.exec(&mut connection)?;
        }
        Ok(())
    }

    /// Adds so many strings of `length` bytes.
    fn fill(&self, keys: usize, length: usize) -> Outcome<()> {
        let mut connection = self.connection()?;
        let filling = "0".repeat(length.saturating_sub(9));
        for from in (0..keys).step_by(1000) {
            let mut batch = redis::pipe();
            for key in from..keys.min(from + 1000) {
                batch
                    .cmd("SET")
                    .arg(format!("key:{key:09}"))
                    .arg(format!("{filling}{key:09}"))
                    .ignore();
            }
            batch.exec(&mut connection)?;
        }
        Ok(())
    }
}

/// A type of keys.
#[derive(Clone, Copy)]
enum Kind {
    String,
    Hash,
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

/// A tunnel to a source.
struct Tunnel {
    _process: Ended,
    port: u16,
}

impl Tunnel {
    /// Leads to this port of the source.
    fn to(source: &Redis, port: u16, folder: &Path) -> Outcome<Tunnel> {
        let listen = free_port();
        let mut tunnel = Command::new(agent());
        tunnel.args(["tunnel", "--host", "127.0.0.1", "--port", &port.to_string()]);
        tunnel.args(["--trust", &source.pin, "--listen", &format!("127.0.0.1:{listen}")]);
        tunnel.arg("--status").arg(folder.join("tunnel.json"));
        let process = Ended(processes::spawn(&mut tunnel, &folder.join("log")));
        while TcpStream::connect(("127.0.0.1", listen)).is_err() {
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(Tunnel {
            _process: process,
            port: listen,
        })
    }
}

/// A running copy with its tunnel.
struct Copying {
    process: Ended,
    _tunnel: Tunnel,
    folder: tempfile::TempDir,
}

impl Copying {
    /// Copies over TLS, to an empty master.
    fn start(source: &Redis, target: &Redis, port: u16, rate: u64) -> Outcome<Copying> {
        target.clear()?;
        let folder = tempfile::tempdir()?;
        let path = |name: &str| folder.path().join(name);
        let tunnel = Tunnel::to(source, port, folder.path())?;
        write(path("source"), "")?;
        write(path("master"), "")?;
        let engine = UnixStream::connect(target.folder.path().join("socket"))?;
        let mut copy = Command::new(agent());
        copy.args(["copy", "--host", "127.0.0.1", "--port", &tunnel.port.to_string()]);
        copy.args(["--rate", &rate.to_string(), "--logins"]).arg(folder.path());
        copy.arg("--home")
            .arg(path("home"))
            .arg("--control")
            .arg(path("control"));
        copy.arg("--status")
            .arg(path("status.json"))
            .stdin(Stdio::from(OwnedFd::from(engine)));
        let process = Ended(copy.stderr(File::create(path("copy.log"))?).spawn()?);
        while !path("control").exists() {
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(Copying {
            process,
            _tunnel: tunnel,
            folder,
        })
    }

    /// Asks for a sweep, or for less with an option.
    fn sweep(&self, options: &[&str]) -> Outcome<Value> {
        let asked = Command::new(agent())
            .arg("sweep")
            .arg("--control")
            .arg(self.folder.path().join("control"))
            .args(options)
            .output()?;
        if !asked.status.success() {
            return Err(format!("the sweep failed: {}", String::from_utf8_lossy(&asked.stderr)).into());
        }
        Ok(serde_json::from_slice(&asked.stdout)?)
    }
}

/// Copies everything once.
fn measure(source: &Redis, target: &Redis, port: u16) -> Outcome<Measured> {
    let copying = Copying::start(source, target, port, SLOW)?;
    let report = copying.sweep(&[])?;
    let (keys, ms) = (report["keys"].as_f64(), report["ms"].as_f64());
    let seconds = ms.ok_or("no `ms`")? / 1000.0;
    if report["refused"] != 0 {
        return Err(format!("keys were refused: {report}").into());
    }
    Ok(Measured {
        keys_per_s: (keys.ok_or("no `keys`")? / seconds).round(),
        seconds,
        peak_mb: peak_mb(copying.process.0.id())?,
    })
}

/// Returns how many milliseconds a write takes at most until it is on the master, while an app writes so often in a second.
fn lag(source: &Redis, target: &Redis, rate: u64) -> Outcome<f64> {
    source.clear()?;
    source.fill(10_000, WRITTEN_BYTES)?;
    let copying = Copying::start(source, target, source.tls_port, USUAL)?;
    while copying.sweep(&["--look"])?["watch"]["whole"] != true {
        std::thread::sleep(BEAT);
    }
    let (mut app, mut beat, mut master) = (source.connection()?, source.connection()?, target.connection()?);
    let value = "v".repeat(WRITTEN_BYTES);
    let begun = Instant::now();
    let writing = std::thread::spawn(move || -> redis::RedisResult<u64> {
        let mut number = 0;
        while begun.elapsed() < WRITING {
            let due = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX) * rate / 1000;
            let mut batch = redis::pipe();
            for at in number..due {
                let key = at.wrapping_mul(7919) % WRITTEN_KEYS;
                batch.cmd("SET").arg(format!("key:{key}")).arg(&value).ignore();
            }
            if due > number {
                batch.exec(&mut app)?;
            }
            number = due;
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(number)
    });
    let mut longest = Duration::ZERO;
    for number in 1_u64.. {
        if begun.elapsed() >= WRITING {
            break;
        }
        let written = Instant::now();
        redis::cmd("SET").arg("beat").arg(number).exec(&mut beat)?;
        while redis::cmd("GET").arg("beat").query::<Option<u64>>(&mut master)? != Some(number) {
            std::thread::sleep(Duration::from_millis(2));
        }
        longest = longest.max(written.elapsed());
        std::thread::sleep(BEAT);
    }
    let written = writing.join().map_err(|_| "the app ended")??;
    if written < rate * WRITING.as_secs() * 9 / 10 {
        return Err(format!("the app wrote {written} times, and should have written {rate} times a second").into());
    }
    Ok((longest.as_secs_f64() * 1000.0).round())
}

/// Returns by how many microseconds of the source's processor MONITOR makes a command dearer, and how many bytes it sends for one.
fn monitor(source: &Redis) -> Outcome<(f64, f64)> {
    source.clear()?;
    let folder = tempfile::tempdir()?;
    let tunnel = Tunnel::to(source, source.tls_port, folder.path())?;
    let alone = commands(source)?;
    let mut line = TcpStream::connect(("127.0.0.1", tunnel.port))?;
    line.write_all(b"MONITOR\r\n")?;
    let mut shown = line.try_clone()?;
    let reading = std::thread::spawn(move || std::io::copy(&mut shown, &mut std::io::sink()));
    let watched = commands(source)?;
    std::thread::sleep(Duration::from_secs(1));
    line.shutdown(Shutdown::Both)?;
    let bytes = reading.join().map_err(|_| "MONITOR ended")?.unwrap_or_default();
    let each = |number: f64| (number / COMMANDS as f64 * 10.0).round() / 10.0;
    Ok((each((watched - alone) * 1e6), each(bytes as f64)))
}

/// Returns the seconds of processor that the source takes for some commands.
fn commands(source: &Redis) -> Outcome<f64> {
    let mut connection = source.connection()?;
    let before = processor(&mut connection)?;
    let value = "v".repeat(WRITTEN_BYTES);
    for from in (0..COMMANDS).step_by(50) {
        let mut batch = redis::pipe();
        for key in from..from + 50 {
            batch.cmd("SET").arg(format!("key:{key}")).arg(&value).ignore();
        }
        batch.exec(&mut connection)?;
    }
    Ok(processor(&mut connection)? - before)
}

fn processor(connection: &mut redis::Connection) -> Outcome<f64> {
    let text: String = redis::cmd("INFO").arg("cpu").query(connection)?;
    let number = |name: &str| -> Outcome<f64> {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        Ok(line.ok_or("no such field in INFO")?.trim().parse()?)
    };
    Ok(number("used_cpu_user")? + number("used_cpu_sys")?)
}

/// Adds a string and a hash of 512 MB each.
fn fill_huge(source: &Redis) -> Outcome<()> {
    let mut connection = source.connection()?;
    let mut ending = redis::cmd("SETRANGE");
    ending.arg("huge").arg(HUGE_BYTES - 1).arg("x").exec(&mut connection)?;
    for from in (0..HUGE_BYTES / 1024).step_by(1024) {
        let mut fields = redis::cmd("HSET");
        fields.arg("hash");
        for field in from..from + 1024 {
            fields.arg(format!("field:{field}")).arg(format!("{field:0>960}"));
        }
        fields.exec(&mut connection)?;
    }
    Ok(())
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
    let (mut expiring_strings, mut expiring_hashes) = (Vec::new(), Vec::new());
    let (mut lags, mut busy_lags, mut costs, mut sizes) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        source.clear()?;
        source.fill(keys, 32)?;
        let near = measure(&source, &target, source.tls_port)?;
        let away = measure(&source, &target, far)?;
        let pipe = peer(&source, &target, keys, &file)?;
        source.clear()?;
        source.fill(LARGE_KEYS, LARGE_BYTES)?;
        let large = measure(&source, &target, source.tls_port)?;
        let mut expiring = Vec::new();
        for kind in [Kind::String, Kind::Hash] {
            source.clear()?;
            source.fill_expiring(keys, kind)?;
            expiring.push(measure(&source, &target, source.tls_port)?.keys_per_s);
        }
        let rate = (LARGE_KEYS * LARGE_BYTES) as f64 / f64::from(1 << 20) / large.seconds;
        source.clear()?;
        fill_huge(&source)?;
        let huge = measure(&source, &target, source.tls_port)?;
        let (usual, busy) = (lag(&source, &target, 2000)?, lag(&source, &target, 5000)?);
        let (cost, size) = monitor(&source)?;
        let peak = [near.peak_mb, away.peak_mb, large.peak_mb, huge.peak_mb]
            .into_iter()
            .fold(0.0, f64::max);
        println!(
            "{keys} keys: {:.0} a second, {:.0} from 20 ms away, {:.0} of strings that expire, {:.0} of hashes that expire; redis-cli --pipe writes {pipe:.0}; {rate:.0} MB a second; \
             two keys of 512 MB in {:.1} s; peak {peak:.0} MB; {usual:.0} ms behind at 2,000 writes a second, {busy:.0} ms at 5,000; \
             MONITOR takes {cost} µs and {size} bytes a command",
            near.keys_per_s, away.keys_per_s, expiring[0], expiring[1], huge.seconds
        );
        near_rates.push(near.keys_per_s);
        far_rates.push(away.keys_per_s);
        expiring_strings.push(expiring[0]);
        expiring_hashes.push(expiring[1]);
        peers.push(pipe);
        megabytes.push(rate.round());
        peaks.push(peak);
        lags.push(usual);
        busy_lags.push(busy);
        costs.push(cost);
        sizes.push(size);
    }
    if let Some(report) = report {
        let figures = json!({
            "copy_keys_per_s": near_rates, "copy_far_keys_per_s": far_rates,
            "copy_expiring_keys_per_s": expiring_strings, "copy_expiring_hashes_per_s": expiring_hashes, "copy_pipe_keys_per_s": peers,
            "copy_mb_per_s": megabytes, "copy_peak_mb": peaks,
            "copy_lag_ms": lags, "copy_busy_lag_ms": busy_lags, "monitor_us_per_command": costs, "monitor_bytes_per_command": sizes,
        });
        std::fs::write(report, figures.to_string())?;
    }
    Ok(())
}
