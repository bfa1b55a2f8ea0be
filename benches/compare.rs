//! Measures how many keys a second a comparison reads and how much memory it takes, on two real
//! servers on loopback that share the computer with it.
//!
//!     cargo bench --bench compare -- [keys] [strings|mixed] [--report FILE]
//!
//! With a file, the figures of each run are written there as JSON, with those of redis-benchmark.

use infra::effects::redis::Server;
use infra::effects::redis::compare::{Options, compare};
use std::error::Error;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

type Outcome<T> = Result<T, Box<dyn Error>>;

struct Redis {
    process: Child,
    port: u16,
    _folder: tempfile::TempDir,
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Redis {
    fn start() -> Outcome<Redis> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let folder = tempfile::tempdir()?;
        let process = Command::new("redis-server")
            .args([
                "--port",
                &port.to_string(),
                "--bind",
                "127.0.0.1",
                "--save",
                "",
                "--logfile",
                "log",
            ])
            .args(["--enable-debug-command", "yes", "--repl-diskless-sync-delay", "0"])
            .current_dir(folder.path())
            .stdout(Stdio::null())
            .spawn()?;
        let redis = Redis {
            process,
            port,
            _folder: folder,
        };
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(redis)
    }

    fn server(&self, label: &str) -> Server {
        Server {
            label: label.into(),
            host: "127.0.0.1".into(),
            port: self.port,
            user: None,
            password: None,
            trust: None,
        }
    }
}

/// Returns the most memory of this process that was ever resident, in MB.
fn peak_memory_mb() -> Outcome<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .ok_or("no VmHWM")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? / 1024)
}

async fn fill(server: &Server, keys: usize, mixed: bool) -> Outcome<()> {
    let mut connection = server.connect(0).await?;
    for first in (0..keys).step_by(1000) {
        let mut commands = redis::pipe();
        for at in first..first + 1000 {
            let key = format!("key:{at:09}");
            match (mixed, at % 5) {
                (true, 1) => commands.cmd("HSET").arg(key).arg("name").arg(at).arg("count").arg(at),
                (true, 2) => commands.cmd("SADD").arg(key).arg(at).arg("b").arg("c"),
                (true, 3) => commands.cmd("ZADD").arg(key).arg(at).arg("a").arg(1.5).arg("b"),
                (true, 4) => commands.cmd("RPUSH").arg(key).arg(at).arg("b").arg("c"),
                (_, 0) => commands
                    .cmd("SET")
                    .arg(key)
                    .arg(format!("value:{at:040}"))
                    .arg("PX")
                    .arg(3_600_000 + at),
                _ => commands.cmd("SET").arg(key).arg(format!("value:{at:040}")),
            };
        }
        connection.ask_all(&commands).await?;
    }
    Ok(())
}

/// Returns the GETs a second of redis-benchmark, with as many in flight as a comparison has.
fn read_limit(port: u16, keys: usize) -> Outcome<f64> {
    let output = Command::new("redis-benchmark")
        .args([
            "-p",
            &port.to_string(),
            "-c",
            "4",
            "-P",
            "500",
            "-n",
            "2000000",
            "-r",
            &keys.to_string(),
        ])
        .args(["--csv", "GET", "key:__rand_int__"])
        .output()?;
    let text = String::from_utf8(output.stdout)?;
    let line = text.lines().last().ok_or("redis-benchmark said nothing")?;
    let field = line.split(',').nth(1).ok_or("redis-benchmark said no rate")?;
    Ok(field.trim_matches('"').parse()?)
}

#[tokio::main(worker_threads = 2)]
async fn main() -> Outcome<()> {
    let mut words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let report = words.iter().position(|word| word == "--report").map(|at| {
        words.remove(at);
        words.remove(at)
    });
    let keys: usize = words.first().map_or(Ok(2_000_000), |text| text.parse())?;
    let mixed = words.get(1).is_some_and(|kind| kind == "mixed");
    let (one, two) = (Redis::start()?, Redis::start()?);
    let (source, target) = (one.server("source"), two.server("target"));
    fill(&source, keys, mixed).await?;
    let mut connection = target.connect(0).await?;
    connection
        .query::<()>(redis::cmd("REPLICAOF").arg("127.0.0.1").arg(one.port))
        .await?;
    while connection.info().await?.keys() < keys as u64 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    connection
        .query::<()>(redis::cmd("REPLICAOF").arg("NO").arg("ONE"))
        .await?;
    let (mut rates, mut limits, mut peaks) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..3 {
        let begun = Instant::now();
        let (source, target) = (source.clone(), target.clone());
        let options = Options::default();
        let comparison = tokio::spawn(async move { compare(&source, &target, &options, |_| {}).await }).await??;
        let seconds = begun.elapsed().as_secs_f64();
        if !comparison.identical() {
            return Err("the two servers are not identical".into());
        }
        rates.push((comparison.compared as f64 / seconds).round());
        peaks.push(peak_memory_mb()?);
        limits.push(read_limit(one.port, keys)?);
        println!(
            "{} keys, {seconds:.2} s, {:.0} keys a second, peak {} MB; redis-benchmark reads {:.0}",
            comparison.compared,
            rates.last().unwrap_or(&0.0),
            peaks.last().unwrap_or(&0),
            limits.last().unwrap_or(&0.0)
        );
    }
    if let Some(report) = report {
        let figures = serde_json::json!({
            "verify_keys_per_s": rates, "read_limit_keys_per_s": limits, "verify_peak_mb": peaks,
        });
        std::fs::write(report, figures.to_string())?;
    }
    Ok(())
}
