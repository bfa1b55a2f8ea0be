//! The tunnel on the master host: the agent's unit that leads the engine to a source with TLS.
//!
//! The engine itself checks no name, and accepts no leaf below a root that it does not know. So it
//! follows a port on loopback, and the tunnel checks the certificate. A plain source needs no
//! tunnel: there is nothing to check, and the engine reaches it by itself.

use super::backup::AGENT_PROGRAM;
use super::description::{Description, Reaction, Unit, root_file};
use super::engine::Layout;
use super::programs::Binary;
use super::reach::Reach;
use super::settings::{Copied, Position};
use super::{status_file, templates};
use crate::effects::remote::Session;
use crate::model::error::Result;
use infra_agent::record::{Obstacle, TunnelStatus};
use serde::Serialize;

pub const UNIT: &str = "infra-tunnel.service";
/// The address at which the engine follows: on loopback alone, one port below its own.
pub const HOST: &str = "127.0.0.1";
pub const PORT: u16 = 6378;
const STATUS: &str = "/run/infra-tunnel/status.json";

/// Adds the tunnel to a master that follows or copies a source with TLS, and ends it where none is needed.
pub(super) fn describe(
    position: &Position,
    agent: &Binary,
    layout: &Layout,
    description: &mut Description,
) -> Result<()> {
    let unit = |runs| Unit {
        name: UNIT.into(),
        enabled: runs,
        active: Some(runs),
    };
    match position {
        Position::FollowsSource(source) | Position::CopiesSource(Copied { upstream: source, .. }) => {
            let reach = Reach::new(&source.host, source.port, source.trust, source.seen_as.clone())?;
            if let Some(trust) = reach.trust {
                let path = format!("/etc/systemd/system/{UNIT}");
                let text = render(&reach, trust, agent, layout)?;
                let restart = Some(Reaction::Restart(UNIT.into()));
                description.files.push(root_file(&path, 0o644, text, restart));
            }
            // Before the engine: it is started, or told its role, once the tunnel leads somewhere.
            description.units.insert(0, unit(reach.trust.is_some()));
            description.source = Some(reach);
        }
        // A promoted master may be made to follow again. After that the tunnel idles.
        Position::Master | Position::FollowsMaster { .. } => {}
    }
    Ok(())
}

fn render(reach: &Reach, trust: trust::Policy, agent: &Binary, layout: &Layout) -> Result<String> {
    #[derive(Serialize)]
    struct Values<'a> {
        unit: &'a str,
        listen: String,
        host: &'a str,
        port: u16,
        trust: String,
        status: &'a str,
        agent: &'a str,
    }
    let values = Values {
        unit: layout.unit,
        listen: format!("{HOST}:{PORT}"),
        host: &reach.host,
        port: reach.port,
        trust: trust.to_string(),
        status: STATUS,
        agent: agent.sha256(),
    };
    templates::render(UNIT, templates::TUNNEL_SERVICE, &values)
}

/// Returns the tunnel's report; `None` if there is no tunnel, or none that has run.
pub async fn look(session: &Session) -> Result<Option<TunnelStatus>> {
    status_file::read(session, STATUS, "tunnel").await
}

/// Returns what to try if the tunnel does not connect.
pub fn remedy(obstacle: Obstacle) -> &'static str {
    match obstacle {
        Obstacle::Name => "see whether the provider moved the source, and the name server of the master's network",
        Obstacle::Refused | Obstacle::NoAnswer => {
            "see whether the source runs, and whether the provider has a list of allowed addresses with the master's in it"
        }
        Obstacle::CertificateChanged => {
            "compare the new certificate with what the provider says, then run `infra check --pin` and `infra up`"
        }
        Obstacle::AuthorityUnknown | Obstacle::NameDiffers => {
            "compare the certificate with what the provider says; `infra check --pin` accepts exactly that one"
        }
        Obstacle::Expired => "ask the provider to renew the certificate",
        Obstacle::KeySize => {
            "ask the provider for a certificate with an RSA key of 2048 to 8192 bits, or another kind of key"
        }
        Obstacle::CertificateRefused => "somebody else may answer in the source's place: ask the provider",
        Obstacle::Tls => "see whether the source's port speaks TLS",
        Obstacle::Ended | Obstacle::Other => "see `infra ssh master -- sudo journalctl -u infra-tunnel`",
    }
}

/// The answer of a host that tried to reach a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trial {
    Reached(String),
    Failed(String),
    /// The host's agent is of a version that cannot try.
    NotTried,
}

/// Lets a host try to reach the source. Changes nothing.
pub async fn try_reach(session: &Session, reach: &Reach) -> Result<Trial> {
    let trust = reach.trust.map(|trust| format!(" --trust {trust}")).unwrap_or_default();
    let command = format!(
        "sudo -n {AGENT_PROGRAM} reach --host {} --port {}{trust}",
        reach.host, reach.port
    );
    let output = session.run(&command, None).await?;
    Ok(match output.status {
        0 if output.succeeded() => Trial::Reached(output.text().trim().into()),
        1 => Trial::Failed(reason(&String::from_utf8_lossy(&output.stderr))),
        _ => Trial::NotTried,
    })
}

/// Returns the agent's words without its name.
fn reason(said: &str) -> String {
    let said = said.trim();
    said.strip_prefix("infra-agent: failed to ").unwrap_or(said).into()
}
