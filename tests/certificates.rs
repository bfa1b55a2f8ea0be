//! `check --pin` with the real platform and a real hosted Redis on loopback, by every kind of certificate that hosts show.

#![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use assert_cmd::Command;
use infra::model::config::Config;
use sandbox::addon::{self, Addon, Tls};
use sandbox::platform;
use serde_json::json;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Output;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const KEY: &str = "platform-key";
const PATIENCE: Duration = Duration::from_secs(20);
const SOURCE: &str = "name: demo\nsource:\n  config_var: REDIS_URL # theirs\napp: {name: demo}\n";

/// An app whose hosted Redis shows this kind of certificate.
struct Rented {
    folder: tempfile::TempDir,
    api: String,
    addon: Addon,
    stop: CancellationToken,
}

impl Drop for Rented {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Rented {
    async fn new(tls: Tls) -> Rented {
        let folder = tempfile::tempdir().unwrap();
        let addon = addon::start(addon::Options {
            name: "redis".into(),
            state_dir: folder.path().into(),
            host: None,
            listen: vec![LOOPBACK],
            port: 0,
            password: "hosted0secret".into(),
            tls,
            authority: Some(addon::authority("a public authority").unwrap()),
            profile: addon::Profile::Default,
            persistent: false,
            maxmemory: None,
            connections: None,
            databases: 16,
            plain_port: None,
        });
        let addon = addon.await.unwrap();
        let address = SocketAddr::new(LOOPBACK, addon::free_port(LOOPBACK).unwrap());
        let stop = CancellationToken::new();
        let options = platform::Options {
            listen: vec![address],
            api_key: KEY.into(),
            state_dir: folder.path().into(),
            time_scale: 0.0,
        };
        tokio::spawn(platform::serve(options, stop.clone()));
        let begun = Instant::now();
        while tokio::net::TcpStream::connect(address).await.is_err() {
            assert!(begun.elapsed() < PATIENCE);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let rented = Rented {
            folder,
            api: format!("http://{address}"),
            addon,
            stop,
        };
        let url = rented.addon.url();
        rented
            .admin("apps", json!({"name": "demo", "region": "us", "formation": {}}))
            .await;
        let attached = json!({"name": "redis-oval-1", "plan": "hosted-redis:mini", "url": url, "attachment": "REDIS"});
        rented.admin("apps/demo/addons", attached).await;
        std::fs::write(rented.file("infra.yml"), SOURCE).unwrap();
        rented
    }

    async fn admin(&self, path: &str, body: serde_json::Value) {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let request = reqwest::Client::new().post(format!("{}/_sandbox/{path}", self.api));
        let response = request.json(&body).send().await.unwrap();
        assert!(
            response.status().is_success(),
            "{path}: {}",
            response.text().await.unwrap()
        );
    }

    fn file(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    /// Trusts this authority alone, as a system's own store would be given.
    fn trusting(&self, authority: &str) -> std::path::PathBuf {
        let file = self.file("roots.crt");
        std::fs::write(&file, authority).unwrap();
        file
    }

    async fn check_pin(&self, roots: &Path) -> Output {
        let mut command = Command::cargo_bin("infra").unwrap();
        command
            .env_clear()
            .envs([("HEROKU_API_KEY", KEY), ("HEROKU_API_URL", &self.api)])
            .env("SSL_CERT_FILE", roots)
            .current_dir(self.folder.path())
            .args(["check", "--pin"]);
        tokio::task::spawn_blocking(move || command.output().unwrap())
            .await
            .unwrap()
    }

    fn pinned(&self) -> Option<String> {
        let text = std::fs::read_to_string(self.file("infra.yml")).unwrap();
        assert!(text.contains("# theirs"), "{text}");
        let pin = Config::parse(&text).unwrap().source.tls_pin;
        pin.map(|pin| pin.0.to_string())
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.as_slice(), &output.stderr].concat()).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leaf_is_pinned_whatever_issued_it() {
    for (tls, count, issuer) in [
        (Tls::On, "2 certificates", "CN=Hosted Redis root"),
        (Tls::SelfSigned, "1 certificate", "CN=rcgen self signed cert"),
        (Tls::V1, "2 certificates", "CN=Hosted Redis root"),
        (Tls::Authority, "2 certificates", "CN=infra sandbox intermediate"),
    ] {
        let rented = Rented::new(tls).await;
        let roots = rented.trusting(&addon::authority("somebody else").unwrap().certificate);
        let output = rented.check_pin(&roots).await;
        let said = said(&output);
        assert!(output.status.success(), "{tls:?}: {said}");
        let pin = rented.pinned().unwrap_or_else(|| panic!("{tls:?}: {said}"));
        assert!(
            said.contains(&pin) && said.contains(count) && said.contains(issuer),
            "{said}"
        );
        assert!(said.contains("4096-01-01"), "{said}");
        let names = if tls == Tls::V1 { "no name" } else { "127.0.0.1" };
        assert!(said.contains(names), "{tls:?}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_pinned_if_a_public_authority_vouches_for_the_name() {
    let rented = Rented::new(Tls::Authority).await;
    let roots = rented.trusting(rented.addon.certificate().unwrap());
    let output = rented.check_pin(&roots).await;
    let said = said(&output);
    assert!(output.status.success() && said.contains("nothing to pin"), "{said}");
    assert_eq!(rented.pinned(), None);

    // A pin that is there already is kept up to date.
    let pinned = SOURCE.replace(
        "  config_var",
        &format!("  tls_pin: sha256:{}\n  config_var", "ab".repeat(32)),
    );
    std::fs::write(rented.file("infra.yml"), &pinned).unwrap();
    let output = rented.check_pin(&roots).await;
    assert!(output.status.success());
    assert!(!rented.pinned().unwrap().contains("abab"));
}

#[tokio::test(flavor = "multi_thread")]
async fn verify_by_name_is_not_turned_into_a_pin() {
    let rented = Rented::new(Tls::On).await;
    let verify = SOURCE.replace("  config_var", "  tls: verify\n  config_var");
    std::fs::write(rented.file("infra.yml"), &verify).unwrap();
    let roots = rented.trusting(&addon::authority("somebody else").unwrap().certificate);
    let output = rented.check_pin(&roots).await;
    let said = said(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("CN=Hosted Redis root") && said.contains("remove `tls: verify`"),
        "{said}"
    );
    assert_eq!(rented.pinned(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_without_tls_needs_no_pin() {
    let rented = Rented::new(Tls::Off).await;
    let output = rented.check_pin(Path::new("/dev/null")).await;
    let said = said(&output);
    assert_eq!(output.status.code(), Some(64), "{said}");
    assert!(said.contains("no pin is needed"), "{said}");
    assert_eq!(rented.pinned(), None);
}
