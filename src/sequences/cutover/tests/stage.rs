//! Three real servers, a platform whose processes really write, and roles changed by Redis itself.

mod apps;
mod copying;
mod kept;
mod plain;
mod rented;

pub use apps::Asked;
pub use kept::Kept;
pub use plain::{Plain, unfinished_log};
pub use rented::{PLAIN, Rented};

use super::super::history::{Entry, History};
use super::super::state::Cutover;
use super::super::{Command, Limits, Outcome, Phase, Setup};
use crate::decide::vars::Naming;
use crate::effects::interrupt::Interrupt;
use crate::effects::platform::{Formation, Heroku, Platform};
use crate::effects::redis::Server;
use crate::effects::redis::login::with_known_user;
use crate::effects::redis::testing::{TestServer, command};
use crate::model::error::Result;
use crate::model::secret::Secret;
use crate::ui::Ui;
use ::redis::{Cmd, Value};
use rented::{BUSY, writer};
use sandbox::addon::Engine;
use sandbox::platform::{self, Options};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const KEY: &str = "platform-key";
const PATIENCE: Duration = Duration::from_secs(60);
const SOURCE_PASSWORD: &str = "hosted-secret";
const PAIR_PASSWORD: &str = "pair-secret";
const APP_PASSWORD: &str = "app-secret";

pub struct Stage {
    pub source: TestServer,
    pub master: TestServer,
    pub replica: TestServer,
    pub entries: Arc<Mutex<Vec<Entry>>>,
    pub lock_is_ours: Arc<AtomicBool>,
    /// This computer's clock stands still, so it does not show that the lock was lost.
    pub clock_stands: bool,
    /// The entry with which the lock is lost.
    pub lock_ends_with: Option<Phase>,
    /// The entry with which somebody sends these commands to the source.
    pub source_gets: Option<(Phase, Vec<Cmd>)>,
    /// A command that somebody sends to the master right after its promotion.
    pub master_gets: Option<String>,
    /// True if the source closes MONITOR inside the fence, once the marked keys are copied.
    pub closes_monitor: bool,
    pub heroku: Heroku,
    /// The app, and those that move with it.
    pub apps: Vec<Heroku>,
    pub limits: Limits,
    writer: String,
    pub naming: Naming,
    rented: Rented,
    /// The socket of the copy, if there is one.
    control: Option<PathBuf>,
    /// The source as a command finds it by its URL.
    known_source: Server,
    folder: tempfile::TempDir,
    api: String,
    shutdown: CancellationToken,
    serving: Option<JoinHandle<()>>,
}

impl Stage {
    /// Makes an app on the source and a pair that follows. `scale` is a factor on platform delays.
    pub async fn new(scale: f64) -> Stage {
        Self::with_pace(scale, BUSY).await
    }

    /// Like [`Stage::new`], with another engine; `None` if that cannot be had here.
    pub async fn of(engine: Engine, scale: f64) -> Option<Stage> {
        Self::raise(engine, scale, &writer(BUSY), PLAIN).await
    }

    /// Like [`Stage::new`], with this number of seconds between two writes of a process.
    pub async fn with_pace(scale: f64, pace: &str) -> Stage {
        Self::with_writer(scale, &writer(pace)).await
    }

    /// Like [`Stage::new`], with this script as every process.
    pub async fn with_writer(scale: f64, writer: &str) -> Stage {
        Self::raise(Engine::Redis7, scale, writer, PLAIN).await.unwrap()
    }

    /// Like [`Stage::new`], with an add-on and processes of this kind.
    pub async fn renting(scale: f64, rented: Rented) -> Stage {
        Self::raise(Engine::Redis7, scale, &writer(BUSY), rented).await.unwrap()
    }

    async fn raise(engine: Engine, scale: f64, writer: &str, rented: Rented) -> Option<Stage> {
        let start = async |arguments: &[&str]| match engine {
            Engine::Redis7 => Some(TestServer::start(arguments).await),
            other => TestServer::start_engine(other, arguments).await,
        };
        let login = ["--requirepass", rented.password, "--repl-diskless-sync-delay", "0"];
        let source = start(&[&login, rented.server].concat()).await?;
        let follower = async |of: u16, password: &'static str| {
            let of = format!("127.0.0.1 {of}");
            // A client whose own password is refused must not get in as the default user.
            start(&[
                "--requirepass",
                PAIR_PASSWORD,
                "--replicaof",
                &of,
                "--masterauth",
                password,
                "--appendonly",
                "yes",
                "--repl-diskless-sync-delay",
                "0",
            ])
            .await
        };
        let master = if rented.copied {
            source.script("ACL SETUSER default -psync -sync -replconf").await;
            if !rented.monitored {
                source.script("ACL SETUSER default -monitor").await;
            }
            let own = ["--requirepass", PAIR_PASSWORD, "--appendonly", "yes"];
            start(&[&own[..], &["--repl-diskless-sync-delay", "0"]].concat()).await?
        } else {
            follower(source.port, rented.password).await?
        };
        let replica = follower(master.port, PAIR_PASSWORD).await?;
        for server in [&master, &replica] {
            let user = format!("ACL SETUSER app off >{APP_PASSWORD} ~* &* +@all -@admin -@dangerous +info");
            server.script(&user).await;
        }
        let control = rented.copied.then(|| copying::start(&source, &master));
        let folder = tempfile::tempdir().unwrap();
        let port = sandbox::addon::free_port(Ipv4Addr::LOCALHOST.into()).unwrap();
        let address = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port);
        let shutdown = CancellationToken::new();
        let options = Options {
            listen: vec![address],
            api_key: KEY.into(),
            state_dir: folder.path().into(),
            time_scale: scale,
        };
        let stop = shutdown.clone();
        let serving = tokio::spawn(async move { platform::serve(options, stop).await.unwrap() });
        let begun = Instant::now();
        while tokio::net::TcpStream::connect(address).await.is_err() {
            assert!(begun.elapsed() < PATIENCE);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let api = format!("http://{address}");
        let heroku = Heroku::new(&api, Secret::new(KEY), "demo").unwrap();
        let url = rented.url(source.port);
        let mut stage = Stage {
            naming: Naming::default(),
            rented,
            control,
            known_source: with_known_user(Server::from_url("source", &url, None).unwrap()).await,
            apps: vec![heroku.clone()],
            heroku,
            source,
            master,
            replica,
            entries: Arc::default(),
            lock_is_ours: Arc::new(AtomicBool::new(true)),
            clock_stands: false,
            lock_ends_with: None,
            source_gets: None,
            master_gets: None,
            closes_monitor: false,
            limits: Limits {
                hold: Duration::from_secs(60),
                long_pause: Duration::from_secs(120),
                release: Duration::from_secs(60),
                // The platform kills after 30 s of its own time.
                grace: Duration::from_secs_f64(30.0 * scale * 1.2) + Duration::from_millis(500),
                away: Duration::from_secs(1),
                onlookers: Duration::from_secs(1),
                settle: Duration::from_millis(400),
                sync: Duration::from_secs(60),
                rounds: 30,
                unwatched: Duration::from_secs(60),
            },
            writer: writer.into(),
            folder,
            api,
            shutdown,
            serving: Some(serving),
        };
        stage.create_app().await;
        stage.look_at_vars().await;
        stage.await_following().await;
        Some(stage)
    }

    /// Sends commands to the source, one a line, as somebody who has its URL.
    pub async fn at_source(&self, lines: &str) {
        let mut connection = self.source().connect(0).await.unwrap();
        for line in lines.lines() {
            let said = connection.ask(&command(line)).await.unwrap();
            assert!(!matches!(said, Value::ServerError(_)), "{line}: {said:?}");
        }
    }

    /// The source refuses to be paused, as some hosts do.
    pub async fn forbid_pausing(&self) {
        self.at_source("ACL SETUSER default -client|pause -client|unpause")
            .await;
    }

    /// Starts the app's processes and waits for their first acknowledged writes.
    pub async fn load(&self) {
        self.heroku
            .scale(&Formation::from([("web".into(), 2), ("worker".into(), 1)]))
            .await
            .unwrap();
        self.more_writes(20).await;
    }

    /// Waits until so many more writes were acknowledged.
    pub async fn more_writes(&self, count: usize) {
        let before = self.ledger().len();
        let begun = Instant::now();
        while self.ledger().len() < before + count {
            assert!(begun.elapsed() < PATIENCE, "the app does not write");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Returns every write that was acknowledged to the app.
    pub fn ledger(&self) -> Vec<String> {
        let folder = self.folder.path().join("ledger");
        self.apps
            .iter()
            .filter_map(|app| std::fs::read_dir(folder.join(app.app_name())).ok())
            .flatten()
            .flat_map(|file| {
                let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
                text.lines().map(str::to_owned).collect::<Vec<_>>()
            })
            .collect()
    }

    /// Returns how many acknowledged writes a server does not have.
    pub async fn lost_on(&self, server: &Server) -> usize {
        let ledger = self.ledger();
        let mut connection = server.connect(self.rented.database).await.unwrap();
        let mut lost = 0;
        for some in ledger.chunks(500) {
            let there: usize = connection.query(::redis::cmd("EXISTS").arg(some)).await.unwrap();
            lost += some.len() - there;
        }
        lost
    }

    pub fn source(&self) -> Server {
        Server {
            label: "source".into(),
            // redis-cli takes an empty user in a URL for one of that name.
            user: Some("default".into()),
            password: Some(self.rented.password)
                .filter(|password| !password.is_empty())
                .map(Secret::new),
            ..self.source.server()
        }
    }

    pub fn master(&self) -> Server {
        Server {
            label: "master".into(),
            ..self.master.server()
        }
    }

    pub fn replica(&self) -> Server {
        Server {
            label: "replica".into(),
            ..self.replica.server()
        }
    }

    pub fn setup(&self) -> Setup<Kept, Plain> {
        Setup {
            source: self.known_source.clone(),
            master: self.master(),
            replica: self.replica(),
            endpoint: Server {
                label: "endpoint".into(),
                user: Some("app".into()),
                password: Some(Secret::new(APP_PASSWORD)),
                ..self.master.server()
            },
            domain: None,
            authority: None,
            pair: Plain {
                master: self.master(),
                replica: self.replica(),
                source_port: self.source.port,
                unfinished: [&self.master, &self.replica].map(unfinished_log),
                sneaks: self.master_gets.clone(),
                control: self.control.clone(),
                closes_monitor: self.closes_monitor.then(|| self.source()),
            },
            record: Kept {
                entries: self.entries.clone(),
                ours: self.lock_is_ours.clone(),
                clock_stands: self.clock_stands,
                ends_with: self.lock_ends_with,
                source_gets: self.source_gets.clone(),
                source: self.source(),
            },
            apps: self.apps.iter().cloned().map(Platform::Heroku).collect(),
            config_var: self.rented.config_var.into(),
            naming: self.naming.clone(),
            fence: None,
            accept_loss: false,
            without_watch: false,
            leave_out: Vec::new(),
            folder: self.folder.path().into(),
            limits: self.limits,
            ui: Ui::silent(),
            interrupt: Interrupt::never(),
        }
    }

    pub async fn run(&self, command: Command) -> Result<Outcome> {
        super::super::run(self.setup(), command).await
    }

    /// Runs a command that is killed after so many steps.
    pub async fn killed_after(&self, steps: usize, command: Command) -> Result<Outcome> {
        let mut cutover = Cutover::new(self.setup(), command).await.unwrap();
        cutover.dies_after = Some(steps);
        cutover.finish().await
    }

    /// Runs the switch until it is killed right after it let the app in, and writes `early` as the app.
    pub async fn dies_once_our_side_is_open(&self) {
        let early = command("SET early 1");
        for steps in 0..60 {
            self.killed_after(steps, Command::SwitchApp).await.unwrap_err();
            let is_in = match self.setup().endpoint.connect(0).await {
                Ok(mut app) => matches!(app.ask(&early).await, Ok(Value::Okay)),
                Err(_) => false,
            };
            if is_in {
                assert!(self.app_is_on(&self.source).await, "the app was moved before");
                return;
            }
        }
        panic!("the app was never let in");
    }

    pub fn history(&self) -> History {
        History::of(&self.entries.lock().unwrap())
    }

    pub async fn var(&self, name: &str) -> Option<String> {
        let vars = self.heroku.config_vars().await.unwrap();
        vars.get(name).unwrap().map(|value| value.expose().to_owned())
    }

    /// Returns true if the app's var names this server.
    pub async fn app_is_on(&self, server: &TestServer) -> bool {
        let url = self.var(self.rented.config_var).await.unwrap_or_default();
        url.contains(&format!(":{}", server.port))
    }

    /// Returns true if a write on the source is answered at once.
    pub async fn source_takes_writes(&self) -> bool {
        let mut connection = self.source().connect(0).await.unwrap();
        connection.answer_within(Duration::from_millis(500));
        connection
            .ask(&command("SET probe 1"))
            .await
            .is_ok_and(|answer| answer == Value::Okay)
    }

    async fn await_following(&self) {
        let begun = Instant::now();
        loop {
            let master = self.master.connect(0).await.info().await.unwrap();
            let replica = self.replica.connect(0).await.info().await.unwrap();
            let copied = self.control.as_ref().is_none_or(|control| copying::sweep(control));
            let followers = if self.control.is_some() {
                vec![&replica]
            } else {
                vec![&master, &replica]
            };
            if copied
                && followers
                    .iter()
                    .all(|info| info.link.as_ref().is_some_and(|link| link.up))
            {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "the pair does not follow");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Ends the platform with its processes.
    pub async fn end(mut self) {
        self.shutdown.cancel();
        if let Some(serving) = self.serving.take() {
            serving.await.unwrap();
        }
    }
}
