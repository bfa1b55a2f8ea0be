//! Runs the scratch server's own files on a real server, with right and wrong apps.

use super::scratch::{Files, Scratch};
use super::verdict::{Evidence, Verdict, judge};
use super::*;
use crate::effects::redis::testing::{TestCertificate, command};
use crate::model::config::Engine;
use std::path::Path;
use std::process::{Child, Command, Stdio};

struct Stand {
    process: Child,
    folder: tempfile::TempDir,
    port: u16,
    certificate: TestCertificate,
    scratch: Scratch,
}

impl Drop for Stand {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Writes the files as a host gets them, except for paths and port.
fn write(folder: &Path, port: u16, files: &Files, certificate: &TestCertificate) {
    let here = folder.display().to_string();
    let configuration = files
        .configuration
        .replace("/run/infra-rehearsal", &here)
        .replace("/etc/redis/tls/host.crt", &format!("{here}/host.crt"))
        .replace("/etc/redis/tls/host.key", &format!("{here}/host.key"))
        .replace("/etc/redis/tls/trusted.crt", &format!("{here}/trusted.crt"))
        .replace("tls-port 6380", &format!("tls-port {port}"))
        .replace("bind * -::*", "bind 127.0.0.1")
        .replace("logfile \"\"", "logfile log");
    for (name, text) in [
        ("server.conf", configuration.as_str()),
        ("users.acl", files.users.expose()),
        ("host.crt", &certificate.certificate),
        ("host.key", &certificate.key),
        ("trusted.crt", &certificate.authority),
    ] {
        std::fs::write(folder.join(name), text).unwrap();
    }
}

impl Stand {
    async fn new(app_commands: &[&str]) -> Stand {
        let settings = BTreeMap::from([
            ("databases".to_string(), "20".to_string()),
            ("maxmemory-policy".to_string(), "allkeys-lru".to_string()),
        ]);
        let scratch = Scratch::new(
            Engine::Redis,
            settings,
            app_commands.iter().map(ToString::to_string).collect(),
        );
        let certificate = TestCertificate::for_names(&["127.0.0.1"]);
        let folder = tempfile::tempdir().unwrap();
        let port = sandbox::addon::free_port(std::net::Ipv4Addr::LOCALHOST.into()).unwrap();
        write(folder.path(), port, &scratch.files().unwrap(), &certificate);
        let process = Command::new("redis-server")
            .arg("server.conf")
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let stand = Stand {
            process,
            folder,
            port,
            certificate,
            scratch,
        };
        let begun = std::time::Instant::now();
        while stand.admin().await.is_err() {
            assert!(begun.elapsed() < Duration::from_secs(20), "{}", stand.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        stand
    }

    async fn admin(&self) -> Result<Connection> {
        self.server(
            Some("admin"),
            &self.scratch.admin_password,
            Some(self.certificate.authority.clone()),
        )
        .connect(0)
        .await
    }

    fn server(&self, user: Option<&str>, password: &Secret, authority: Option<String>) -> Server {
        Server {
            label: "app".into(),
            host: "127.0.0.1".into(),
            port: self.port,
            user: user.map(str::to_string),
            password: Some(password.clone()),
            trust: authority.map(Trust::Authority),
        }
    }

    fn app(&self) -> Server {
        self.server(
            Some("app"),
            &self.scratch.app_password,
            Some(self.certificate.authority.clone()),
        )
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    async fn evidence(&self) -> Evidence {
        let mut evidence = evidence::gather(&mut self.admin().await.unwrap(), &self.log())
            .await
            .unwrap();
        evidence.ended = true;
        evidence.status = Some(0);
        evidence
    }

    /// Expects this verdict once the log has caught up with what was done.
    async fn fails_because(&self, words: &str) {
        let begun = std::time::Instant::now();
        loop {
            let verdict = judge(&self.evidence().await);
            if matches!(&verdict, Verdict::Failed { reason, .. } if reason.contains(words)) {
                return;
            }
            assert!(
                begun.elapsed() < Duration::from_secs(10),
                "{verdict:?}, not {words}\n{}",
                self.log()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn run(&self, commands: &[String]) -> Vec<bool> {
        let mut connection = self.app().connect(0).await.unwrap();
        let mut done = Vec::new();
        for words in commands {
            let answer = connection.ask(&command(words)).await.unwrap();
            done.push(!matches!(answer, ::redis::Value::ServerError(_)));
        }
        done
    }
}

#[tokio::test]
async fn a_correct_app_passes_and_watching_it_leaves_no_trace() {
    let stand = Stand::new(&[]).await;
    assert_eq!(
        stand.evidence().await,
        Evidence {
            ended: true,
            status: Some(0),
            ..Evidence::default()
        }
    );
    let key = format!("{}a", stand.scratch.prefix);
    let commands = [
        format!("SET {key} 1"),
        format!("GET {key}"),
        "SELECT 19".into(),
        "INFO".into(),
    ];
    assert_eq!(stand.run(&commands).await, [true; 4]);
    assert_eq!(judge(&stand.evidence().await), Verdict::Passed { writes: 1, reads: 1 });
}

#[tokio::test]
async fn an_app_without_tls_fails_for_that_reason() {
    let stand = Stand::new(&[]).await;
    let plain = stand.server(Some("app"), &stand.scratch.app_password, None);
    assert!(plain.connect(0).await.is_err());
    stand.fails_because("speaks no TLS").await;
}

#[tokio::test]
async fn an_app_that_ignores_the_authority_fails_for_that_reason() {
    let stand = Stand::new(&[]).await;
    let other = TestCertificate::for_names(&["127.0.0.1"]).authority;
    let distrustful = stand.server(Some("app"), &stand.scratch.app_password, Some(other));
    assert!(distrustful.connect(0).await.is_err());
    stand.fails_because("does not trust the authority").await;
}

#[tokio::test]
async fn an_app_that_sends_the_password_alone_fails_for_that_reason() {
    let stand = Stand::new(&[]).await;
    let nameless = stand.server(
        None,
        &stand.scratch.app_password,
        Some(stand.certificate.authority.clone()),
    );
    assert!(nameless.connect(0).await.is_err());
    stand.fails_because("without the user name").await;
}

#[tokio::test]
async fn an_app_that_runs_a_forbidden_command_fails_with_its_name() {
    let stand = Stand::new(&[]).await;
    let key = format!("{}a", stand.scratch.prefix);
    let commands = [format!("SET {key} 1"), format!("GET {key}"), "KEYS *".into()];
    assert_eq!(stand.run(&commands).await, [true, true, false]);
    stand.fails_because("runs KEYS and may not").await;

    let wider = Stand::new(&["keys"]).await;
    let key = format!("{}a", wider.scratch.prefix);
    let commands = [format!("SET {key} 1"), format!("GET {key}"), format!("KEYS {key}*")];
    assert_eq!(wider.run(&commands).await, [true, true, true]);
    assert!(judge(&wider.evidence().await).passed());
    assert_eq!(wider.run(&["SET elsewhere 1".into()]).await, [false]);
    wider.fails_because("outside its scratch prefix").await;
}

#[test]
fn the_files_hold_no_password() {
    let scratch = Scratch::new(Engine::Valkey, BTreeMap::new(), Vec::new());
    let files = scratch.files().unwrap();
    for password in [&scratch.app_password, &scratch.admin_password] {
        assert!(!files.configuration.contains(password.expose()) && !files.users.expose().contains(password.expose()));
    }
    assert!(files.configuration.contains("/etc/valkey/tls/host.crt"));
    assert!(files.users.expose().contains(&format!(
        "~{}* &* +@all -@admin -@dangerous -acl +acl|whoami +info",
        scratch.prefix
    )));
}
