//! The process that `up` leaves running: it raises the parts, keeps the record, and ends the parts.
//!
//! It repairs nothing: `status` reports a part that died, since a test proves nothing in a sandbox
//! that was repaired meanwhile. If the supervisor is killed, `down` finds what it left.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::aws::{self, Aws};
use crate::delay::Delay;
use crate::environment::{self, ID_VARIABLE};
use crate::hosting::{ADDON_PORT, Hosting, PLATFORM_PORT, POSTGRES_PORT};
use crate::machines::{self, Board, Site, control_group};
use crate::names::{self, NameServer};
use crate::network::{self, BRIDGE_ADDRESS};
use crate::paths::Paths;
use crate::record::{Part, Phase, Record};
use crate::settings::{Settings, runtime};

/// Runs until SIGTERM or SIGINT.
pub fn supervise(paths: &Paths, settings: &Settings) -> Result<ExitCode> {
    // A session of its own keeps it apart from the terminal that ran `up`.
    nix::unistd::setsid().context("start a session of its own (this command is `sandbox up`'s, not yours)")?;
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .init();
    let id = std::env::var(ID_VARIABLE).with_context(|| format!("read {ID_VARIABLE}"))?;
    let mut record = Record::new(id);
    record.supervisor = i32::try_from(std::process::id()).ok();
    record.write(paths)?;
    let outcome = runtime()?.block_on(run(paths, settings, &mut record));
    if let Err(error) = &outcome {
        tracing::error!("{error:#}");
        record.phase = Phase::Failed;
        record.detail = format!("{error:#}");
        record.write(paths)?;
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

/// Everything that runs, in the order in which it was raised.
struct Parts {
    aws: Aws,
    board: Arc<Board>,
    machines: JoinHandle<()>,
    hosting: Hosting,
    _names: NameServer,
    _delay: Option<Delay>,
}

async fn run(paths: &Paths, settings: &Settings, record: &mut Record) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("listen for signals")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listen for signals")?;
    let raised = tokio::select! {
        raised = raise(paths, settings, record) => Some(raised?),
        () = any(&mut terminate, &mut interrupt) => None,
    };
    let Some(mut parts) = raised else { return Ok(()) };
    tracing::info!("ready");
    let mut aws_lives = true;
    let mut platform_lives = true;
    loop {
        tokio::select! {
            () = any(&mut terminate, &mut interrupt) => break,
            () = parts.board.changed.notified() => record.machines = parts.board.lines(),
            status = parts.aws.ended(), if aws_lives => {
                aws_lives = false;
                tracing::error!("the AWS part ended with {status}");
                bury(record, "aws", &format!("it ended with {status}"));
            }
            ended = &mut parts.hosting.platform, if platform_lives => {
                platform_lives = false;
                tracing::error!("the app platform ended: {ended:?}");
                bury(record, "platform", "it ended");
            }
        }
        record.write(paths)?;
    }
    tracing::info!("stopping");
    stop(parts).await;
    Ok(())
}

async fn any(one: &mut Signal, other: &mut Signal) {
    tokio::select! {
        _ = one.recv() => {}
        _ = other.recv() => {}
    }
}

/// Raises every part and reports each before it is begun.
async fn raise(paths: &Paths, settings: &Settings, record: &mut Record) -> Result<Parts> {
    begin(paths, record, "network")?;
    network::raise(paths).await?;

    begin(paths, record, "name server")?;
    let listen = SocketAddr::new(
        BRIDGE_ADDRESS
            .to_string()
            .parse()
            .context("read the bridge's address")?,
        names::PORT,
    );
    let names = NameServer::start(listen, paths.names()).await?;

    begin(paths, record, "AWS API")?;
    let aws = Aws::start(paths).await?;
    let operator = aws.hypervisor().operator().await?;
    if settings.knobs {
        aws.hypervisor().turn(&crate::knobs::of_aws()).await?;
    }
    record.parts.push(Part {
        name: "aws".to_owned(),
        address: format!("http://{BRIDGE_ADDRESS}:{}", aws::PORT),
        pid: aws.pid(),
        problem: None,
    });

    begin(paths, record, "machines")?;
    let board = Arc::new(Board::default());
    let site = Site {
        paths: paths.clone(),
        id: record.id.clone(),
        hypervisor: aws.hypervisor(),
        board: Arc::clone(&board),
        moved: watch::Sender::new(0),
        busy_apt: settings.knobs,
    };
    let machines = tokio::spawn(machines::follow(Arc::new(site)));

    begin(paths, record, "app platform")?;
    let platform_key = crate::random::hex(20)?;
    let hosting = Hosting::start(paths, settings, &platform_key).await?;
    let part = |name: &str, port, pid| Part {
        name: name.to_owned(),
        address: format!("{BRIDGE_ADDRESS}:{port}"),
        pid,
        problem: None,
    };
    record.parts.push(part("platform", PLATFORM_PORT, None));
    record.parts.extend(
        hosting
            .addon
            .as_ref()
            .map(|addon| part("hosted redis", ADDON_PORT, addon.pid())),
    );
    let postgres = hosting.postgres.as_ref();
    record
        .parts
        .extend(postgres.map(|_| part("hosted postgresql", POSTGRES_PORT, None)));

    let delay = match settings.rtt {
        0 => None,
        milliseconds => {
            begin(paths, record, "operator's distance")?;
            Some(Delay::raise(Duration::from_millis(milliseconds)).await?)
        }
    };
    record.rtt_ms = settings.rtt;

    environment::write(paths, &record.id, &operator, &platform_key)?;
    record.phase = Phase::Ready;
    record.detail = "ready".to_owned();
    record.write(paths)?;
    Ok(Parts {
        aws,
        board,
        machines,
        hosting,
        _names: names,
        _delay: delay,
    })
}

fn begin(paths: &Paths, record: &mut Record, what: &str) -> Result<()> {
    tracing::info!("starting: {what}");
    record.detail = what.to_owned();
    record.write(paths)
}

fn bury(record: &mut Record, name: &str, problem: &str) {
    for part in record.parts.iter_mut().filter(|part| part.name == name) {
        part.problem = Some(problem.to_owned());
    }
}

/// Ends what runs. `down` removes namespaces, mounts and files afterwards.
async fn stop(parts: Parts) {
    if let Err(error) = parts.hosting.stop().await {
        tracing::warn!("{error:#}");
    }
    parts.machines.abort();
    let _ = parts.machines.await;
    for pid in control_group::processes(None) {
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
    }
    if tokio::time::timeout(Duration::from_secs(2), parts.aws.stop())
        .await
        .is_err()
    {
        tracing::warn!("the AWS part would not end");
    }
}
