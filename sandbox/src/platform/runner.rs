//! Dynos as real processes: one task for the life of each, and one for an app's release phases.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr};
use std::process::Stdio;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use jiff::Timestamp;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::process::{Child, Command};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use super::Server;
use super::model::{Action, AfterExit, Dyno, Turn};
use crate::addon::free_port;
use crate::children::{self, Launcher};
use crate::files;
use crate::names;

/// In seconds, as Heroku does it.
const SIGTERM_TO_SIGKILL: f64 = 30.0;
const PREBOOT_OVERLAP: f64 = 180.0;
/// How long processes may take to end when the platform itself ends, in real time.
const LAST_ORDERS: Duration = Duration::from_secs(3);
/// How often a restart by turns is checked.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The running tasks.
pub(crate) struct Runner {
    launcher: Launcher,
    tasks: TaskTracker,
    ending: CancellationToken,
    stops: Mutex<HashMap<Uuid, oneshot::Sender<Stop>>>,
    /// Held while an app's release phases are carried out: one after the other.
    release_phases: Mutex<HashMap<Uuid, Arc<tokio::sync::Mutex<()>>>>,
    /// Held while an app's dynos are replaced a few at a time.
    rolls: Mutex<HashMap<Uuid, Arc<tokio::sync::Mutex<()>>>>,
}

#[derive(Clone, Copy)]
struct Stop {
    serve_on: bool,
}

/// Why a dyno's task wakes up.
enum Event<T> {
    Happened(T),
    Asked(Stop),
    Ending,
}

impl Runner {
    pub fn new() -> Result<Self> {
        Ok(Self {
            launcher: Launcher::new()?,
            tasks: TaskTracker::new(),
            ending: CancellationToken::new(),
            stops: Mutex::default(),
            release_phases: Mutex::default(),
            rolls: Mutex::default(),
        })
    }

    /// Runs a task of the platform's own until everything ends.
    pub fn attend(&self, task: impl Future<Output = ()> + Send + 'static) {
        let ending = self.ending.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = task => {}
                () = ending.cancelled() => {}
            }
        });
    }

    /// Carries out what the model decided, without waiting for it.
    pub fn perform(&self, server: &Arc<Server>, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Start { dyno } => {
                    let (ask, asked) = oneshot::channel();
                    lock(&self.stops).insert(dyno, ask);
                    self.tasks.spawn(live(Arc::clone(server), dyno, asked));
                }
                Action::Stop { dyno, serve_on } => {
                    if let Some(ask) = lock(&self.stops).remove(&dyno) {
                        // A dyno that has just ended by itself takes no more requests.
                        let _ = ask.send(Stop { serve_on });
                    }
                }
                Action::RunReleasePhase { app } => {
                    self.tasks.spawn(run_release_phases(Arc::clone(server), app));
                }
                Action::Roll { app } => self.attend(roll(Arc::clone(server), app)),
            }
        }
    }

    /// Ends all processes, and returns when they are gone.
    pub async fn end_everything(&self) {
        self.ending.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn live(server: Arc<Server>, id: Uuid, mut asked: oneshot::Receiver<Stop>) {
    let ending = server.runner.ending.clone();
    loop {
        let Some((dyno, app)) = plan(&server, id) else { return };
        let boot = server.scaled(
            server
                .platform()
                .app(&app)
                .map_or(0.0, |app| app.behaviour.boot_seconds),
        );
        match next(sleep(boot), &mut asked, &ending).await {
            Event::Happened(()) => {}
            Event::Asked(_) | Event::Ending => {
                server
                    .platform()
                    .ended(id, "ended while it was starting", Timestamp::now());
                return;
            }
        }
        let started = Instant::now();
        let exit = match start(&server, &app, &dyno).await {
            Ok(mut child) => {
                let group = child.id();
                server.platform().started(id, group, Timestamp::now());
                let event = next(within_its_life(&dyno, child.wait()), &mut asked, &ending).await;
                let (exit, is_over) = match event {
                    Event::Happened(Some(status)) => (described(status), false),
                    Event::Asked(stop) => (retire(&server, id, &app, &mut child, stop).await, true),
                    // A dyno that lived too long is ended as if somebody had asked for it.
                    Event::Happened(None) => {
                        let stop = Stop { serve_on: false };
                        (retire(&server, id, &app, &mut child, stop).await, true)
                    }
                    Event::Ending => (end_within(&mut child, group, LAST_ORDERS).await, true),
                };
                // Processes that it left behind in its dyno end with it.
                signal_group(group, Signal::SIGKILL);
                if is_over {
                    server.platform().ended(id, &exit, Timestamp::now());
                    return;
                }
                exit
            }
            Err(error) => {
                tracing::warn!("{} of {app} could not be started: {error:#}", dyno.name);
                format!("not started: {error:#}")
            }
        };
        let scale = server.options.time_scale;
        let ran_seconds = started.elapsed().as_secs_f64() / if scale > 0.0 { scale } else { 1.0 };
        let after = server.platform().exited(id, &exit, ran_seconds, Timestamp::now());
        let AfterExit::RestartAfter(seconds) = after else {
            lock(&server.runner.stops).remove(&id);
            return;
        };
        // This is the least at any scale: a broken command must not keep the computer busy.
        let delay = server.scaled(seconds).max(Duration::from_millis(100));
        if !matches!(next(sleep(delay), &mut asked, &ending).await, Event::Happened(())) {
            server.platform().ended(id, &exit, Timestamp::now());
            return;
        }
    }
}

async fn next<T>(
    happening: impl Future<Output = T>,
    asked: &mut oneshot::Receiver<Stop>,
    ending: &CancellationToken,
) -> Event<T> {
    tokio::select! {
        outcome = happening => Event::Happened(outcome),
        stop = asked => Event::Asked(stop.unwrap_or(Stop { serve_on: false })),
        () = ending.cancelled() => Event::Ending,
    }
}

/// Returns `None` if a one-off dyno's time to live was over first. That time is the client's wish
/// and no delay of the platform, so it is not scaled.
async fn within_its_life<T>(dyno: &Dyno, end: impl Future<Output = T>) -> Option<T> {
    match dyno.one_off {
        Some(one_off) => timeout(Duration::from_secs_f64(one_off.time_to_live), end).await.ok(),
        None => Some(end.await),
    }
}

fn plan(server: &Server, id: Uuid) -> Option<(Dyno, String)> {
    let platform = server.platform();
    let dyno = platform.dynos.iter().find(|dyno| dyno.id == id)?.clone();
    let app = platform.apps.iter().find(|app| app.id == dyno.app)?.name.clone();
    Some((dyno, app))
}

/// Ends a dyno that was replaced, as Heroku does.
async fn retire(server: &Arc<Server>, id: Uuid, app: &str, child: &mut Child, stop: Stop) -> String {
    let ending = &server.runner.ending;
    let group = child.id();
    if stop.serve_on {
        tokio::select! {
            status = child.wait() => return described(status),
            () = sleep(server.scaled(PREBOOT_OVERLAP)) => {}
            () = ending.cancelled() => return end_within(child, group, LAST_ORDERS).await,
        }
    }
    let unheard = server
        .platform()
        .app(app)
        .is_ok_and(|app| app.behaviour.sigterm_ignored);
    let now = Timestamp::now();
    server
        .platform()
        .note(id, now, |dyno| dyno.timing.signalled_at = Some(now));
    if !unheard {
        signal_group(group, Signal::SIGTERM);
    }
    let grace = server.scaled(SIGTERM_TO_SIGKILL);
    tokio::select! {
        status = child.wait() => return described(status),
        () = sleep(grace) => {}
        () = ending.cancelled() => return end_within(child, group, LAST_ORDERS).await,
    }
    let now = Timestamp::now();
    server
        .platform()
        .note(id, now, |dyno| dyno.timing.killed_at = Some(now));
    signal_group(group, Signal::SIGKILL);
    described(child.wait().await)
}

async fn end_within(child: &mut Child, group: Option<u32>, grace: Duration) -> String {
    signal_group(group, Signal::SIGTERM);
    if let Ok(status) = timeout(grace, child.wait()).await {
        return described(status);
    }
    signal_group(group, Signal::SIGKILL);
    described(child.wait().await)
}

fn signal_group(leader: Option<u32>, signal: Signal) {
    if let Some(leader) = leader {
        // An error means that all of the group has ended already.
        let _ = killpg(Pid::from_raw(leader.cast_signed()), signal);
    }
}

fn described(status: std::io::Result<std::process::ExitStatus>) -> String {
    status.map_or_else(|error| format!("not waited for: {error}"), |status| status.to_string())
}

async fn start(server: &Server, app: &str, dyno: &Dyno) -> Result<Child> {
    let command = command(server, app, &dyno.name, &dyno.command, &dyno.vars)?;
    server.runner.launcher.start(command).await
}

fn command(
    server: &Server,
    app: &str,
    dyno: &str,
    words: &[String],
    vars: &BTreeMap<String, String>,
) -> Result<Command> {
    let (program, arguments) = words
        .split_first()
        .with_context(|| format!("start {dyno}: its command is empty"))?;
    let log = super::logs::file(&server.options.state_dir, app, dyno);
    files::private_folder(log.parent().context("find the folder of logs")?)?;
    let (output, errors) = files::log(&log)?;
    let mut command = children::command(program, arguments);
    command.envs(vars);
    command
        .env("DYNO", dyno)
        .env("PORT", free_port(IpAddr::V4(Ipv4Addr::LOCALHOST))?.to_string());
    command
        .env(names::HOSTS_VARIABLE, server.options.state_dir.join("hosts"))
        .env("SANDBOX_LEDGER_DIR", server.options.state_dir.join("ledger").join(app))
        .env(
            "SANDBOX_KILL_AFTER_SECONDS",
            server.scaled(SIGTERM_TO_SIGKILL).as_secs_f64().to_string(),
        );
    command.stdin(Stdio::null()).stdout(output).stderr(errors);
    Ok(command)
}

/// Replaces an app's stale dynos, as a Private Space does.
async fn roll(server: Arc<Server>, app: Uuid) {
    let turn = Arc::clone(lock(&server.runner.rolls).entry(app).or_default());
    let _turn = turn.lock().await;
    loop {
        let next = server.platform().roll(app, Timestamp::now());
        match next {
            Turn::Done => return,
            Turn::Wait => {}
            Turn::Replace(actions) => server.runner.perform(&server, actions),
        }
        sleep(LOOK_EVERY).await;
    }
}

async fn run_release_phases(server: Arc<Server>, app: Uuid) {
    let turn = Arc::clone(lock(&server.runner.release_phases).entry(app).or_default());
    let _turn = turn.lock().await;
    while server.platform().next_pending(app).is_some() {
        let succeeded = tokio::select! {
            succeeded = release_phase(&server, app) => succeeded,
            () = server.runner.ending.cancelled() => return,
        };
        let actions = server.platform().finish_release(app, succeeded, Timestamp::now());
        server.runner.perform(&server, actions);
    }
}

/// Returns whether the phase succeeded: the simulated one, and then the app's own command.
async fn release_phase(server: &Server, app: Uuid) -> bool {
    let (simulated, command_line, name) = {
        let platform = server.platform();
        let Some(app) = platform.apps.iter().find(|item| item.id == app) else {
            return false;
        };
        let own = app.formation.get("release").map(|line| line.command.clone());
        (app.behaviour.release_phase.clone(), own, app.name.clone())
    };
    if let Some(phase) = simulated {
        sleep(server.scaled(phase.seconds)).await;
        if phase.fails {
            return false;
        }
    }
    let Some(words) = command_line else { return true };
    let vars = server.platform().vars_of_release_phase(app, Timestamp::now());
    let run = async {
        let command = command(server, &name, "release.1", &words, &vars)?;
        let mut child = server.runner.launcher.start(command).await?;
        child.wait().await.context("wait for the release phase")
    };
    match run.await {
        Ok(status) => status.success(),
        Err(error) => {
            tracing::warn!("the release phase of {name} could not be run: {error:#}");
            false
        }
    }
}
