//! The sandbox's AWS API, one server for each test, and an impatient supervisor of machines that are not there.

use crate::processes::bounded;
use crate::{access, programs};
use infra::decide::cloud::plan;
use infra::effects::cloud::Cloud;
use infra::model::cloud::{Expiry, Plan, Wanted};
use infra::model::names::Names;
use infra::model::role::Role;
use infra::model::secret::Secret;
use infra::model::secrets::{RedisUser, Secrets, parameter};
use infra::ui::Ui;
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

pub const PUBLIC_KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ infra";
/// In every secret that the tests make, so that it can be looked for.
pub const SECRET: &str = "x-very-secret-x";

/// A running server with its supervisor. Both end with it.
pub struct Aws {
    pub address: SocketAddr,
    server: Child,
    stop: Arc<AtomicBool>,
    supervisor: Option<std::thread::JoinHandle<()>>,
}

impl Aws {
    pub fn start() -> Self {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, crate::free_port()));
        let script = programs::package().join("sandbox/aws/localcloud.py");
        let python = access::paths().python_environment().join("bin/python");
        assert!(
            python.exists(),
            "{} is missing: `cargo run -p sandbox -- up` makes it",
            python.display()
        );
        let server = bounded(
            Command::new(python)
                .arg(script)
                .args(["--listen", &address.to_string()]),
        )
        .spawn()
        .unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let mut aws = Aws {
            address,
            server,
            stop: stop.clone(),
            supervisor: None,
        };
        aws.wait_until_ready();
        aws.supervisor = Some(std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                acknowledge_all(address);
                std::thread::sleep(Duration::from_millis(100));
            }
        }));
        aws
    }

    fn wait_until_ready(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while call(self.address, "GET", "/_hv/health", None).is_none() {
            assert!(Instant::now() < deadline, "the AWS API was not ready after a minute");
            assert!(self.server.try_wait().unwrap().is_none(), "the AWS API ended by itself");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    pub async fn connect(&self) -> Cloud {
        let keys = call(self.address, "GET", "/_hv/operator", None).unwrap();
        let (id, secret) = (
            keys["access_key_id"].as_str().unwrap(),
            keys["secret_access_key"].as_str().unwrap(),
        );
        self.connect_as(id, secret).await.unwrap()
    }

    pub async fn connect_as(&self, id: &str, secret: &str) -> infra::model::error::Result<Cloud> {
        self.connect_until(id, secret, None, "us-east-1").await
    }

    /// The operator with credentials that end, in a region.
    pub async fn connect_for(&self, life: Duration, region: &str) -> infra::model::error::Result<Cloud> {
        let keys = call(self.address, "GET", "/_hv/operator", None).unwrap();
        let text = |name: &str| keys[name].as_str().unwrap();
        let end = std::time::SystemTime::now() + life;
        self.connect_until(text("access_key_id"), text("secret_access_key"), Some(end), region)
            .await
    }

    async fn connect_until(
        &self,
        id: &str,
        secret: &str,
        end: Option<std::time::SystemTime>,
        region: &str,
    ) -> infra::model::error::Result<Cloud> {
        let credentials = aws_sdk_s3::config::Credentials::new(id, secret, None, end, "test");
        let config = aws_config::defaults(aws_config::BehaviorVersion::v2026_01_12())
            .http_client(infra::effects::cloud::http_client(&Ui::silent()))
            .credentials_provider(credentials)
            .region(aws_config::Region::new(region.to_string()))
            .endpoint_url(format!("http://{}", self.address))
            .load()
            .await;
        Cloud::over(&config, &Ui::silent()).await
    }

    /// Turns knobs of the AWS API; see docs/sandbox.md.
    pub fn turn(&self, knobs: Value) {
        call(self.address, "POST", "/_hv/knobs", Some(knobs)).unwrap();
    }

    /// The machines as their supervisor sees them.
    pub fn machines(&self) -> Vec<Value> {
        let world = call(self.address, "GET", "/_hv/world", None).unwrap();
        world["instances"].as_array().unwrap().clone()
    }
}

impl Drop for Aws {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.supervisor.take().map(|thread| thread.join());
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

fn acknowledge_all(address: SocketAddr) {
    let Some(world) = call(address, "GET", "/_hv/world", None) else {
        return;
    };
    for instance in world["instances"].as_array().into_iter().flatten() {
        let state = match instance["state"].as_str() {
            Some("pending") => "running",
            Some("stopping") => "stopped",
            Some("shutting-down") => "terminated",
            _ => continue,
        };
        call(
            address,
            "POST",
            "/_hv/ack",
            Some(json!({"instance": instance["id"], "state": state})),
        );
    }
}

/// One request without credentials, answered with JSON.
pub fn call(address: SocketAddr, method: &str, path: &str, body: Option<Value>) -> Option<Value> {
    let body = body.map(|body| body.to_string()).unwrap_or_default();
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(30))).ok()?;
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    head.contains(" 200 ").then(|| serde_json::from_str(body).ok())?
}

/// Returns the defaults of infra.yml for an environment of this name.
pub fn wanted(cloud: &Cloud, env: &str) -> Wanted {
    Wanted {
        names: Names::new("demo", env, cloud.account(), cloud.region()).unwrap(),
        generation: 1_700_000_000,
        tls_only: cloud.s3_over_tls(),
        expiry: Expiry::keeping(48, 35, 12, 3600),
        object_lock: None,
        parameters: Wanted::standard_parameters(),
        admin_cidrs: vec!["203.0.113.7/32".parse().unwrap()],
        app_cidrs: vec!["0.0.0.0/0".parse().unwrap()],
        scrape_cidrs: Vec::new(),
        own_address: None,
        instance_type: "t3.micro".into(),
        image: "debian-13".into(),
        disk_gb: 16,
        zones: Vec::new(),
        subnet: None,
    }
}

pub fn make_parameter(name: &str, secrets: &Secrets) -> infra::model::error::Result<Secret> {
    Ok(Secret::new(match name {
        parameter::SSH_PUBLIC_KEY => {
            secrets.ssh_key()?;
            PUBLIC_KEY.to_string()
        }
        parameter::CA_CERT => {
            secrets.ca_key()?;
            "certificate".to_string()
        }
        name => format!("{name} {SECRET}"),
    }))
}

pub fn user_data(role: Role, secrets: &Secrets) -> infra::model::error::Result<Secret> {
    secrets.password(RedisUser::App)?;
    let key = secrets
        .bootstrap_host_key(role)
        .expect("a new host has a bootstrap key");
    Ok(Secret::new(format!("#cloud-config\n# {role} {}\n", key.expose())))
}

/// Finds, plans and applies; gives the plan that was carried out.
pub async fn up(
    cloud: &Cloud,
    wanted: &Wanted,
) -> infra::model::error::Result<(Plan, infra::effects::cloud::apply::Outcome)> {
    let found = infra::effects::cloud::find::find(cloud, wanted).await?;
    let plan = plan(wanted, &found)?;
    let inputs = infra::effects::cloud::apply::Inputs {
        parameter: &make_parameter,
        user_data: &user_data,
    };
    let outcome = infra::effects::cloud::apply::apply(cloud, wanted, &found, &plan, &inputs, &Ui::silent()).await?;
    Ok((plan, outcome))
}
