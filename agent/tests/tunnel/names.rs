//! How the tunnel finds the source's address: a name server of ours answers, or not.

use super::peer::{BOTH, serve};
use super::rig::{Tunnel, pin, shown};
use infra_agent::record::Obstacle;
use sandbox::addon::Tls;
use simple_dns::rdata::{A, AAAA, RData};
use simple_dns::{CLASS, Packet, PacketFlag, QTYPE, RCODE, ResourceRecord, TYPE};
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::sync::{Arc, Mutex};
use std::thread::spawn;

/// The answer that the name server gives for every name.
#[derive(Clone, PartialEq)]
enum Says {
    Addresses(Vec<IpAddr>),
    /// As above, and only by TCP.
    Much(Vec<IpAddr>),
    NoSuchName,
    Nothing,
}

/// A name server on loopback, by UDP and by TCP.
struct NameServer {
    address: SocketAddr,
    says: Arc<Mutex<Says>>,
}

impl NameServer {
    fn start(says: Says) -> Self {
        let (socket, listener) = loop {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            // The port may be taken for TCP.
            if let Ok(listener) = TcpListener::bind(socket.local_addr().unwrap()) {
                break (socket, listener);
            }
        };
        let address = socket.local_addr().unwrap();
        let says = Arc::new(Mutex::new(says));
        let by_udp = says.clone();
        spawn(move || {
            let mut bytes = [0; 512];
            loop {
                let (length, from) = socket.recv_from(&mut bytes).unwrap();
                if let Some(answer) = answer(&bytes[..length], &by_udp.lock().unwrap(), false) {
                    // An answer to another question comes first, as from somebody who guesses.
                    let mut guess = answer.clone();
                    guess[0] ^= 0xff;
                    socket.send_to(&guess, from).unwrap();
                    socket.send_to(&answer, from).unwrap();
                }
            }
        });
        let by_tcp = says.clone();
        spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut length = [0; 2];
                stream.read_exact(&mut length).unwrap();
                let mut query = vec![0; usize::from(u16::from_be_bytes(length))];
                stream.read_exact(&mut query).unwrap();
                let answer = answer(&query, &by_tcp.lock().unwrap(), true).unwrap();
                let length = u16::try_from(answer.len()).unwrap().to_be_bytes();
                stream.write_all(&[&length, answer.as_slice()].concat()).unwrap();
            }
        });
        NameServer { address, says }
    }

    fn now_says(&self, says: Says) {
        *self.says.lock().unwrap() = says;
    }

    /// Starts a tunnel that asks this server.
    fn tunnel(&self, name: &str, port: u16, trust: &str) -> Tunnel {
        let mut tunnel = Tunnel::new(name, port, trust);
        tunnel.hosts("127.0.0.1 localhost\n");
        tunnel.resolv_conf(&format!(
            "nameserver [{}]:{}\noptions timeout:1 attempts:1\n",
            self.address.ip(),
            self.address.port()
        ));
        tunnel.again();
        tunnel
    }
}

fn answer(query: &[u8], says: &Says, whole: bool) -> Option<Vec<u8>> {
    let mut packet = Packet::parse(query).unwrap().into_reply();
    let question = packet.questions[0].clone();
    let addresses = match says {
        Says::Nothing => return None,
        Says::NoSuchName => {
            *packet.rcode_mut() = RCODE::NameError;
            return Some(packet.build_bytes_vec().unwrap());
        }
        Says::Much(_) if !whole => {
            packet.set_flags(PacketFlag::TRUNCATION);
            return Some(packet.build_bytes_vec().unwrap());
        }
        Says::Addresses(addresses) | Says::Much(addresses) => addresses,
    };
    for address in addresses {
        let data = match (address, question.qtype) {
            (IpAddr::V4(address), QTYPE::TYPE(TYPE::A)) => RData::A(A::from(*address)),
            (IpAddr::V6(address), QTYPE::TYPE(TYPE::AAAA)) => RData::AAAA(AAAA::from(*address)),
            _ => continue,
        };
        let name = question.qname.clone();
        packet.answers.push(ResourceRecord::new(name, CLASS::IN, 60, data));
    }
    Some(packet.build_bytes_vec_compressed().unwrap())
}

/// Two sources with the same certificate and port, at two addresses; each says its own.
fn two_sources() -> (u16, String) {
    let shown = shown(Tls::On);
    let (one, two) = loop {
        let one = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = one.local_addr().unwrap().port();
        if let Ok(two) = TcpListener::bind((Ipv4Addr::new(127, 0, 0, 2), port)) {
            break (one, two);
        }
    };
    for listener in [one.try_clone().unwrap(), two] {
        let said = format!("{}\r\n", listener.local_addr().unwrap().ip());
        serve(listener, &shown, &BOTH, move |mut session| {
            let mut bytes = [0; 64];
            if session.read(&mut bytes).is_ok_and(|length| length > 0) {
                session.write_all(said.as_bytes()).unwrap();
                session.flush().unwrap();
                let _ = session.read(&mut bytes);
            }
        });
    }
    (one.local_addr().unwrap().port(), pin(&shown))
}

fn at(last: u8) -> IpAddr {
    [127, 0, 0, last].into()
}

#[test]
fn a_name_is_asked_for_anew_at_each_connection() {
    let (port, pin) = two_sources();
    let server = NameServer::start(Says::Addresses(vec![at(1)]));
    let tunnel = server.tunnel("moves.test", port, &pin);
    assert_eq!(tunnel.ask("who"), "127.0.0.1");
    server.now_says(Says::Addresses(vec![at(2)]));
    assert_eq!(tunnel.ask("who"), "127.0.0.2");
    server.now_says(Says::Much(vec![at(1)]));
    assert_eq!(
        tunnel.ask("who"),
        "127.0.0.1",
        "an answer that was cut comes whole by TCP"
    );
}

#[test]
fn the_next_address_is_tried_if_one_does_not_answer() {
    let (port, pin) = two_sources();
    let dead = vec![at(77), at(2), "::1".parse().unwrap()];
    let server = NameServer::start(Says::Addresses(dead));
    assert_eq!(server.tunnel("several.test", port, &pin).ask("who"), "127.0.0.2");
}

#[test]
fn a_name_without_an_address_is_reported_as_that() {
    let (port, pin) = two_sources();
    let server = NameServer::start(Says::Addresses(vec![at(1)]));
    let tunnel = server.tunnel("gone.test", port, &pin);
    assert_eq!(tunnel.ask("who"), "127.0.0.1");
    for (says, words) in [
        (Says::NoSuchName, "there is no such name"),
        (Says::Addresses(Vec::new()), "knows no address"),
        (Says::Nothing, "does not answer"),
    ] {
        server.now_says(says);
        let (obstacle, why) = tunnel.refused();
        assert_eq!(obstacle, Obstacle::Name, "{why}");
        assert!(
            why.starts_with("the name gone.test does not resolve") && why.contains(words),
            "{why}"
        );
    }
    // The hosts file comes first.
    tunnel.hosts("127.0.0.2 gone.test\n");
    assert_eq!(tunnel.ask("who"), "127.0.0.2");
}

#[test]
fn an_address_needs_no_name_server() {
    let (port, pin) = two_sources();
    let server = NameServer::start(Says::Nothing);
    assert_eq!(server.tunnel("127.0.0.2", port, &pin).ask("who"), "127.0.0.2");
}
