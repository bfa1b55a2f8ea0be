//! The tunnel: a port on loopback that leads to the source, by TLS and a certificate that is
//! checked here. The engine follows that port.
//!
//! [`names`] finds addresses, [`dial`] connects and judges the certificate, [`splice`] carries
//! bytes, [`report`] says how it goes. Deliberately not here: Redis's protocol, and retries. The
//! engine connects again every second, and each time everything is looked at anew.

mod dial;
mod names;
mod question;
mod report;
mod splice;

use anyhow::{Context, Result, bail};
use dial::{Dialled, Failure, Source};
use infra_agent::record::Obstacle;
use names::Resolver;
use nix::sys::socket::{setsockopt, sockopt};
use report::Report;
use splice::{Broken, End};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use std::{fmt, io};
use trust::Policy;

/// The engine has one connection, or two during a full copy. More are somebody else's mistake.
const MOST_CONNECTIONS: usize = 16;
/// How often the report says that the tunnel is alive.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// Bytes that the source does not acknowledge end the connection after this long.
const UNANSWERED: Duration = Duration::from_secs(30);
/// Time limit of a connection without TLS: name and TCP together.
const REACHING: Duration = Duration::from_secs(15);
/// A connection's thread needs little: its buffers are elsewhere.
const STACK: usize = 256 << 10;

/// The source, and where its name is looked up.
#[derive(Clone, clap::Args)]
pub struct Target {
    /// Name or address of the source
    #[arg(long)]
    host: String,
    #[arg(long)]
    port: u16,
    /// The file with names and addresses of hosts
    #[arg(long, default_value = "/etc/hosts")]
    hosts: PathBuf,
    /// The file that names the name servers
    #[arg(long, default_value = "/etc/resolv.conf")]
    resolv_conf: PathBuf,
}

impl Target {
    fn parts(&self) -> (Source, Resolver) {
        let source = Source {
            host: self.host.clone(),
            port: self.port,
        };
        let resolver = Resolver {
            hosts: self.hosts.clone(),
            resolv_conf: self.resolv_conf.clone(),
        };
        (source, resolver)
    }

    /// Opens one connection without TLS.
    pub fn connect(&self) -> Result<TcpStream> {
        let (source, resolver) = self.parts();
        match dial::connect(&source, &resolver, Instant::now() + REACHING) {
            Ok((stream, _)) => Ok(stream),
            Err(failure) => bail!("{}", failure.why),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.parts().0.fmt(f)
    }
}

#[derive(clap::Args)]
pub struct Tunnel {
    #[command(flatten)]
    target: Target,
    /// Which certificate is accepted: sha256:… for exactly that one, or verify
    #[arg(long)]
    trust: Policy,
    /// Where the engine connects; only on loopback
    #[arg(long)]
    listen: SocketAddr,
    /// The file that says how it goes
    #[arg(long)]
    status: PathBuf,
}

#[derive(clap::Args)]
pub struct Reach {
    #[command(flatten)]
    target: Target,
    /// Which certificate is accepted: sha256:… or verify; without it the source speaks no TLS
    #[arg(long)]
    trust: Option<Policy>,
}

/// Tries once whether this host reaches the source. Prints the address.
pub fn reach(reach: &Reach) -> Result<()> {
    let (source, resolver) = reach.target.parts();
    let reached = match reach.trust {
        Some(policy) => dial::dial(&source, &resolver, policy).map(|dialled| dialled.address),
        None => {
            let deadline = Instant::now() + REACHING;
            dial::connect(&source, &resolver, deadline).map(|(_, address)| address)
        }
    };
    match reached {
        Ok(address) => println!("{address}"),
        Err(failure) => bail!("reach the source {source}: {}", failure.why),
    }
    Ok(())
}

/// Serves until the process ends.
pub fn run(tunnel: &Tunnel) -> Result<()> {
    if !tunnel.listen.ip().is_loopback() {
        bail!("listen on {}: it is no loopback address", tunnel.listen);
    }
    let (source, resolver) = tunnel.target.parts();
    let report = Arc::new(Report::new(tunnel.status.clone(), &source));
    report.write();
    let listener = TcpListener::bind(tunnel.listen).with_context(|| format!("listen on {}", tunnel.listen))?;
    let way = Arc::new(Way {
        source,
        resolver,
        policy: tunnel.trust,
        report: report.clone(),
        connections: AtomicUsize::new(0),
    });
    start("report", move || {
        loop {
            std::thread::sleep(HEARTBEAT);
            report.write();
        }
    })?;
    loop {
        match listener.accept() {
            Ok((client, _)) => way.clone().serve(client),
            Err(error) => {
                eprintln!("infra-agent: tunnel: cannot accept a connection: {error}");
                // An example is that no file descriptor is free. Without a pause the next call
                // would fail as well.
                std::thread::sleep(Duration::from_millis(200));
            }
        }
    }
}

fn start(name: &str, work: impl FnOnce() + Send + 'static) -> Result<()> {
    std::thread::Builder::new()
        .name(name.into())
        .stack_size(STACK)
        .spawn(work)
        .with_context(|| format!("start the thread for {name}"))?;
    Ok(())
}

/// All that one connection needs.
struct Way {
    source: Source,
    resolver: Resolver,
    policy: Policy,
    report: Arc<Report>,
    connections: AtomicUsize,
}

impl Way {
    /// Serves a client on a thread of its own; too many are refused.
    fn serve(self: Arc<Self>, client: TcpStream) {
        if self.connections.fetch_add(1, Ordering::AcqRel) >= MOST_CONNECTIONS {
            self.connections.fetch_sub(1, Ordering::AcqRel);
            return;
        }
        let way = self.clone();
        let begun = start("connection", move || {
            way.lead(&client);
            drop(client);
            way.connections.fetch_sub(1, Ordering::AcqRel);
        });
        if let Err(error) = begun {
            eprintln!("infra-agent: tunnel: {error:#}");
            self.connections.fetch_sub(1, Ordering::AcqRel);
        }
    }

    fn lead(&self, client: &TcpStream) {
        let dialled = match dial::dial(&self.source, &self.resolver, self.policy) {
            Ok(dialled) => dialled,
            Err(failure) => return self.report.failed(failure),
        };
        let Dialled { address, stream, tls } = dialled;
        let number = self.report.opened(address);
        let prepared = keep_alive(client)
            .and_then(|()| keep_alive(&stream))
            .and_then(|()| expect_answers(&stream));
        let ended = match prepared {
            Ok(()) => splice::splice(client, &stream, tls),
            Err(error) => Err(Broken { at_source: true, error }),
        };
        self.report.closed(number, failure_of(ended, address));
    }
}

/// Returns what to report of an end; `None` if the client ended it.
fn failure_of(ended: Result<End, Broken>, address: SocketAddr) -> Option<Failure> {
    let why = match ended {
        Ok(End::ByClient) | Err(Broken { at_source: false, .. }) => return None,
        Ok(End::BySource) => format!("{address} closed the connection"),
        Err(Broken { error, .. }) if error.kind() == io::ErrorKind::UnexpectedEof => {
            format!("{address} broke the connection off")
        }
        Err(Broken { error, .. }) => format!("the connection to {address} broke: {error}"),
    };
    Some(Failure {
        obstacle: Obstacle::Ended,
        why,
    })
}

/// Small writes go at once, and a peer that is gone is noticed within half a minute.
fn keep_alive(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    setsockopt(stream, sockopt::KeepAlive, &true)?;
    setsockopt(stream, sockopt::TcpKeepIdle, &15)?;
    setsockopt(stream, sockopt::TcpKeepInterval, &5)?;
    setsockopt(stream, sockopt::TcpKeepCount, &3)?;
    Ok(())
}

/// Keepalive alone says nothing while bytes of ours wait for an answer.
fn expect_answers(stream: &TcpStream) -> io::Result<()> {
    let most = u32::try_from(UNANSWERED.as_millis()).unwrap_or(u32::MAX);
    Ok(setsockopt(stream, sockopt::TcpUserTimeout, &most)?)
}
