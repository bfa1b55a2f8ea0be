//! The service that copies a source which lets nobody replicate, and the way to ask it for a sweep.

use crate::clock;
use crate::tunnel::Target;
use anyhow::{Context, Result};
use infra_agent::copy::{self, Login, Options, Prefix, Request, Stream, Wish};
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Time limit of one answer. A source that is slower is tried again.
const ANSWER: Duration = Duration::from_secs(30);

/// The standard input is the engine's socket, opened by whoever starts this: it may not open it.
#[derive(clap::Args)]
pub struct Copy {
    #[command(flatten)]
    source: Target,
    /// The folder of the files `source` and `master`: a user on the first line, the password behind it
    #[arg(long)]
    logins: PathBuf,
    /// Bytes of values that are read from the source in a second
    #[arg(long)]
    rate: u64,
    /// Bytes that the master may use
    #[arg(long)]
    memory: Option<u64>,
    /// The beginning of names of keys that are not copied, in hexadecimal
    #[arg(long)]
    leave_out: Vec<Prefix>,
    /// The folder for the place in a sweep
    #[arg(long)]
    home: PathBuf,
    /// The socket on which sweeps are asked for
    #[arg(long)]
    control: PathBuf,
    /// The file that says how it goes
    #[arg(long)]
    status: PathBuf,
}

#[derive(clap::Args)]
pub struct Sweep {
    /// The socket of the running copy
    #[arg(long)]
    control: PathBuf,
    /// Seconds for which the copy writes nothing after it
    #[arg(long, default_value_t = 0)]
    hold: u64,
    /// Apply deletions also if they are more than a tenth of the keys
    #[arg(long)]
    accept_deletions: bool,
    /// Copy only the keys that the watch has marked
    #[arg(long, conflicts_with = "look")]
    marked: bool,
    /// Copy nothing, and only say how far the watch has read
    #[arg(long)]
    look: bool,
    /// Note down which keys are written from now on
    #[arg(long)]
    record: bool,
}

/// Copies until a connection breaks; whoever started this starts it again.
pub fn run(arguments: &Copy) -> Result<()> {
    let login = |name: &str| login(&arguments.logins.join(name));
    let engine = UnixStream::from(std::io::stdin().as_fd().try_clone_to_owned()?);
    engine
        .peer_addr()
        .context("use the standard input as the engine's socket")?;
    engine.set_read_timeout(Some(ANSWER))?;
    engine.set_write_timeout(Some(ANSWER))?;
    let engine = Mutex::new(Some(engine));
    let source = arguments.source.clone();
    let watched = source.clone();
    copy::run(&Options {
        name: source.to_string(),
        source: Box::new(move || Ok(Box::new(connect(&source)?) as Box<dyn Stream>)),
        source_login: login("source")?,
        target: Box::new(move || {
            let engine = engine.lock().ok().and_then(|mut engine| engine.take());
            let engine = engine.context("connect to the engine again: there is one connection")?;
            Ok(Box::new(engine) as Box<dyn Stream>)
        }),
        target_login: login("master")?,
        watch: Some(Arc::new(move || connect(&watched))),
        tries_again: false,
        rate: arguments.rate,
        memory: arguments.memory,
        left_out: arguments.leave_out.clone(),
        home: arguments.home.clone(),
        control: arguments.control.clone(),
        status: arguments.status.clone(),
        now: clock::now,
    })
}

fn connect(source: &Target) -> Result<TcpStream> {
    let stream = source.connect().with_context(|| format!("connect to {source}"))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(ANSWER))?;
    stream.set_write_timeout(Some(ANSWER))?;
    Ok(stream)
}

/// Reads a login. An empty user or password is none.
fn login(path: &Path) -> Result<Login> {
    let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    let (user, password) = text.split_once('\n').unwrap_or((&text, ""));
    let some = |word: &str| (!word.is_empty()).then(|| word.to_owned());
    Ok(Login {
        user: some(user),
        password: some(password),
    })
}

/// Asks the running copy for a sweep, and prints its report.
pub fn sweep(arguments: &Sweep) -> Result<()> {
    let request = Request {
        wish: match (arguments.marked, arguments.look) {
            (true, _) => Wish::Marked,
            (false, true) => Wish::Look,
            (false, false) => Wish::Sweep,
        },
        record: arguments.record,
        hold: Duration::from_secs(arguments.hold),
        accept_deletions: arguments.accept_deletions,
    };
    let report = copy::ask(&arguments.control, request).context("make a sweep")?;
    println!("{}", serde_json::to_string(&report)?);
    Ok(())
}
