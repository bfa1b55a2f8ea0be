//! The program on a host: `run` as a service; `base` for the timer; `rebuild` for a restore;
//! `tunnel` as the service that leads to the source, `copy` as the one that copies it.

mod attach;
mod base;
mod bucket;
mod clock;
mod control;
mod copying;
mod engine;
mod follow;
mod force;
mod generation;
mod keep;
mod kept;
mod memory;
mod mend;
mod parts;
mod role;
mod select;
mod settings;
mod shared;
mod ship;
mod shipper;
mod spool;
mod standing;
mod tail;
mod tunnel;
mod upload;
mod watch;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use infra_agent::rebuild;
use infra_agent::record::{AgentStatus, SCHEMA_VERSION};
use settings::Settings;
use shared::Shared;
use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

/// Ships this host's log and bases to S3, builds a data folder back from them, and leads to the source
#[derive(Parser)]
#[command(name = "infra-agent", version)]
struct Arguments {
    /// Settings that `infra up` wrote
    #[arg(long, default_value = "/etc/infra/agent.env", global = true)]
    settings: PathBuf,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Follow the log for ever: the service
    Run,
    /// Have the running agent make a base now, and wait until it is in the bucket
    Base,
    /// Cut a torn end off the log before the engine reads it
    Mend,
    /// Print the commands that restore keys from a base of commands; standard input says which
    Pick {
        /// A folder that holds a data folder
        folder: PathBuf,
    },
    /// Let all keys of a base of commands expire later, as the standard input says
    Shift {
        /// A folder that holds a data folder
        folder: PathBuf,
    },
    /// Count the keys of an engine without users: all of them, and those that have expired
    Count {
        /// Its socket
        socket: PathBuf,
    },
    /// Print the keys that the last seconds of a log wrote
    Tail {
        /// A folder that holds a data folder
        folder: PathBuf,
        /// The socket of an engine without users that has loaded it
        socket: PathBuf,
        /// How many seconds before the log's end
        #[arg(long)]
        seconds: i64,
    },
    /// Build a data folder from a plan on the standard input
    Rebuild {
        /// Where; must not hold a data folder yet
        folder: PathBuf,
    },
    /// Lead a port of loopback to the source by TLS, for ever: the service
    Tunnel(tunnel::Tunnel),
    /// Try once whether this host reaches the source
    Reach(tunnel::Reach),
    /// Copy a source that lets nobody replicate, for ever: the service
    Copy(copying::Copy),
    /// Have the running copy make a whole sweep now, and wait for its end
    Sweep(copying::Sweep),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match &arguments.verb {
        Verb::Run => Settings::load(&arguments.settings).and_then(run),
        Verb::Base => Settings::load(&arguments.settings).and_then(|settings| base(&settings)),
        Verb::Mend => Settings::load(&arguments.settings).and_then(|settings| mend::mend(&settings)),
        Verb::Pick { folder } => select::pick(folder),
        Verb::Shift { folder } => select::shift(folder),
        Verb::Count { socket } => select::count(socket),
        Verb::Tail {
            folder,
            socket,
            seconds,
        } => tail::print(folder, socket, *seconds),
        Verb::Rebuild { folder } => rebuild(folder),
        Verb::Tunnel(tunnel) => tunnel::run(tunnel),
        Verb::Reach(reach) => tunnel::reach(reach),
        Verb::Copy(copy) => copying::run(copy),
        Verb::Sweep(sweep) => copying::sweep(sweep),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("infra-agent: failed to {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(settings: Settings) -> Result<()> {
    // Only root may read the agent's files.
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o077));
    let home = settings.home.clone();
    std::fs::create_dir_all(&home).with_context(|| format!("open {}", home.display()))?;
    let alone = std::fs::File::create(home.join("running")).context("open the lock")?;
    alone.try_lock().context("begin: another agent runs on this host")?;
    let shared = Arc::new(Shared::default());
    let mut keeper = keep::KeptSets::new(settings.clone(), engine::Engine::new(&settings)?, shared.clone());
    own("last AOF set", Box::new(move || keeper.run()))?;
    let shipping = settings.ships.then(|| ship(&settings, &shared)).transpose()?;
    tell(&home, &shared, shipping.as_ref())
}

/// The parts of shipping that the status reports.
struct Shipping {
    spool: Arc<spool::Spool>,
    bucket: Arc<bucket::Bucket>,
}

fn own(name: &str, work: Box<dyn FnOnce() + Send>) -> Result<()> {
    std::thread::Builder::new()
        .name(name.into())
        .spawn(work)
        .with_context(|| format!("start {name}"))?;
    Ok(())
}

/// Starts everything that brings this engine's data to the bucket.
fn ship(settings: &Settings, shared: &Arc<Shared>) -> Result<Shipping> {
    let home = &settings.home;
    let spool = Arc::new(spool::Spool::open(home.join("spool"))?);
    let bucket = Arc::new(bucket::Bucket::new(settings)?);
    let mut memory = memory::Memory::open(home)?;
    // Runs before the uploader starts: a segment is remembered before it is put.
    if let Err(error) = memory.recover(&spool) {
        shared.trouble("log", Some(format!("{error:#}")));
    }
    shared.change(|state| {
        state.gap = memory.gap().cloned();
        state.base_needed = memory::is_baseless(home);
    });
    let (requests, bases) = channel();

    let mut shipper = shipper::Shipper {
        engine: engine::Engine::new(settings)?,
        settings: settings.clone(),
        spool: spool.clone(),
        shared: shared.clone(),
        memory,
        watch: None,
        place: None,
        unsure_since: None,
        passed: clock::Passed::new(ship::LATE),
        needs_rewrite: false,
    };
    let mut base = base::Bases {
        engine: engine::Engine::new(settings)?,
        settings: settings.clone(),
        bucket: bucket.clone(),
        shared: shared.clone(),
    };
    let (for_upload, for_bucket, for_shared, prefix) =
        (spool.clone(), bucket.clone(), shared.clone(), settings.prefix.clone());
    own(
        "upload",
        Box::new(move || upload::run(&for_bucket, &for_upload, &for_shared, &prefix)),
    )?;
    own("bases", Box::new(move || base.run(&bases)))?;
    own("log", Box::new(move || shipper.run()))?;
    let control_path = settings.control();
    let for_control = shared.clone();
    own(
        "control",
        Box::new(move || {
            if let Err(error) = control::serve(&control_path, &requests) {
                for_control.trouble("control", Some(format!("{error:#}")));
            }
        }),
    )?;
    Ok(Shipping { spool, bucket })
}

/// Writes the status every second until the process ends.
fn tell(home: &Path, shared: &Shared, shipping: Option<&Shipping>) -> Result<()> {
    loop {
        let (backlog_pieces, backlog_bytes) = shipping.map_or((0, 0), |shipping| shipping.spool.size());
        let status = {
            let state = shared.lock();
            AgentStatus {
                schema_version: SCHEMA_VERSION,
                version: env!("CARGO_PKG_VERSION").into(),
                at: clock::now(),
                timeline: state.timeline.clone(),
                shipped_until: state.shipped_until,
                shipped: state.shipped,
                backlog_pieces,
                backlog_bytes,
                puts: shipping.map_or(0, |shipping| shipping.bucket.puts()),
                gap: state.gap.clone(),
                troubles: state
                    .troubles
                    .iter()
                    .map(|(part, what)| format!("{part}: {what}"))
                    .collect(),
                kept: state.kept.clone(),
                disk: keep::disk_of(home).ok(),
            }
        };
        let text = serde_json::to_vec(&status).context("write the status")?;
        // No sync: the next second writes a new status.
        let path = home.join("status.json");
        let new = home.join("status.json.new");
        if let Err(error) = std::fs::write(&new, text).and_then(|()| std::fs::rename(&new, &path)) {
            eprintln!("infra-agent: write {}: {error}", path.display());
        }
        std::thread::sleep(Duration::from_secs(1));
    }
}

fn base(settings: &Settings) -> Result<()> {
    let commit = control::ask_for_base(&settings.control()).context("make a base")?;
    println!("{}", serde_json::to_string(&commit)?);
    Ok(())
}

fn rebuild(folder: &Path) -> Result<()> {
    let mut plan = String::new();
    std::io::stdin().read_to_string(&mut plan).context("read the plan")?;
    let plan: rebuild::Plan = serde_json::from_str(&plan).context("understand the plan")?;
    // A program that reads the output gets lines; a terminal would be flooded by them.
    let terminal = std::io::stdout().is_terminal();
    let built = rebuild::build(&plan, folder, &mut |done, all| {
        if !terminal {
            println!("{done} of {all}");
        }
    })
    .context("build the data folder")?;
    println!("{}", serde_json::to_string(&built)?);
    Ok(())
}
