//! Simulates distance between the operator and everything else, on one computer.
//! A command of `sandbox run` gets a network namespace with one interface. Each Ethernet frame
//! between that interface and the sandbox's bridge passes through this process and waits for half a
//! round trip. Every connection has the delay, handshakes and refusals included. Addresses and
//! certificates stay, and no frame waits for another. Machines, add-on and app talk directly.
//!
//! The kernel's own means for this, netem, is missing in many kernels.

mod relay;
mod tap;

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::command::ip;
use crate::network::{BRIDGE, Namespace, PREFIX};

pub use relay::Relay;
pub use tap::Tap;

/// The operator's own address; without a delay it has the bridge's.
pub const OPERATOR_ADDRESS: &str = "10.77.0.2";
/// More frames than are under way here; one without room is lost, as on a network.
const QUEUE: u32 = 10_000;

/// The operator's namespace, joined to the bridge by a [`Relay`] until this is dropped.
pub struct Delay {
    _relay: Relay,
}

/// Returns the name of the namespace and of the bridge's port.
fn name() -> String {
    format!("{PREFIX}far")
}

impl Delay {
    /// Makes the namespace. `down` finds it by its name.
    pub async fn raise(round_trip: Duration) -> Result<Self> {
        let namespace = Namespace::named(name());
        let making = async {
            namespace.add().await?;
            let far = Tap::open("eth0", Some(namespace.path())).await?;
            let near = Tap::open(&name(), None).await?;
            namespace
                .batch(&format!(
                    "link set lo up\naddr add {OPERATOR_ADDRESS}/16 dev eth0\nlink set eth0 txqueuelen {QUEUE} up\n"
                ))
                .await?;
            let port = format!("link set {} master {BRIDGE} txqueuelen {QUEUE} up\n", name());
            ip(&["-batch", "-"], &port).await?;
            Ok(Relay::between(far, near, round_trip / 2))
        };
        let relay = making
            .await
            .map_err(|error: anyhow::Error| error.context("make the operator's network"))?;
        Ok(Self { _relay: relay })
    }

    /// Forgets who had an address, after it moved to another machine.
    pub async fn forget_neighbours() {
        let namespace = Namespace::named(name());
        if Path::new(&namespace.path()).exists() {
            namespace.forget_neighbours().await;
        }
    }
}

/// Moves this process into the operator's namespace; what it starts or becomes stays there.
pub fn enter() -> Result<()> {
    let path = Namespace::named(name()).path();
    if !nix::unistd::geteuid().is_root() {
        bail!("cannot enter the operator's network: only root may; run it as `sudo sandbox run`");
    }
    let file = std::fs::File::open(&path).with_context(|| format!("open {path}"))?;
    nix::sched::setns(file, nix::sched::CloneFlags::CLONE_NEWNET).with_context(|| format!("enter {path}"))
}
