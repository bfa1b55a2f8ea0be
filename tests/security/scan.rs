//! Finds the TCP ports that answer. From a network namespace it tries each of the 65,535 by a real
//! connection, several at the same time.

use socket2::{Domain, SockAddr, Socket, Type};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

/// A lost first packet is sent again after a second.
const PATIENCE: Duration = Duration::from_millis(1300);
/// Connections that are open at the same time; a process may hold some 20,000 files.
const AT_ONCE: usize = 4096;

/// The open ports of each address, in the order of the addresses.
pub fn open_ports(namespace: Option<&str>, addresses: &[&str]) -> Vec<Vec<u16>> {
    std::thread::scope(|scope| {
        let scans: Vec<_> = addresses
            .iter()
            .map(|address| {
                let address: IpAddr = address.parse().unwrap();
                scope.spawn(move || {
                    if let Some(namespace) = namespace {
                        let file = std::fs::File::open(format!("/run/netns/{namespace}")).unwrap();
                        nix::sched::setns(file, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
                    }
                    scan(address)
                })
            })
            .collect();
        scans.into_iter().map(|scan| scan.join().unwrap()).collect()
    })
}

fn scan(address: IpAddr) -> Vec<u16> {
    let ports: Vec<u16> = (1..=u16::MAX).collect();
    ports.chunks(AT_ONCE).flat_map(|part| part_of(address, part)).collect()
}

fn part_of(address: IpAddr, ports: &[u16]) -> Vec<u16> {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    let mut trying: Vec<(u16, Socket)> = Vec::new();
    let mut open = Vec::new();
    for port in ports {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_nonblocking(true).unwrap();
        // A reset in the end, not minutes in which nobody else can have the port.
        socket.set_linger(Some(Duration::ZERO)).unwrap();
        match socket.connect(&SockAddr::from(SocketAddr::new(address, *port))) {
            Ok(()) => open.push(*port),
            Err(error) if error.raw_os_error() == Some(nix::errno::Errno::EINPROGRESS as i32) => {
                trying.push((*port, socket));
            }
            // Refused at once: nobody listens.
            Err(_) => {}
        }
    }
    let end = Instant::now() + PATIENCE;
    while !trying.is_empty() && Instant::now() < end {
        let mut asked: Vec<PollFd> = trying
            .iter()
            .map(|(_, socket)| PollFd::new(socket.as_fd(), PollFlags::POLLOUT))
            .collect();
        poll(&mut asked, PollTimeout::from(100_u8)).unwrap();
        let answered: Vec<bool> = asked.iter().map(|fd| fd.any().unwrap_or(true)).collect();
        drop(asked);
        let mut answered = answered.into_iter();
        trying.retain(|(port, socket)| {
            if !answered.next().unwrap() {
                return true;
            }
            if socket.take_error().unwrap().is_none() {
                open.push(*port);
            }
            false
        });
    }
    open.sort_unstable();
    open
}
