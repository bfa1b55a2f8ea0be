//! A real engine, the real agent and the sandbox's AWS API on loopback; no machine is booted.

use crate::aws::{Aws, call, up, wanted};
use crate::processes::{kill, spawn};
use crate::programs;
use crate::waiting::until;
use infra::effects::backup::catalogue::{Catalogue, Wish};
use infra::effects::backup::load::Engine;
use infra::effects::backup::{read, restore};
use infra::effects::cloud::s3::Bucket;
use infra::model::role::Role;
use infra::ui::Ui;
use sandbox::aws::Hypervisor;
use sandbox::metadata;
use serde_json::Value;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Output};
use std::time::Duration;

pub const ENV: &str = "production";

/// Variables of a process.
pub type Environment = Vec<(&'static str, String)>;

pub struct World {
    pub aws: Aws,
    pub bucket: Bucket,
    pub folder: tempfile::TempDir,
    pub program: PathBuf,
    /// The agent's niceness; 5 in its unit on hosts.
    pub niceness: u8,
    /// Words before the engine's program, such as `env`.
    pub engine_under: Vec<&'static str>,
    engine: Option<Child>,
    agent: Option<Child>,
    /// The environment variables of the engine and of the agent.
    environments: [Environment; 2],
    _metadata: metadata::Server,
}

impl World {
    /// Makes the cloud as `up` does, and an engine with an append-only log; no agent yet.
    pub async fn new(rpo_s: u64) -> World {
        Self::with(rpo_s, "").await
    }

    pub async fn with(rpo_s: u64, more: &str) -> World {
        Self::under(rpo_s, more, [Vec::new(), Vec::new()]).await
    }

    pub async fn under(rpo_s: u64, more: &str, environments: [Environment; 2]) -> World {
        let aws = Aws::start();
        let cloud = aws.connect().await;
        let wanted = wanted(&cloud, ENV);
        let (_, outcome) = up(&cloud, &wanted).await.unwrap();
        let id = &outcome.host(Role::Master).unwrap().id;
        let endpoint = format!("http://{}", aws.address);
        let _ = rustls::crypto::ring::default_provider().install_default();
        let hypervisor = Hypervisor::new(endpoint.clone()).unwrap();
        let world = hypervisor.world(0).await.unwrap();
        let instance = world.instances.into_iter().find(|instance| instance.id == *id).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let metadata = metadata::serve_on(listener, instance, hypervisor).unwrap();
        let bucket = Bucket::new(&cloud, wanted.names.bucket());

        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        std::fs::create_dir(folder.path().join("data")).unwrap();
        std::fs::write(
            path("users.acl"),
            "user default on nopass ~* &* +@all\nuser backup on >secret -@all +ping +info +bgrewriteaof +lastsave\n",
        )
        .unwrap();
        std::fs::write(
            path("redis.conf"),
            format!(
                "port 0\nunixsocket {}\ndir {}\nsave \"\"\nappendonly yes\nappendfilename appendonly.aof\nappendfsync everysec\n\
                 aof-use-rdb-preamble yes\naof-timestamp-enabled yes\naclfile {}\nlogfile {}\nrdbcompression no\nmasterauth geheim\n",
                path("s"),
                path("data"),
                path("users.acl"),
                path("engine.log")
            ),
        )
        .unwrap();
        std::fs::write(path("password"), "secret").unwrap();
        std::fs::write(
            path("agent.env"),
            format!(
                "INFRA_LABEL=master\nINFRA_BUCKET_URL={}/{}\nINFRA_REGION=us-east-1\nINFRA_PREFIX=backups/{ENV}\nINFRA_RPO_S={rpo_s}\nINFRA_DATA={}\n\
                 INFRA_SOCKET={}\nINFRA_CONFIG={}\nINFRA_USERS={}\nINFRA_RDB_CHECK=redis-check-rdb\nINFRA_PASSWORD_FILE={}\nINFRA_AGENT_HOME={}\n\
                 INFRA_METADATA=http://{address}\n{more}",
                endpoint,
                bucket.name(),
                path("data"),
                path("s"),
                path("redis.conf"),
                path("users.acl"),
                path("password"),
                path("agent"),
            ),
        )
        .unwrap();
        let mut world = World {
            aws,
            bucket,
            folder,
            program: agent(),
            niceness: 0,
            engine_under: Vec::new(),
            engine: None,
            agent: None,
            environments,
            _metadata: metadata,
        };
        world.start_engine();
        world
    }

    /// Plans failures of calls, in the form of the plugin's `/_hv/fault`.
    pub fn fail(&self, fault: Value) {
        call(self.aws.address, "POST", "/_hv/fault", Some(fault)).unwrap();
    }

    pub fn heal(&self) {
        call(self.aws.address, "DELETE", "/_hv/fault", None).unwrap();
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Starts the engine as its unit does: a torn log is mended before.
    pub fn start_engine(&mut self) {
        if self.path("data/appendonlydir").exists() {
            let mended = Command::new(&self.program)
                .arg("--settings")
                .arg(self.path("agent.env"))
                .arg("mend")
                .output()
                .unwrap();
            assert!(mended.status.success(), "{}", String::from_utf8_lossy(&mended.stderr));
        }
        let mut words = self.engine_under.clone();
        words.push("redis-server");
        self.engine = Some(spawn(
            Command::new(words[0])
                .args(&words[1..])
                .arg(self.path("redis.conf"))
                .envs(self.environments[0].clone()),
            &self.path("engine.out"),
        ));
        until("the engine answers", || self.ask(&["PING"]) == "PONG");
    }

    pub fn start_agent(&mut self) {
        assert!(
            self.program.exists(),
            "{} is missing: `cargo build --workspace` makes it",
            self.program.display()
        );
        self.agent = Some(spawn(
            Command::new("nice")
                .args(["-n", &self.niceness.to_string()])
                .arg(&self.program)
                .arg("--settings")
                .arg(self.path("agent.env"))
                .arg("run")
                .envs(self.environments[1].clone()),
            &self.path("agent.out"),
        ));
    }

    /// The same; returns when the first base is in the bucket, so that seconds from now on can be restored.
    pub fn start_shipping(&mut self) {
        self.start_agent();
        until("the first base is in the bucket", || {
            self.path("agent/last.json").exists()
        });
    }

    /// The same as [`start_agent`](Self::start_agent) with a folder of its own of a few hundred kilobytes, in a mount namespace that ends with it.
    pub fn start_agent_on_small_disk(&mut self) {
        let home = self.path("agent");
        std::fs::create_dir_all(&home).unwrap();
        let script = "mount -t tmpfs -o size=160k tmpfs \"$1\" && exec \"$2\" --settings \"$3\" run";
        self.agent = Some(spawn(
            Command::new("unshare")
                .args(["--mount", "--propagation", "private", "sh", "-c", script, "sh"])
                .arg(&home)
                .arg(&self.program)
                .arg(self.path("agent.env")),
            &self.path("agent.out"),
        ));
    }

    pub fn kill_engine(&mut self) {
        kill(&mut self.engine);
    }

    pub fn kill_agent(&mut self) {
        kill(&mut self.agent);
    }

    pub fn engine_pid(&self) -> u32 {
        self.engine.as_ref().unwrap().id()
    }

    pub fn agent_pid(&self) -> i32 {
        i32::try_from(self.agent.as_ref().unwrap().id()).unwrap()
    }

    pub fn ask(&self, words: &[&str]) -> String {
        let output = Command::new("redis-cli")
            .arg("-s")
            .arg(self.path("s"))
            .args(words)
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout).trim().to_string()
    }

    /// Makes a base through the running agent.
    pub fn base(&self) -> Output {
        Command::new(&self.program)
            .arg("--settings")
            .arg(self.path("agent.env"))
            .arg("base")
            .output()
            .unwrap()
    }

    pub fn status(&self) -> Value {
        let text = std::fs::read(self.path("agent/status.json")).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }

    pub fn shipped_until(&self) -> i64 {
        self.status()["shipped_until"].as_i64().unwrap_or(0)
    }

    pub fn agent_said(&self) -> String {
        std::fs::read_to_string(self.path("agent.out")).unwrap_or_default()
    }

    /// Returns a folder with what a wish chooses, and an engine that has loaded it.
    pub async fn restored(
        &self,
        catalogue: &Catalogue,
        wish: &Wish,
    ) -> infra::model::error::Result<(tempfile::TempDir, Engine)> {
        let folder = tempfile::tempdir().unwrap();
        let choice = restore::choose(catalogue, wish)?;
        let (nothing, step) = (restore::Altered::default(), Ui::silent().step("restore"));
        restore::to_folder(&self.bucket, ENV, &choice, folder.path(), false, &nothing, &step).await?;
        let engine = Engine::start(folder.path(), Duration::from_secs(30)).await?;
        Ok((folder, engine))
    }

    pub async fn catalogue(&self) -> Catalogue {
        read::catalogue(&self.bucket, ENV).await.unwrap()
    }

    /// Returns the increment that the engine writes now.
    pub fn increment(&self) -> PathBuf {
        let log = self.path("data/appendonlydir");
        let manifest = std::fs::read_to_string(log.join("appendonly.aof.manifest")).unwrap();
        let last = manifest.lines().rfind(|line| line.contains("type i")).unwrap();
        log.join(last.split(' ').nth(1).unwrap())
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("--- the agent\n{}", self.agent_said());
            println!("--- its status\n{}", self.status());
        }
        self.kill_agent();
        self.kill_engine();
    }
}

/// Returns the path at which cargo puts the agent.
pub fn agent() -> PathBuf {
    programs::path_of("infra-agent")
}
