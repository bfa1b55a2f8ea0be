//! A host's files in a folder of their own, its scripts, and a real engine that reads them.

use infra::effects::host::description::Description;
use infra::effects::host::programs::Binary;
use infra::effects::host::settings::{AppRights, MODULE_FILE, Password, Passwords};
use infra::effects::host::{AppAccess, Position, Settings, Upstream, tls};
use infra::model::config::Engine;
use infra::model::secret::Secret;
use std::collections::BTreeMap;
use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use testkit::programs;

pub fn templates() -> PathBuf {
    PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").unwrap()).join("templates")
}

/// Returns the module that lies beside the program.
fn module() -> PathBuf {
    let name = format!("infra-module-{}.so", std::env::consts::ARCH);
    Path::new(env!("CARGO_BIN_EXE_infra")).with_file_name(name)
}

pub fn source() -> Position {
    Position::FollowsSource(Upstream {
        host: "127.0.0.1".into(),
        port: 1,
        user: Some("someone".into()),
        password: Some(Secret::new("with \"quotes\" and # and é")),
        trust: None,
        seen_as: None,
    })
}

/// A source that the engine reaches through the tunnel.
pub fn source_with_tls() -> Position {
    let Position::FollowsSource(mut upstream) = source() else {
        unreachable!("a source is followed");
    };
    upstream.trust = Some(trust::Policy::Verify);
    Position::FollowsSource(upstream)
}

pub fn settings(position: Position, app_access: AppAccess) -> Settings {
    let now = "2026-11-23T00:00:00Z".parse().unwrap();
    let key = tls::authority_key().unwrap();
    let authority = tls::Issued {
        certificate: tls::make_authority("infra demo test", &key, now).unwrap(),
        key,
    };
    let subjects = tls::Subjects {
        addresses: vec!["127.0.0.1".parse().unwrap()],
        domains: Vec::new(),
    };
    let issued = tls::issue(&authority, "master", &subjects, now).unwrap();
    Settings {
        label: "master".into(),
        engine: Engine::Redis,
        position,
        app_access,
        endpoint: None,
        maxmemory: 400 << 20,
        settings: BTreeMap::from([
            ("maxmemory-policy".into(), "noeviction".into()),
            ("notify-keyspace-events".into(), String::new()),
            ("databases".into(), "20".into()),
        ]),
        authority: authority.certificate,
        source_certificate: None,
        certificate: issued.certificate,
        certificate_key: issued.key,
        passwords: Passwords {
            app: Password::only(Secret::new("app-password")),
            replication: Password::only(Secret::new("replication-password")),
            backup: Password::only(Secret::new("backup-password")),
            monitoring: Password::only(Secret::new("monitoring-password")),
            admin: Password::only(Secret::new("admin-password")),
        },
        app: AppRights::default(),
        backup: None,
        restored_by: None,
        exporters: None,
        module: Binary::new(std::fs::read(module()).expect("the module has to be there: `make agent` makes it")),
        replicas: vec![[127, 0, 0, 9].into()],
    }
}

/// A host's files in a folder of their own, and the engine that reads them.
pub struct Host {
    root: tempfile::TempDir,
    pub port: u16,
    pub engine: Option<Child>,
    /// Where the guard asks for this host's public address.
    pub metadata: String,
}

impl Host {
    pub fn with(description: &Description) -> Self {
        let root = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let host = Host {
            root,
            port,
            engine: None,
            metadata: "127.0.0.1/1".into(),
        };
        for folder in ["etc/infra", "etc/redis/tls", "data", "bin"] {
            std::fs::create_dir_all(host.path(folder)).unwrap();
        }
        for file in &description.files {
            if file.path.starts_with("/etc/infra") || file.path.starts_with("/etc/redis") {
                host.write(&file.path[1..], file.content.text());
            }
        }
        for script in ["infra-role", "infra-guard"] {
            let text = std::fs::read_to_string(templates().join(format!("{script}.sh"))).unwrap();
            host.write(&format!("bin/{script}"), &text);
        }
        host
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// Returns the text with a host's paths moved into this folder.
    pub fn moved(&self, text: &str) -> String {
        let root = self.root.path().display().to_string();
        text.replace("/etc/redis", &format!("{root}/etc/redis"))
            .replace("/etc/infra", &format!("{root}/etc/infra"))
            .replace(MODULE_FILE, &module().display().to_string())
            .replace(
                "/usr/local/sbin/infra-agent",
                &programs::path_of("infra-agent").display().to_string(),
            )
            .replace("/var/lib/redis", &format!("{root}/data"))
            .replace("/run/redis", &root)
            .replace("tls-port 6379", &format!("tls-port {}", self.port))
            .replace("bind * -::*", "bind 127.0.0.1")
    }

    pub fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), self.moved(text)).unwrap();
    }

    pub fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    pub fn start(&mut self) {
        self.start_by(Command::new("redis-server"));
    }

    pub fn start_by(&mut self, mut server: Command) {
        let child = server
            .arg(self.path("etc/redis/redis.conf"))
            .stdout(std::fs::File::create(self.path("log")).unwrap())
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        self.engine = Some(child);
        let begun = Instant::now();
        while self.ask(&["PING"]) != "PONG" {
            assert!(begun.elapsed() < Duration::from_secs(10), "{}", self.text("log"));
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Returns what somebody with a password gets over the network.
    pub fn ask_from_outside(&self, user: &str, password: &str, words: &[&str]) -> String {
        let output = Command::new("redis-cli")
            .args(["-p", &self.port.to_string(), "--tls", "--cacert"])
            .arg(self.path("etc/redis/tls/trusted.crt"))
            .args(["--user", user, "--pass", password, "--no-auth-warning"])
            .args(words)
            .output()
            .unwrap();
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat())
            .trim()
            .to_string()
    }

    pub fn client(&self, user: &str) -> Command {
        let mut client = Command::new("redis-cli");
        client
            .arg("-s")
            .arg(self.path("redis-server.sock"))
            .args(["--user", user, "--no-auth-warning"])
            .env("REDISCLI_AUTH", format!("{user}-password"));
        client
    }

    pub fn ask(&self, words: &[&str]) -> String {
        let output = self.client("admin").args(words).output().unwrap();
        String::from_utf8_lossy(&output.stdout).trim().to_string()
    }

    pub fn say(&self, line: &str) -> String {
        let mut client = self
            .client("admin")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        client.stdin.take().unwrap().write_all(line.as_bytes()).unwrap();
        String::from_utf8_lossy(&client.wait_with_output().unwrap().stdout)
            .trim()
            .to_string()
    }

    /// Returns whether the guard lets the engine start, and what it says.
    pub fn guard(&self) -> (bool, String) {
        let output = Command::new("bash")
            .arg(self.path("bin/infra-guard"))
            .env("INFRA_METADATA", &self.metadata)
            .env("INFRA_REFUSED", self.path("refused"))
            .env("INFRA_STARTED", self.path("started"))
            .env("INFRA_COPY_REFUSED", self.path("copy-refused"))
            .env("INFRA_SAID", self.path("journal"))
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.success(), said)
    }

    /// Gives this host an agent, which the guard asks to mend the log.
    pub fn add_agent(&self) {
        let lines = [
            "INFRA_LABEL=master",
            "INFRA_BUCKET_URL=http://127.0.0.1:1/bucket",
            "INFRA_REGION=us-east-1",
            "INFRA_PREFIX=backups/production",
            "INFRA_DATA=/var/lib/redis",
            "INFRA_SOCKET=/run/redis/redis-server.sock",
            "INFRA_CONFIG=/etc/redis/redis.conf",
            "INFRA_USERS=/etc/redis/users.acl",
            "INFRA_RDB_CHECK=redis-check-rdb",
            &format!("INFRA_AGENT_HOME={}", self.path("agent").display()),
        ];
        self.write("etc/infra/agent.env", &lines.join("\n"));
    }

    /// Ends the engine as a power cut does.
    pub fn crash(&mut self) {
        if let Some(mut engine) = self.engine.take() {
            engine.kill().unwrap();
            engine.wait().unwrap();
        }
    }

    pub fn role(&self, words: &[&str]) -> (bool, String) {
        let output = Command::new("bash")
            .arg(self.path("bin/infra-role"))
            .args(words)
            .env("INFRA_EPOCH", self.path("epoch"))
            // The rules of this computer's own network stay as they are.
            .env("INFRA_NFT", "true")
            .output()
            .unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&text).into_owned())
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if let Some(engine) = &mut self.engine {
            let _ = engine.kill();
            let _ = engine.wait();
        }
    }
}
