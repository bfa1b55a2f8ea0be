//! Three real servers, a platform whose processes really write, and roles changed by Redis itself.

use super::super::fence::Fence;
use super::super::gate::Proof;
use super::super::history::{Entry, History};
use super::super::logs::Logs;
use super::super::pair::Pair;
use super::super::record::Record;
use super::super::state::Cutover;
use super::super::{Command, Limits, Outcome, Phase, Setup, Staying, naming};
use crate::decide::vars::{Naming, place_of};
use crate::effects::interrupt::Interrupt;
use crate::effects::platform::{Formation, Heroku, Platform};
use crate::effects::redis::Server;
use crate::effects::redis::login::with_known_user;
use crate::effects::redis::testing::{TestServer, command};
use crate::model::error::{Error, Result};
use crate::model::secret::Secret;
use crate::ui::Ui;
use ::redis::{Cmd, Value};
use sandbox::addon::Engine;
use sandbox::platform::{self, Options};
use serde_json::json;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const KEY: &str = "platform-key";
const PATIENCE: Duration = Duration::from_secs(60);
const SOURCE_PASSWORD: &str = "hosted-secret";
const PAIR_PASSWORD: &str = "pair-secret";
const APP_PASSWORD: &str = "app-secret";

/// Notes each acknowledged write in the ledger. Ignores SIGTERM, so it lives until it is killed.
const WRITER: &str = r#"trap '' TERM; i=0; mkdir -p "$SANDBOX_LEDGER_DIR"; url=$(printf %s "$REDIS_URL" | sed -E 'CLIENT');
while :; do i=$((i+1)); key="$DYNO:$$:$i";
[ "$(redis-cli -u "$url" --no-auth-warning SET "$key" "$i" 2>/dev/null)" = OK ] && echo "$key" >> "$SANDBOX_LEDGER_DIR/$$"; sleep PAUSE; done"#;

/// Rewrites what other clients take and redis-cli does not: a user that is none, `?db=2`, IPv6.
const CLIENT: &str = r"s#//[hx]?:#//default:#; s#:@#@#; s#[?]db=([0-9]+)#/\1#; s#[?].*##; s#\[::1\]#127.0.0.1#";

/// Seconds between two writes of a process.
const BUSY: &str = "0.005";

/// A change that the platform was asked for.
#[derive(Clone, Debug, serde::Deserialize, PartialEq)]
pub struct Asked {
    pub method: String,
    pub path: String,
    pub status: u16,
    pub ago_ms: u64,
}

/// How the app's Redis is rented, and which vars its processes read.
#[derive(Clone, Copy)]
pub struct Rented {
    pub attachment: &'static str,
    /// The add-on gives `TLS_URL` too, which names the source at another port.
    pub second_port: bool,
    /// The app has REDIS_URL as a plain copy of the add-on's URL, with this behind it.
    pub copy: Option<&'static str>,
    /// `app.config_var` of infra.yml.
    pub config_var: &'static str,
    pub web_reads: &'static str,
    pub worker_reads: &'static str,
    /// Further arguments of the source's server.
    pub server: &'static [&'static str],
    /// The source's password; empty for none.
    pub password: &'static str,
    /// The parts of the add-on's URL before and behind the port.
    pub before_port: &'static str,
    pub behind_port: &'static str,
    /// The database that the processes use.
    pub database: u32,
}

/// One var, a plain URL with user and password, and room for as many connections as wanted.
pub const PLAIN: Rented = Rented {
    attachment: "REDIS",
    second_port: false,
    copy: None,
    config_var: "REDIS_URL",
    web_reads: "REDIS_URL",
    worker_reads: "REDIS_URL",
    server: &[],
    password: SOURCE_PASSWORD,
    before_port: "default:hosted-secret@127.0.0.1",
    behind_port: "",
    database: 0,
};

impl Rented {
    /// Returns the add-on's URL.
    fn url(&self, port: u16) -> Secret {
        Secret::new(format!("redis://{}:{port}{}", self.before_port, self.behind_port))
    }
}

/// Returns a script that writes to the URL in this var.
fn reading(writer: &str, var: &str) -> String {
    writer.replace("REDIS_URL", var)
}

/// Returns the usual script, with so many seconds between two writes.
fn writer(pace: &str) -> String {
    WRITER.replace("PAUSE", pace).replace("CLIENT", CLIENT)
}

/// Relays a second port of loopback to the first.
async fn relay(to: u16) -> u16 {
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut from, _)) = listener.accept().await {
            tokio::spawn(async move {
                if let Ok(mut to) = tokio::net::TcpStream::connect((Ipv4Addr::LOCALHOST, to)).await {
                    let _ = tokio::io::copy_bidirectional(&mut from, &mut to).await;
                }
            });
        }
    });
    port
}

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
    pub heroku: Heroku,
    /// The app, and those that move with it.
    pub apps: Vec<Heroku>,
    pub limits: Limits,
    writer: String,
    pub naming: Naming,
    rented: Rented,
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

    /// Like [`Stage::new`], with so many seconds between two writes of a process.
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
        let master = follower(source.port, rented.password).await?;
        let replica = follower(master.port, PAIR_PASSWORD).await?;
        for server in [&master, &replica] {
            let user = format!("ACL SETUSER app off >{APP_PASSWORD} ~* &* +@all -@admin -@dangerous +info");
            server.script(&user).await;
        }
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

    async fn create_app(&self) {
        let Rented {
            attachment,
            second_port,
            copy,
            web_reads,
            worker_reads,
            ..
        } = self.rented;
        let url = self.rented.url(self.source.port);
        let formation = json!({
            "web": {"command": ["sh", "-c", reading(&self.writer, web_reads)]},
            "worker": {"command": ["sh", "-c", reading(&self.writer, worker_reads)]},
        });
        let config = match copy {
            Some(tail) => json!({"REDIS_URL": format!("{}{tail}", self.source().url().expose())}),
            None => json!({}),
        };
        let app = json!({"name": "demo", "region": "us", "formation": formation, "config": config});
        self.admin("apps", app).await;
        let values = if second_port {
            let twin = Server {
                port: relay(self.source.port).await,
                ..self.source()
            };
            json!({"TLS_URL": twin.url().expose(), "BASTIONS": "192.0.2.4"})
        } else {
            json!({})
        };
        let addon = json!({
            "name": "redis-oval-1", "plan": "hosted-redis:mini", "url": url.expose(), "attachment": attachment, "values": values,
        });
        self.admin("apps/demo/addons", addon).await;
    }

    /// Looks at the apps' vars, as every command does when it begins.
    pub async fn look_at_vars(&mut self) {
        let mut apps = Vec::new();
        for app in &self.apps {
            apps.push(Platform::Heroku(app.clone()).known().await.unwrap());
        }
        let stay = self.naming.stay.clone();
        let staying = Staying { vars: &stay, apps: &[] };
        self.naming = naming(&apps, self.rented.config_var, &place_of(&self.known_source), staying);
    }

    /// Makes an app to which the add-on is attached; its process reads that attachment's var.
    pub async fn attached_app(&mut self, attachment: &str) -> Heroku {
        let formation = json!({"web": {"command": ["sh", "-c", reading(&self.writer, &format!("{attachment}_URL"))]}});
        let config = json!({"REDIS_URL": self.source().url().expose()});
        self.admin(
            "apps",
            json!({"name": "second", "region": "us", "formation": formation, "config": config}),
        )
        .await;
        let second = Heroku::new(&self.api, Secret::new(KEY), "second").unwrap();
        second.attach("redis-oval-1", attachment).await.unwrap();
        second.scale(&Formation::from([("web".into(), 1)])).await.unwrap();
        self.apps.push(second.clone());
        self.look_at_vars().await;
        second
    }

    async fn admin(&self, path: &str, body: serde_json::Value) {
        // The admin paths want no key.
        let client = self.heroku_client();
        let response = client
            .post(format!("{}/_sandbox/{path}", self.api))
            .json(&body)
            .send()
            .await
            .unwrap();
        let status = response.status();
        assert!(
            status.is_success(),
            "{path}: {status} {}",
            response.text().await.unwrap()
        );
    }

    fn heroku_client(&self) -> reqwest::Client {
        let tls = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .build()
            .unwrap()
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

    /// Makes an app with processes of its own, and the source's URL in a plain var.
    pub async fn second_app(&mut self) -> Heroku {
        self.second_app_in(json!(null), 1).await
    }

    /// Like [`Stage::second_app`], with so many processes, in a Private Space if one is named.
    pub async fn second_app_in(&mut self, space: serde_json::Value, processes: u64) -> Heroku {
        self.further_app("second", space, processes).await
    }

    pub async fn further_app(&mut self, name: &str, space: serde_json::Value, processes: u64) -> Heroku {
        let formation = json!({"web": {"command": ["sh", "-c", self.writer]}});
        self.admin(
            "apps",
            json!({"name": name, "region": "us", "formation": formation, "space": space}),
        )
        .await;
        let app = Heroku::new(&self.api, Secret::new(KEY), name).unwrap();
        let vars = [("REDIS_URL".to_string(), Some(self.source().url()))].into();
        app.set_config_vars(&vars).await.unwrap();
        app.scale(&Formation::from([("web".into(), processes)])).await.unwrap();
        self.apps.push(app.clone());
        app
    }

    /// Plans failures of the whole platform, and forgets the log of changes.
    pub async fn plan_failures(&self, plan: serde_json::Value) {
        self.admin("failures", plan).await;
    }

    /// Returns the changes that were asked for since the failures were planned.
    pub async fn changes(&self) -> Vec<Asked> {
        let response = self
            .heroku_client()
            .get(format!("{}/_sandbox/changes", self.api))
            .send()
            .await;
        serde_json::from_str(&response.unwrap().text().await.unwrap()).unwrap()
    }

    pub async fn behave(&self, behaviour: serde_json::Value) {
        self.behave_as("demo", behaviour).await;
    }

    /// Makes the platform misbehave for another app.
    pub async fn behave_as(&self, app: &str, behaviour: serde_json::Value) {
        self.admin(&format!("apps/{app}/behaviour"), behaviour).await;
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
            if [&master, &replica]
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

/// Entries that outlive a run, like those in a bucket.
pub struct Kept {
    entries: Arc<Mutex<Vec<Entry>>>,
    ours: Arc<AtomicBool>,
    clock_stands: bool,
    ends_with: Option<Phase>,
    source_gets: Option<(Phase, Vec<Cmd>)>,
    source: Server,
}

impl Record for Kept {
    fn history(&self) -> Result<History> {
        Ok(History::of(&self.entries.lock().unwrap()))
    }

    async fn write(&mut self, entries: &[Entry]) -> Result<()> {
        self.still_ours()?;
        for entry in entries {
            let stored = serde_json::to_string(entry).unwrap();
            assert!(
                !stored.contains(SOURCE_PASSWORD) && !stored.contains(APP_PASSWORD),
                "a secret is journaled: {stored}"
            );
            self.entries
                .lock()
                .unwrap()
                .push(serde_json::from_str(&stored).unwrap());
        }
        let begins = |wanted: Option<Phase>| wanted.is_some() && entries.iter().any(|entry| entry.phase() == wanted);
        if begins(self.ends_with) {
            self.ours.store(false, Ordering::SeqCst);
        }
        if let Some((_, commands)) = self.source_gets.as_ref().filter(|(phase, _)| begins(Some(*phase))) {
            let mut connection = self.source.connect(0).await?;
            for command in commands {
                connection.query::<Value>(command).await?;
            }
            // The app's own writes have waited in the pause.
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    }

    fn still_ours(&self) -> Result<()> {
        if self.ours.load(Ordering::SeqCst) || self.clock_stands {
            Ok(())
        } else {
            Err(Error::locked("go on: the lock was lost"))
        }
    }

    async fn confirm(&self) -> Result<()> {
        if self.ours.load(Ordering::SeqCst) {
            Ok(())
        } else {
            Err(Error::locked("go on: the lock was lost"))
        }
    }
}

/// Returns the file that an engine writes to after a full copy, until its log is in force.
pub fn unfinished_log(server: &TestServer) -> PathBuf {
    server.folder().join("appendonlydir/temp-appendonly.aof.incr")
}

/// Changes roles by Redis's own commands.
pub struct Plain {
    master: Server,
    replica: Server,
    source_port: u16,
    unfinished: [PathBuf; 2],
}

impl Plain {
    async fn say(&self, server: &Server, words: &str) -> Result<()> {
        server
            .connect(0)
            .await?
            .query::<Value>(&command(words))
            .await
            .map(|_| ())
    }
}

impl Logs for Plain {
    async fn logs_in_force(&mut self) -> Result<bool> {
        Ok(!self.unfinished.iter().any(|file| file.exists()))
    }
}

impl Pair for Plain {
    async fn ready(&mut self) -> Result<()> {
        Ok(())
    }

    async fn promote(&mut self, _proof: &Proof, _fence: &Fence) -> Result<()> {
        assert!(!self.unfinished[0].exists(), "promoted without a log that is in force");
        self.say(&self.master, "REPLICAOF NO ONE").await
    }

    async fn set_app_access(&mut self, open: bool) -> Result<()> {
        for server in [&self.master, &self.replica] {
            if open {
                self.say(server, "ACL SETUSER app on").await?
            } else {
                self.say(server, "ACL SETUSER app off").await?;
                self.say(server, "CLIENT KILL USER app").await?;
            }
        }
        Ok(())
    }

    async fn follow_source(&mut self) -> Result<()> {
        let words = format!("REPLICAOF 127.0.0.1 {}", self.source_port);
        self.say(&self.master, &words).await
    }
}
