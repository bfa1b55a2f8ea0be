//! A hosted add-on and the demo's processes on loopback, for the tests of behaviour.

#![allow(dead_code, reason = "each test program uses its part")]

pub mod platform;
pub mod relay;

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sandbox::addon::{self, Addon, Profile, Tls};
use sandbox::children::{self, Launcher};
use sandbox::connect::Target;
use sandbox::demo::ledger;
use tokio::process::Child;

pub const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// How long a test waits before it fails.
pub const PATIENCE: Duration = Duration::from_secs(30);

pub async fn rent(folder: &Path, name: &str, tls: bool, profile: Profile) -> Addon {
    let tls = if tls { Tls::default() } else { Tls::Off };
    rent_showing(folder, name, tls, profile).await
}

/// Rents an add-on that shows this kind of certificate.
pub async fn rent_showing(folder: &Path, name: &str, tls: Tls, profile: Profile) -> Addon {
    addon::start(options(folder, name, tls, profile)).await.unwrap()
}

/// Returns an add-on's options for a test to change.
pub fn options(folder: &Path, name: &str, tls: Tls, profile: Profile) -> addon::Options {
    addon::Options {
        name: name.to_owned(),
        state_dir: folder.to_owned(),
        host: None,
        listen: vec![LOOPBACK],
        port: 0,
        password: "hosted0secret".to_owned(),
        tls,
        authority: Some(addon::authority("an authority").unwrap()),
        profile,
        persistent: false,
        maxmemory: None,
        connections: None,
        databases: 16,
        plain_port: None,
    }
}

/// A process of the demo, as the platform starts it.
pub async fn dyno(launcher: &Launcher, ledgers: &Path, addon: &Addon, role: &str, name: &str) -> Child {
    dyno_with(launcher, ledgers, addon, role, name, &[]).await
}

/// Starts a process of the demo with further variables.
pub async fn dyno_with(
    launcher: &Launcher,
    ledgers: &Path,
    addon: &Addon,
    role: &str,
    name: &str,
    variables: &[(&str, &str)],
) -> Child {
    let mut command = children::command(env!("CARGO_BIN_EXE_demo-app"), [role]);
    command
        .env("DYNO", name)
        .env("SANDBOX_LEDGER_DIR", ledgers)
        .env("REDIS_URL", addon.url());
    if let Some(certificate) = addon.certificate() {
        command.env("REDIS_CA", certificate);
    }
    command.envs(variables.iter().copied()).stdin(Stdio::null());
    launcher.start(command).await.unwrap()
}

pub async fn end(child: &mut Child, signal: Signal) {
    kill(Pid::from_raw(child.id().unwrap().cast_signed()), signal).unwrap();
    tokio::time::timeout(PATIENCE, child.wait()).await.unwrap().unwrap();
}

pub fn acknowledged(ledgers: &Path) -> u64 {
    if ledgers.exists() {
        ledger::read_folder(ledgers).unwrap().acknowledgements()
    } else {
        0
    }
}

pub async fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    tokio::time::timeout(PATIENCE, async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .unwrap_or_else(|_| panic!("waited too long until {what}"));
}

pub async fn connect(addon: &Addon, database: i64) -> sandbox::connect::Connection {
    let target = Target::parse(addon.url(), addon.certificate()).unwrap();
    target.connect(database, Duration::from_secs(10)).await.unwrap()
}
