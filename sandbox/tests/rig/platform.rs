//! A platform on loopback, and a client that shows everything of an answer.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use reqwest::{Client, Method, Response};
use sandbox::addon::free_port;
use sandbox::platform::{self, Options};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{LOOPBACK, PATIENCE};

pub const KEY: &str = "platform-key";
pub const ACCEPT: &str = "application/vnd.heroku+json; version=3";

pub struct Platform {
    pub client: Client,
    pub url: String,
    shutdown: CancellationToken,
    serving: JoinHandle<anyhow::Result<()>>,
}

impl Platform {
    pub async fn serve(folder: &Path, time_scale: f64) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let address = SocketAddr::new(LOOPBACK, free_port(LOOPBACK).unwrap());
        let options = Options {
            listen: vec![address],
            api_key: KEY.to_owned(),
            state_dir: folder.to_owned(),
            time_scale,
        };
        let shutdown = CancellationToken::new();
        let serving = tokio::spawn(platform::serve(options, shutdown.clone()));
        let started = std::time::Instant::now();
        while tokio::net::TcpStream::connect(address).await.is_err() {
            assert!(started.elapsed() < PATIENCE, "the platform does not listen");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Self {
            client: Client::new(),
            url: format!("http://{address}"),
            shutdown,
            serving,
        }
    }

    pub async fn end(self) {
        self.shutdown.cancel();
        self.serving.await.unwrap().unwrap();
    }

    pub async fn try_send(&self, method: Method, path: &str, body: Option<Value>) -> reqwest::Result<Response> {
        let mut request = self.client.request(method, format!("{}{path}", self.url));
        request = request.header("Accept", ACCEPT).bearer_auth(KEY);
        if let Some(body) = body {
            request = request.json(&body);
        }
        request.send().await
    }

    pub async fn send(&self, method: Method, path: &str, body: Option<Value>) -> (u16, Value) {
        let response = self.try_send(method, path, body).await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap())
    }

    pub async fn get(&self, path: &str) -> Value {
        let (status, body) = self.send(Method::GET, path, None).await;
        assert!(status < 300, "GET {path}: {status} {body}");
        body
    }

    pub async fn done(&self, method: Method, path: &str, body: Value) -> Value {
        let (status, answer) = self.send(method.clone(), path, Some(body)).await;
        assert!(status < 300, "{method} {path}: {status} {answer}");
        answer
    }

    /// An app with these commands, and an add-on of this URL attached as REDIS.
    pub async fn create_app(&self, formation: Value, config: Value, url: &str) {
        let app = json!({"name": "demo", "region": "us", "formation": formation, "config": config});
        self.done(Method::POST, "/_sandbox/apps", app).await;
        let addon = json!({"name": "redis-oval-1", "plan": "hosted-redis:mini", "url": url, "attachment": "REDIS"});
        self.done(Method::POST, "/_sandbox/apps/demo/addons", addon).await;
    }

    pub async fn behave(&self, behaviour: Value) {
        self.done(Method::POST, "/_sandbox/apps/demo/behaviour", behaviour)
            .await;
    }

    pub async fn scale(&self, kind: &str, quantity: u32) {
        let body = json!({"updates": [{"type": kind, "quantity": quantity.to_string()}]});
        self.done(Method::PATCH, "/apps/demo/formation", body).await;
    }

    /// Returns all processes of the app, also those that ended.
    pub async fn processes(&self) -> Vec<Value> {
        self.get("/_sandbox/report").await["apps"][0]["processes"]
            .as_array()
            .unwrap()
            .clone()
    }

    pub async fn wait_for_processes(&self, what: &str, mut holds: impl FnMut(&[Value]) -> bool) -> Vec<Value> {
        let started = std::time::Instant::now();
        loop {
            let processes = self.processes().await;
            if holds(&processes) {
                return processes;
            }
            assert!(
                started.elapsed() < PATIENCE,
                "waited too long until {what}: {processes:#?}"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}
