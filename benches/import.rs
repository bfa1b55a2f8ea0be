//! Measures how many rows a second an import writes and compares, and how much memory that takes, with PostgreSQL and
//! Redis on loopback, which share the computer with it.
//!
//!     cargo bench --bench import -- [rows] [--rounds N] [--report FILE]
//!
//! With a file, the figures of each run are written there as JSON.

use serde_json::json;
use std::error::Error;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use testkit::postgres::Postgres;
use testkit::{free_port, processes, programs};

type Outcome<T> = Result<T, Box<dyn Error>>;

const MAPPING: &str = "source: {url_env: DATABASE_URL}
target: {redis: hosted}
limits: {rows_per_s: unlimited}
tables:
- {table: markers, key: 'marker:{{ user_id }}', type: string, value: status}
";
const CONFIG: &str = "name: demo
region: us-east-1
source: {url_env: REDIS_URL}
app: {platform: command, name: demo, commands: {read: 'true', set: 'true', verify: 'true'}}
";

/// What one command took.
struct Measured {
    seconds: f64,
    /// The most resident memory, in MB.
    peak_mb: f64,
}

struct Redis {
    process: Child,
    port: u16,
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Redis {
    fn start(folder: &Path) -> Outcome<Redis> {
        let port = free_port();
        let mut command = Command::new("redis-server");
        command.args(["--bind", "127.0.0.1", "--save", "", "--port", &port.to_string()]);
        let process = processes::spawn(command.current_dir(folder), &folder.join("redis.log"));
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(Redis { process, port })
    }

    fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    fn clear(&self) -> Outcome<()> {
        let mut connection = redis::Client::open(self.url())?.get_connection()?;
        Ok(redis::cmd("FLUSHALL").exec(&mut connection)?)
    }
}

/// Runs a verb of `infra import`, and looks at its memory while it runs.
fn measure(folder: &Path, postgres: &Postgres, redis: &Redis, verb: &str) -> Outcome<Measured> {
    let begun = Instant::now();
    let mut running = Command::new(programs::built("infra"))
        .args(["import", verb])
        .current_dir(folder)
        .env("DATABASE_URL", postgres.url())
        .env("REDIS_URL", redis.url())
        .env("SSL_CERT_FILE", folder.join("root.pem"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let status = format!("/proc/{}/status", running.id());
    let mut peak_kb: f64 = 0.0;
    loop {
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let found = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
        peak_kb = peak_kb.max(found.unwrap_or(0.0));
        if let Some(ended) = running.try_wait()? {
            if !ended.success() {
                return Err(format!("`infra import {verb}` ended with {ended}").into());
            }
            return Ok(Measured {
                seconds: begun.elapsed().as_secs_f64(),
                peak_mb: (peak_kb / 1024.0).round(),
            });
        }
        std::thread::sleep(Duration::from_millis(10));
    }
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
    let rows: u32 = words.first().map_or(Ok(1_000_000), |text| text.parse())?;
    let postgres = Postgres::start();
    let folder = tempfile::tempdir()?;
    let redis = Redis::start(folder.path())?;
    for (name, text) in [
        ("import.yml", MAPPING),
        ("infra.yml", CONFIG),
        ("root.pem", postgres.authority()),
    ] {
        std::fs::write(folder.path().join(name), text)?;
    }
    postgres.sql(&format!(
        "CREATE TABLE markers (user_id bigint PRIMARY KEY, status text);
         INSERT INTO markers SELECT n, 'status ' || n FROM generate_series(1, {rows}) n; ANALYZE markers"
    ));
    let (mut written, mut compared, mut peaks) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        redis.clear()?;
        let run = measure(folder.path(), &postgres, &redis, "run")?;
        let verify = measure(folder.path(), &postgres, &redis, "verify")?;
        written.push((f64::from(rows) / run.seconds).round());
        compared.push((f64::from(rows) / verify.seconds).round());
        peaks.push(run.peak_mb.max(verify.peak_mb));
        println!(
            "{rows} rows: run {:.1} s and {:.0} MB, verify {:.1} s and {:.0} MB",
            run.seconds, run.peak_mb, verify.seconds, verify.peak_mb
        );
    }
    if let Some(report) = report {
        let figures = json!({
            "import_rows_per_s": written, "import_verify_rows_per_s": compared, "import_peak_mb": peaks,
        });
        std::fs::write(report, figures.to_string())?;
    }
    Ok(())
}
