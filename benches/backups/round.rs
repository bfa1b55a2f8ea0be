//! One round: the same engine at growing sizes, with and without the agent beside it.

use crate::clients::{Clients, RATE, Times};
use crate::data::Data;
use crate::figures::Figures;
use crate::pipe::Uploader;
use crate::{Outcome, process, restoring};
use infra::effects::backup::read;
use infra_agent::record::Commit;
use jiff::Timestamp;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};
use testkit::backups::{ENV, World};
use testkit::waiting::within;

/// Megabytes of data of each measurement: with clients at the first size, base speed at the last.
const SIZES_MB: [u64; 2] = [100, 600];
const RESTORED_MB: u64 = 1024;
/// The default of infra.yml.
const RPO_S: u64 = 10;
/// Pairs of runs with the agent and with a stopped one. Differences are taken pair by pair, since
/// other load on the computer changes meanwhile.
const PAIRS: usize = 9;
const WINDOW: Duration = Duration::from_secs(5);
/// Long enough for several segments: the time from the first to the last one counts.
const WITH: Duration = Duration::from_secs(45);
const BASES_PER_DAY: f64 = 24.0;

pub async fn run(figures: &mut Figures, with_restore: bool) -> Outcome<()> {
    let mut world = World::new(RPO_S).await;
    world.program = program()?;
    world.niceness = 5;
    let mut data = Data::new();

    let [small_mb, large_mb] = SIZES_MB;
    data.grow(&world, small_mb << 20)?;
    start_agent(&mut world)?;
    beside_clients(figures, &world)?;
    let pieces = pieces_per_day(&world).await?;
    with_and_without(figures, &world)?;
    let commit = base_beside_clients(figures, &world, small_mb)?;
    let objects = world.bucket.list(&format!("{}/", commit.place)).await?.len();
    figures.puts_per_day.push(pieces + BASES_PER_DAY * objects as f64);
    println!("  {pieces:.0} segments a day, {objects} objects of a base of {small_mb} MB");
    world.kill_agent();

    data.grow(&world, large_mb << 20)?;
    start_agent(&mut world)?;
    base_beside_clients(figures, &world, large_mb)?;
    against_the_pipe(figures, &world)?;
    world.kill_agent();

    if with_restore {
        data.grow(&world, RESTORED_MB << 20)?;
        start_agent(&mut world)?;
        clients(&world, Duration::from_secs(5))?;
        let written = Timestamp::now().as_second();
        within(Duration::from_secs(30), "what was written is in the bucket", || {
            world.shipped_until() > written
        });
        world.kill_agent();
        restoring::measure(figures, &world).await?;
    }
    Ok(())
}

/// Returns the agent's program as hosts get it.
fn program() -> Outcome<PathBuf> {
    let name = format!("infra-agent-{}", std::env::consts::ARCH);
    let path = Path::new(env!("CARGO_BIN_EXE_infra")).with_file_name(name);
    if !path.exists() {
        return Err(format!("{} is missing: `make agent` makes it", path.display()).into());
    }
    Ok(path)
}

/// Starts an agent without a history, so that it does not ship the filling. Waits for its base.
fn start_agent(world: &mut World) -> Outcome<()> {
    let home = world.path("agent");
    if home.exists() {
        std::fs::remove_dir_all(&home)?;
    }
    world.start_agent();
    within(Duration::from_secs(120), "the first base is in the bucket", || {
        home.join("last.json").exists()
    });
    Ok(())
}

/// Waits until earlier writes are on the disk and disturb nothing.
fn settle(world: &World) -> Outcome<()> {
    Command::new("sync").arg("-f").arg(world.folder.path()).status()?;
    sleep(Duration::from_secs(3));
    Ok(())
}

fn clients(world: &World, length: Duration) -> Outcome<Times> {
    let clients = Clients::start(&world.path("s"));
    sleep(length);
    clients.stop()
}

fn beside_clients(figures: &mut Figures, world: &World) -> Outcome<()> {
    let pid = world.agent_pid();
    settle(world)?;
    let clients = Clients::start(&world.path("s"));
    let (begun, spent, threads) = (Instant::now(), process::cpu_s(pid)?, process::cpu_s_by_thread(pid)?);
    sleep(WITH);
    let seconds = begun.elapsed().as_secs_f64();
    let percent = |seconds_of_core: f64| seconds_of_core / seconds * 100.0;
    let all = percent(process::cpu_s(pid)? - spent);
    let by_thread: Vec<String> = process::cpu_s_by_thread(pid)?
        .iter()
        .map(|(name, spent)| format!("{name} {:.2} %", percent(spent - threads.get(name).unwrap_or(&0.0))))
        .collect();
    println!(
        "  at {RATE} writes a second {all:.2} % of a core: {}",
        by_thread.join(", ")
    );
    figures.agent_cpu_percent.push(all);
    clients.stop().map(drop)
}

/// A continued agent also ships the log of its pause, so this figure is rather too high.
fn with_and_without(figures: &mut Figures, world: &World) -> Outcome<()> {
    let agent = Pid::from_raw(world.agent_pid());
    let mut added = Vec::new();
    for _ in 0..PAIRS {
        kill(agent, Signal::SIGSTOP)?;
        let without = clients(world, WINDOW);
        kill(agent, Signal::SIGCONT)?;
        let (without, with) = (without?.at(0.99), clients(world, WINDOW)?.at(0.99));
        added.push((with - without, with, without));
    }
    added.sort_by(|one, other| one.0.total_cmp(&other.0));
    let shown: Vec<String> = added
        .iter()
        .map(|(_, with, without)| format!("{with:.0}-{without:.0}"))
        .collect();
    println!("  p99 with and without the agent, in µs: {}", shown.join(" "));
    figures.agent_added_p99_us.push(added[PAIRS / 2].0);
    Ok(())
}

/// Returns segments a day, by those that the bucket received while clients wrote.
async fn pieces_per_day(world: &World) -> Outcome<f64> {
    let listed = world.bucket.list(&read::log_prefix(ENV)).await?;
    let end = Timestamp::now().as_second();
    let begin = end - i64::try_from(WITH.as_secs())?;
    let mut times: Vec<i64> = (listed.iter())
        .filter(|object| object.key.ends_with(".zst"))
        .filter_map(|object| object.written_at)
        .map(Timestamp::as_second)
        .filter(|second| *second > begin)
        .collect();
    times.sort_unstable();
    match (times.first(), times.last()) {
        (Some(first), Some(last)) if last > first => Ok((times.len() - 1) as f64 / (last - first) as f64 * 86_400.0),
        _ => Err("the bucket received no log while clients wrote".into()),
    }
}

fn base_beside_clients(figures: &mut Figures, world: &World, data_mb: u64) -> Outcome<Commit> {
    let clients = Clients::start(&world.path("s"));
    sleep(Duration::from_secs(8));
    let (commit, _) = base(world)?;
    sleep(Duration::from_secs(2));
    // Clients may fall behind while the engine forks, so their times do not count here.
    let _ = clients.stop();
    let peak = process::peak_mb(world.agent_pid())?;
    println!("  at {data_mb} MB of data the agent's peak is {peak:.1} MB");
    figures.agent_rss_mb.entry(data_mb).or_default().push(peak);
    Ok(commit)
}

/// Makes a base. Returns it and the seconds from the request to its commit record.
fn base(world: &World) -> Outcome<(Commit, f64)> {
    let begun = Instant::now();
    let output = world.base();
    let seconds = begun.elapsed().as_secs_f64();
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).trim().into());
    }
    Ok((serde_json::from_slice(&output.stdout)?, seconds))
}

/// Runs one after the other, while nobody writes.
fn against_the_pipe(figures: &mut Figures, world: &World) -> Outcome<()> {
    let uploader = Uploader::find(world)?;
    settle(world)?;
    let pipe_s = uploader.run(world)?;
    settle(world)?;
    let (commit, base_s) = base(world)?;
    let megabytes = commit.plain_bytes as f64 / 1e6;
    println!(
        "  a base of {megabytes:.0} MB, {:.0} MB compressed: the agent {base_s:.2} s, the pipe with {} {pipe_s:.2} s",
        commit.bytes as f64 / 1e6,
        uploader.name
    );
    figures.base_ratio_vs_pipe.push(pipe_s / base_s);
    figures.base_mb_per_s.push(megabytes / base_s);
    figures.pipe_program = uploader.name;
    Ok(())
}
