//! The name server of the machines, asked on loopback.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use sandbox::names::NameServer;
use simple_dns::rdata::RData;
use simple_dns::{CLASS, Name, Packet, QCLASS, QTYPE, Question, RCODE, TYPE};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

fn question(name: &str, kind: TYPE) -> Vec<u8> {
    let mut packet = Packet::new_query(7);
    let name = Name::new(name).unwrap().into_owned();
    packet
        .questions
        .push(Question::new(name, QTYPE::TYPE(kind), QCLASS::CLASS(CLASS::IN), false));
    packet.build_bytes_vec().unwrap()
}

fn read(answer: &[u8]) -> (RCODE, Vec<IpAddr>) {
    let packet = Packet::parse(answer).unwrap();
    let addresses = packet.answers.iter().map(|record| match &record.rdata {
        RData::A(a) => IpAddr::V4(Ipv4Addr::from(a.address)),
        RData::AAAA(aaaa) => IpAddr::V6(aaaa.address.into()),
        other => panic!("{other:?}"),
    });
    (packet.rcode(), addresses.collect())
}

async fn by_udp(server: SocketAddr, question: &[u8]) -> Option<(RCODE, Vec<IpAddr>)> {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.send_to(question, server).await.unwrap();
    let mut bytes = [0; 512];
    let length = timeout(Duration::from_millis(500), socket.recv(&mut bytes))
        .await
        .ok()?;
    Some(read(&bytes[..length.unwrap()]))
}

async fn by_tcp(server: SocketAddr, question: &[u8]) -> (RCODE, Vec<IpAddr>) {
    let mut stream = TcpStream::connect(server).await.unwrap();
    stream.write_u16(question.len().try_into().unwrap()).await.unwrap();
    stream.write_all(question).await.unwrap();
    let mut answer = vec![0; stream.read_u16().await.unwrap().into()];
    stream.read_exact(&mut answer).await.unwrap();
    read(&answer)
}

#[tokio::test]
async fn a_name_of_the_file_is_answered_as_the_file_has_it_now_and_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("names");
    let server = NameServer::start("127.0.0.1:0".parse().unwrap(), file.clone())
        .await
        .unwrap();
    let at = server.address();
    let ours = question("redis.hosted.test", TYPE::A);
    let absent = (RCODE::NameError, Vec::new());
    assert_eq!(by_udp(at, &ours).await.unwrap(), absent, "there is no file yet");

    for address in ["10.77.0.1", "10.77.0.9"] {
        std::fs::write(&file, format!("{address} redis.hosted.test\n")).unwrap();
        let found = (RCODE::NoError, vec![address.parse().unwrap()]);
        assert_eq!(by_udp(at, &ours).await.unwrap(), found);
        assert_eq!(by_tcp(at, &ours).await, found);
    }
    let of_version_6 = question("redis.hosted.test", TYPE::AAAA);
    assert_eq!(by_udp(at, &of_version_6).await.unwrap(), (RCODE::NoError, Vec::new()));
    for other in ["hosted.test", "example.com", "localhost"] {
        assert_eq!(by_udp(at, &question(other, TYPE::A)).await.unwrap(), absent, "{other}");
    }

    assert_eq!(by_udp(at, b"no question").await, None);
    assert!(by_udp(at, &ours).await.is_some(), "it goes on after a malformed one");
}
