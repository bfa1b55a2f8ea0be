//! The sandbox's network: one bridge, a namespace for each machine, and the rules between them.
//! Nothing leads out of the computer: no machine has a default route, and the bridge is closed.

mod acl;
mod firewall;
mod namespace;

use anyhow::{Context, Result, bail};
use tokio::process::Command;

use crate::command::{ip, run};
use crate::paths::Paths;

pub use acl::Acl;
pub use firewall::Rule;
pub use namespace::{Namespace, in_namespace};

/// Every interface and namespace of the sandbox begins with this; `down` finds them by it.
pub const PREFIX: &str = "infra-sb";
/// The bridge that all machines hang on.
pub const BRIDGE: &str = "infra-sb0";
/// The bridge's own address: AWS, platform and add-on answer here.
pub const BRIDGE_ADDRESS: &str = "10.77.0.1";
/// The only network there is.
pub const NETWORK: &str = "10.77.0.0/16";
/// The sandbox's own table on this computer.
pub const HOST_TABLE: &str = "infra_sandbox";

/// Makes the bridge and forbids forwarding from it. Its alias names the state folder of its owner.
pub async fn raise(paths: &Paths) -> Result<()> {
    let alias = format!("\"{}\"", paths.state().display());
    let script = format!(
        "link add {BRIDGE} type bridge stp_state 0 forward_delay 0\n\
         link set {BRIDGE} alias {alias}\n\
         addr add {BRIDGE_ADDRESS}/16 dev {BRIDGE}\n\
         link set {BRIDGE} up\n"
    );
    ip(&["-batch", "-"], &script)
        .await
        .context("make the sandbox's bridge")?;
    run(Command::new("nft").args(["-f", "-"]), &host_rules())
        .await
        .context("forbid forwarding from the sandbox's bridge")?;
    Ok(())
}

/// Fails with the other owner's name if a bridge stands that belongs to another state folder.
pub fn check_free(paths: &Paths) -> Result<()> {
    match owner() {
        Some(owner) if owner != paths.state().to_string_lossy() => bail!(
            "another sandbox is up, with its state in {owner}: this computer has room for one; end it with `INFRA_SANDBOX_DIR={owner} sandbox down`"
        ),
        _ => Ok(()),
    }
}

/// Returns the state folder that owns the bridge; `None` if the bridge is half made.
pub fn owner() -> Option<String> {
    let alias = std::fs::read_to_string(format!("/sys/class/net/{BRIDGE}/ifalias")).ok()?;
    Some(alias.trim().to_owned()).filter(|alias| !alias.is_empty())
}

/// Makes this computer ask again who has which address.
pub async fn forget_neighbours() {
    let flushed = ip(&["neigh", "flush", "dev", BRIDGE], "").await;
    if let Err(error) = flushed {
        tracing::debug!("{error:#}");
    }
}

/// With br_netfilter, bridged packets pass the forward hook too, with the bridge on both sides.
fn host_rules() -> String {
    format!(
        "table inet {HOST_TABLE} {{\n\
         \tchain forward {{\n\
         \t\ttype filter hook forward priority -10; policy accept;\n\
         \t\tiifname \"{BRIDGE}\" oifname != \"{BRIDGE}\" drop\n\
         \t\toifname \"{BRIDGE}\" iifname != \"{BRIDGE}\" drop\n\
         \t}}\n\
         \tchain input {{\n\
         \t\ttype filter hook input priority -10; policy accept;\n\
         \t\tiifname \"{BRIDGE}\" ip daddr != {NETWORK} drop\n\
         \t}}\n\
         }}\n"
    )
}
