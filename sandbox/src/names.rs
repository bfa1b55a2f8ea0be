//! The name server of the machines. It knows the names of one file and nothing else.
//!
//! The file has the form of `/etc/hosts`. It is read anew for each question, so a test moves a name
//! by writing the file. A name that is not in it does not exist: no other server is asked.
//!
//! Operator and app find the add-on by a file of their own ([`address`]): what they resolve would
//! else be asked of this computer's resolver, which leads elsewhere.

use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use simple_dns::rdata::{A, AAAA, RData};
use simple_dns::{CLASS, Packet, PacketFlag, QTYPE, RCODE, ResourceRecord, TYPE};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::JoinSet;

use crate::paths::Paths;

/// The port that resolvers ask.
pub const PORT: u16 = 53;
/// The add-on's name. No name below `.test` exists on the Internet.
pub const ADDON: &str = "redis-oval-12345.hosted.test";
/// Names the file that a process of the app finds addresses in.
pub const HOSTS_VARIABLE: &str = "SANDBOX_HOSTS";

/// Seconds for which a resolver may keep an answer.
const TTL: u32 = 1;
const LONGEST_QUESTION: usize = 512;

/// A running name server. It ends when this is dropped.
pub struct NameServer {
    address: SocketAddr,
    _tasks: JoinSet<()>,
}

impl NameServer {
    /// Listens by UDP and TCP at one address; port 0 takes a free one.
    pub async fn start(listen: SocketAddr, file: PathBuf) -> Result<Self> {
        let doing = || format!("listen on {listen} for questions about names");
        let listener = TcpListener::bind(listen).await.with_context(doing)?;
        let address = listener.local_addr().with_context(doing)?;
        let socket = UdpSocket::bind(address).await.with_context(doing)?;
        let mut tasks = JoinSet::new();
        let by_udp = file.clone();
        tasks.spawn(async move {
            let mut question = [0; LONGEST_QUESTION];
            loop {
                let Ok((length, from)) = socket.recv_from(&mut question).await else {
                    continue;
                };
                if let Some(answer) = answer(&question[..length], &known(&by_udp)) {
                    let _ = socket.send_to(&answer, from).await;
                }
            }
        });
        tasks.spawn(async move {
            loop {
                if let Ok((mut client, _)) = listener.accept().await {
                    let file = file.clone();
                    tokio::spawn(async move { by_tcp(&mut client, &file).await });
                }
            }
        });
        Ok(Self { address, _tasks: tasks })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// Answers one question of a connection, in which each message has its length before it.
async fn by_tcp(client: &mut TcpStream, file: &Path) -> io::Result<()> {
    let mut question = vec![0; usize::from(client.read_u16().await?)];
    client.read_exact(&mut question).await?;
    if let Some(answer) = answer(&question, &known(file)) {
        let length = u16::try_from(answer.len()).map_err(io::Error::other)?;
        client.write_u16(length).await?;
        client.write_all(&answer).await?;
    }
    Ok(())
}

fn known(file: &Path) -> String {
    fs::read_to_string(file).unwrap_or_default()
}

/// Returns the answer to a question; `None` for anything else.
fn answer(question: &[u8], known: &str) -> Option<Vec<u8>> {
    let packet = Packet::parse(question).ok()?;
    if packet.has_flags(PacketFlag::RESPONSE) || packet.questions.len() != 1 {
        return None;
    }
    let mut reply = packet.into_reply();
    reply.set_flags(PacketFlag::AUTHORITATIVE_ANSWER);
    let asked = reply.questions.first()?.clone();
    let addresses = addresses_in(known, &asked.qname.to_string());
    if addresses.is_empty() {
        *reply.rcode_mut() = RCODE::NameError;
    }
    for address in addresses {
        let data = match (address, asked.qtype) {
            (IpAddr::V4(address), QTYPE::TYPE(TYPE::A)) => RData::A(A::from(address)),
            (IpAddr::V6(address), QTYPE::TYPE(TYPE::AAAA)) => RData::AAAA(AAAA::from(address)),
            _ => continue,
        };
        let record = ResourceRecord::new(asked.qname.clone(), CLASS::IN, TTL, data);
        reply.answers.push(record);
    }
    reply.build_bytes_vec_compressed().ok()
}

/// Returns the addresses of a name in the text of a hosts file.
fn addresses_in(text: &str, name: &str) -> Vec<IpAddr> {
    let name = name.trim_end_matches('.');
    let listed = |line: &str| {
        let mut words = line.split_whitespace();
        let address = words.next()?.parse().ok()?;
        words.any(|word| word.eq_ignore_ascii_case(name)).then_some(address)
    };
    text.lines().filter_map(listed).collect()
}

/// Writes the name's address for the machines, and for operator and app.
pub(crate) fn publish(paths: &Paths, name: &str, address: IpAddr) -> Result<()> {
    let line = format!("{address} {name}\n");
    let own = fs::read_to_string("/etc/hosts").unwrap_or_default();
    let write = || {
        fs::write(paths.names(), &line)?;
        fs::write(paths.hosts(), format!("{own}\n{line}"))
    };
    write().context("write the add-on's name")
}

/// Returns the address of a name that only the sandbox knows.
pub(crate) fn address(name: &str) -> Option<IpAddr> {
    if name.parse::<IpAddr>().is_ok() {
        return None;
    }
    let file = match std::env::var_os(HOSTS_VARIABLE) {
        Some(file) => PathBuf::from(file),
        None => Paths::from_environment().ok()?.hosts(),
    };
    addresses_in(&known(&file), name).first().copied()
}

/// Lets this process, and what it starts or becomes, see the sandbox's names in `/etc/hosts`. Does
/// nothing in a sandbox without names.
pub(crate) fn enter(paths: &Paths) -> Result<()> {
    let hosts = paths.hosts();
    if !hosts.exists() {
        return Ok(());
    }
    let none: Option<&str> = None;
    let entered = unshare(CloneFlags::CLONE_NEWNS)
        .and_then(|()| mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none))
        .and_then(|()| mount(Some(&hosts), "/etc/hosts", none, MsFlags::MS_BIND, none));
    entered.context("show the add-on's name to the command: only root may; run it as `sudo sandbox run`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hosts_file_gives_every_address_of_a_name() {
        let text = "10.77.0.1 a.test b.test\n::1 A.test\nbroken a.test\n";
        let found: Vec<String> = addresses_in(text, "a.test.").iter().map(ToString::to_string).collect();
        assert_eq!(found, ["10.77.0.1", "::1"]);
        assert!(addresses_in(text, "test").is_empty());
    }

    #[test]
    fn only_a_question_is_answered() {
        let mut question = Packet::new_query(1);
        assert_eq!(answer(&question.build_bytes_vec().unwrap(), ""), None);
        question.set_flags(PacketFlag::RESPONSE);
        assert_eq!(answer(&question.build_bytes_vec().unwrap(), ""), None);
        assert_eq!(answer(b"?", ""), None);
    }
}
