//! Asks one name server for the addresses of one name: by UDP, and by TCP if the answer was cut.

use simple_dns::rdata::RData;
use simple_dns::{CLASS, Name, Packet, PacketFlag, QCLASS, QTYPE, Question, RCODE, SimpleDnsError, TYPE};
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

/// Larger than an answer by UDP may be without an agreement on more.
const LARGEST_DATAGRAM: usize = 4096;

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Family {
    V4,
    V6,
}

/// Why a name server gave no addresses.
#[derive(Debug, PartialEq, Eq)]
pub enum Silence {
    /// The name server knows that the name does not exist.
    NoSuchName,
    /// Another server may know more. The text continues "the name server …".
    Useless(String),
}

impl From<io::Error> for Silence {
    fn from(error: io::Error) -> Self {
        Silence::Useless(match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => "does not answer".into(),
            io::ErrorKind::ConnectionRefused => "refuses to be asked".into(),
            _ => format!("cannot be asked: {error}"),
        })
    }
}

/// Returns the addresses, none if the name exists without one of this family.
pub fn ask(server: SocketAddr, name: &str, family: Family, patience: Duration) -> Result<Vec<IpAddr>, Silence> {
    let deadline = Instant::now() + patience;
    let id = random_id();
    let query = query(id, name, family)?;
    let datagram = by_udp(server, &query, deadline, |answer| is_answer(answer, &query))?;
    if is_cut(&datagram) {
        let whole = by_tcp(server, &query, deadline)?;
        if !is_answer(&whole, &query) {
            return Err(Silence::Useless("answers another question".into()));
        }
        return addresses(&whole, family);
    }
    addresses(&datagram, family)
}

/// An identifier that nobody can foresee; 0 in the unheard-of case that there is no randomness.
fn random_id() -> u16 {
    let mut bytes = [0; 2];
    let _ = rustls::crypto::ring::default_provider().secure_random.fill(&mut bytes);
    u16::from_be_bytes(bytes)
}

fn query(id: u16, name: &str, family: Family) -> Result<Vec<u8>, Silence> {
    let kind = match family {
        Family::V4 => TYPE::A,
        Family::V6 => TYPE::AAAA,
    };
    let malformed = |error| Silence::Useless(format!("cannot be asked for such a name: {error}"));
    // The library would leave an empty part out, and ask for another name.
    if name.split('.').any(str::is_empty) {
        return Err(malformed(SimpleDnsError::InvalidServiceLabel));
    }
    let name = Name::new(name).map_err(malformed)?;
    let mut packet = Packet::new_query(id);
    packet.set_flags(PacketFlag::RECURSION_DESIRED);
    let question = Question::new(name, QTYPE::TYPE(kind), QCLASS::CLASS(CLASS::IN), false);
    packet.questions.push(question);
    packet.build_bytes_vec().map_err(malformed)
}

fn by_udp(server: SocketAddr, query: &[u8], deadline: Instant, is_ours: impl Fn(&[u8]) -> bool) -> io::Result<Vec<u8>> {
    let own: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((own, 0))?;
    // Datagrams from elsewhere do not reach a connected socket.
    socket.connect(server)?;
    socket.send(query)?;
    let mut buffer = [0; LARGEST_DATAGRAM];
    loop {
        socket.set_read_timeout(Some(left(deadline)?))?;
        let length = socket.recv(&mut buffer)?;
        // An attacker may send guessed answers, so a wrong one does not end the wait.
        if let Some(answer) = buffer.get(..length).filter(|answer| is_ours(answer)) {
            return Ok(answer.to_vec());
        }
    }
}

fn by_tcp(server: SocketAddr, query: &[u8], deadline: Instant) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&server, left(deadline)?)?;
    stream.set_write_timeout(Some(left(deadline)?))?;
    let length = u16::try_from(query.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes(), query].concat())?;
    let mut length = [0; 2];
    read_exactly(&mut stream, &mut length, deadline)?;
    let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
    read_exactly(&mut stream, &mut answer, deadline)?;
    Ok(answer)
}

/// As `read_exact`, but the deadline holds for all of it, however slowly the bytes come.
fn read_exactly(stream: &mut TcpStream, into: &mut [u8], deadline: Instant) -> io::Result<()> {
    let mut filled = 0;
    while let Some(rest) = into.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        stream.set_read_timeout(Some(left(deadline)?))?;
        match stream.read(rest)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => filled += read,
        }
    }
    Ok(())
}

fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(io::ErrorKind::TimedOut.into());
    }
    Ok(left)
}

fn is_cut(answer: &[u8]) -> bool {
    simple_dns::header_buffer::has_flags(answer, PacketFlag::TRUNCATION).unwrap_or(false)
}

/// Returns true if the bytes answer this query: the same identifier and the same question.
fn is_answer(answer: &[u8], query: &[u8]) -> bool {
    let header = 12;
    let is_reply = simple_dns::header_buffer::has_flags(answer, PacketFlag::RESPONSE).unwrap_or(false);
    let asked_one = answer.get(4..6) == Some(&[0, 1]);
    let question = answer.get(header..query.len());
    is_reply
        && asked_one
        && answer.get(..2) == query.get(..2)
        && question.is_some_and(|question| question.eq_ignore_ascii_case(query.get(header..).unwrap_or_default()))
}

/// Reads the addresses of an answer. The name server has followed aliases: their ends are in it too.
fn addresses(answer: &[u8], family: Family) -> Result<Vec<IpAddr>, Silence> {
    let packet =
        Packet::parse(answer).map_err(|error| Silence::Useless(format!("gives a malformed answer: {error}")))?;
    match packet.rcode() {
        RCODE::NoError => {}
        RCODE::NameError => return Err(Silence::NoSuchName),
        other => return Err(Silence::Useless(format!("fails with {other:?}"))),
    }
    let address = |data: &RData<'_>| match (data, family) {
        (RData::A(found), Family::V4) => Some(Ipv4Addr::from(found.address).into()),
        (RData::AAAA(found), Family::V6) => Some(Ipv6Addr::from(found.address).into()),
        _ => None,
    };
    Ok(packet
        .answers
        .iter()
        .filter_map(|record| address(&record.rdata))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use simple_dns::ResourceRecord;
    use simple_dns::rdata::{A, AAAA, CNAME};

    fn answer_to(query: &[u8], records: &[RData<'static>]) -> Vec<u8> {
        let mut packet = Packet::parse(query).unwrap().into_reply();
        for record in records {
            let name = Name::new_unchecked("redis.test");
            packet
                .answers
                .push(ResourceRecord::new(name, CLASS::IN, 1, record.clone()));
        }
        packet.build_bytes_vec_compressed().unwrap()
    }

    fn an_answer() -> (Vec<u8>, Vec<u8>) {
        let query = query(7, "redis.test", Family::V4).unwrap();
        let alias = RData::CNAME(CNAME(Name::new_unchecked("far.test")));
        let four = RData::A(A::from(Ipv4Addr::new(192, 0, 2, 7)));
        let six = RData::AAAA(AAAA::from(Ipv6Addr::LOCALHOST));
        let answer = answer_to(&query, &[alias, four, six]);
        (query, answer)
    }

    #[test]
    fn an_answer_gives_the_addresses_of_the_family_that_was_asked_for() {
        let (query, answer) = an_answer();
        assert!(is_answer(&answer, &query));
        let found = |family| addresses(&answer, family).unwrap();
        assert_eq!(found(Family::V4), [IpAddr::from([192, 0, 2, 7])]);
        assert_eq!(found(Family::V6), [IpAddr::from(Ipv6Addr::LOCALHOST)]);
    }

    #[test]
    fn an_answer_to_another_question_is_none() {
        let (query, answer) = an_answer();
        assert!(!is_answer(&query, &query), "a question is no answer");
        for (id, name, family) in [
            (8, "redis.test", Family::V4),
            (7, "redis.tesu", Family::V4),
            (7, "redis.test", Family::V6),
        ] {
            let other = super::query(id, name, family).unwrap();
            assert!(!is_answer(&answer, &other), "{id} {name}");
        }
        let shouted = super::query(7, "REDIS.test", Family::V4).unwrap();
        assert!(is_answer(&answer, &shouted), "names have no case");
    }

    #[test]
    fn a_refusal_of_the_server_is_not_a_missing_name() {
        let (query, _) = an_answer();
        let with = |code| {
            let mut packet = Packet::parse(&query).unwrap().into_reply();
            *packet.rcode_mut() = code;
            addresses(&packet.build_bytes_vec().unwrap(), Family::V4)
        };
        assert_eq!(with(RCODE::NoError), Ok(vec![]));
        assert_eq!(with(RCODE::NameError), Err(Silence::NoSuchName));
        assert!(matches!(with(RCODE::ServerFailure), Err(Silence::Useless(_))));
    }

    #[test]
    fn a_name_that_cannot_be_asked_for_is_refused() {
        for name in ["a..test", &"x".repeat(64), &"abc.".repeat(80)] {
            assert!(query(1, name, Family::V4).is_err(), "{name}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(10_000))]

        #[test]
        fn no_bytes_of_a_server_do_harm(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let _ = (is_cut(&bytes), is_answer(&bytes, &[]), addresses(&bytes, Family::V4));
        }

        #[test]
        fn no_damage_to_an_answer_does_harm(
            changes in proptest::collection::vec((0_usize..100, any::<u8>()), 1..6),
            length in 0_usize..100,
        ) {
            let (query, mut answer) = an_answer();
            for (at, byte) in changes {
                if let Some(place) = answer.get_mut(at) {
                    *place = byte;
                }
            }
            answer.truncate(length.max(13));
            let _ = (is_cut(&answer), is_answer(&answer, &query), addresses(&answer, Family::V6));
        }
    }
}
