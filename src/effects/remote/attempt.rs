//! Makes one attempt to log in to a host and classifies its outcome. Blocking.

use super::key::HostKey;
use super::target::Target;
use crate::model::clock::Instant;
use crate::model::error::{Error, Result};
use ssh2::MethodType;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

/// Time limit for a host to accept a connection.
const CONNECT: Duration = Duration::from_secs(5);
/// Time limit for a server to send its first line.
const BANNER: Duration = Duration::from_secs(10);
/// Time limit of key exchange and of login, each.
const HANDSHAKE: Duration = Duration::from_secs(20);

/// The outcome of one attempt. `Wrong` is final, a repeated `Cut` too; others may change with time.
pub enum Attempt {
    LoggedIn(ssh2::Session, TcpStream),
    /// No server answers at the address, or none yet.
    Absent(String),
    /// A server refuses us. A quick retry makes it worse (PerSourcePenalties of OpenSSH).
    TurnedAway(String),
    /// The key exchange broke, as if a server restarts just then or has no key of the pinned kind.
    Cut(Error),
    Wrong(Error),
}

pub fn attempt(target: &Target, deadline: Instant) -> Attempt {
    match dial(target, deadline) {
        Ok(stream) => log_in(target, stream, deadline),
        Err(seen) => Attempt::Absent(seen),
    }
}

fn dial(target: &Target, deadline: Instant) -> Result<TcpStream, String> {
    let address: SocketAddr = (target.address.as_str(), target.port)
        .to_socket_addrs()
        .map_err(|error| error.to_string())?
        .next()
        .ok_or("the address names no host")?;
    let patience = CONNECT.min(deadline.remaining()).max(Duration::from_millis(100));
    let stream = TcpStream::connect_timeout(&address, patience).map_err(|error| error.to_string())?;
    stream.set_nodelay(true).map_err(|error| error.to_string())?;
    Ok(stream)
}

fn log_in(target: &Target, stream: TcpStream, deadline: Instant) -> Attempt {
    if let Err(seen) = wait_for_banner(&stream, deadline) {
        return Attempt::TurnedAway(seen);
    }
    match shake_hands(target, stream) {
        Ok((session, stream)) => authenticate(target, session, stream),
        Err(attempt) => attempt,
    }
}

/// Peeks at the server's first line. A server that penalises us closes, or sends an error instead.
fn wait_for_banner(stream: &TcpStream, deadline: Instant) -> Result<(), String> {
    let patience = BANNER.min(deadline.remaining()).max(Duration::from_millis(100));
    stream
        .set_read_timeout(Some(patience))
        .map_err(|error| error.to_string())?;
    let mut first = [0u8; 80];
    match stream.peek(&mut first) {
        Ok(0) => Err("the connection was closed before a banner came".into()),
        Ok(length) if first[..length.min(4)] == b"SSH-"[..length.min(4)] => Ok(()),
        Ok(length) => Err(format!(
            "instead of a banner came {:?}",
            String::from_utf8_lossy(&first[..length]).trim_end()
        )),
        Err(error) => Err(format!("no banner came: {error}")),
    }
}

/// Exchanges keys and checks the host's against the pins. Before it, only the banner goes out.
fn shake_hands(target: &Target, stream: TcpStream) -> Result<(ssh2::Session, TcpStream), Attempt> {
    let wrong = |error: Error| Attempt::Wrong(error);
    let failed = |what: &str, error: &dyn std::fmt::Display| Attempt::Absent(format!("{what}: {error}"));
    if target.pinned.is_empty() {
        return Err(wrong(Error::failed(format!(
            "trust {}: no host key is pinned for it",
            target.label
        ))));
    }
    let second = stream
        .try_clone()
        .map_err(|error| failed("use the connection", &error))?;
    let mut session = ssh2::Session::new().map_err(|error| failed("begin an ssh session", &error))?;
    session.set_timeout(HANDSHAKE.as_millis() as u32);
    session.set_tcp_stream(stream);
    // Only the pinned kinds are offered, so that the host shows the key that we know.
    session
        .method_pref(MethodType::HostKey, &algorithms(&target.pinned))
        .map_err(|error| failed("offer the pinned kind of host key", &error))?;
    session.handshake().map_err(|error| match error.code() {
        ssh2::ErrorCode::Session(libssh2_sys::LIBSSH2_ERROR_METHOD_NONE | libssh2_sys::LIBSSH2_ERROR_KEX_FAILURE) => {
            Attempt::Cut(changed_key(
                target,
                &format!(
                    "it offers no key of the pinned kind {} ({error})",
                    algorithms(&target.pinned)
                ),
            ))
        }
        _ => failed("exchange keys", &error),
    })?;
    let shown = session.host_key().and_then(|(blob, _)| HostKey::from_blob(blob));
    match shown {
        Some(key) if target.pinned.contains(&key) => Ok((session, second)),
        Some(key) => Err(wrong(changed_key(target, &format!("it shows {}", key.fingerprint())))),
        None => Err(wrong(changed_key(target, "it shows none"))),
    }
}

/// Returns the distinct algorithms of the pinned keys, as a preference list.
fn algorithms(pinned: &[HostKey]) -> String {
    let mut names: Vec<&str> = Vec::new();
    for key in pinned {
        if !names.contains(&key.algorithm()) {
            names.push(key.algorithm());
        }
    }
    names.join(",")
}

fn changed_key(target: &Target, found: &str) -> Error {
    let pinned: Vec<String> = target.pinned.iter().map(HostKey::fingerprint).collect();
    Error::failed(format!(
        "trust {} at {}:{}: {found}, pinned is {}",
        target.label,
        target.address,
        target.port,
        pinned.join(" or ")
    ))
    .by_an_impostor()
    .hint(
        "somebody else may answer at this address: nothing was sent. Compare the pinned key with what the instance's console shows for \
         `ssh-keygen -lf /etc/ssh/infra_host_ed25519_key.pub`. If you made the instance or its keys anew yourself, make the host anew: `infra replace INSTANCE_ID`",
    )
}

fn authenticate(target: &Target, session: ssh2::Session, stream: TcpStream) -> Attempt {
    let login = session.userauth_pubkey_memory(&target.user, None, target.private_key.expose(), None);
    match login {
        Ok(()) if session.authenticated() => {
            session.set_keepalive(true, 15);
            Attempt::LoggedIn(session, stream)
        }
        Ok(()) => Attempt::TurnedAway(format!("the host wants more than the key of {}", target.user)),
        Err(error) => match error.code() {
            ssh2::ErrorCode::Session(
                libssh2_sys::LIBSSH2_ERROR_AUTHENTICATION_FAILED | libssh2_sys::LIBSSH2_ERROR_PUBLICKEY_UNVERIFIED,
            ) => Attempt::TurnedAway(format!("the host refuses the key of user {}", target.user)),
            ssh2::ErrorCode::Session(libssh2_sys::LIBSSH2_ERROR_FILE) => Attempt::Wrong(
                Error::failed(format!("log in to {}", target.label))
                    .because(error)
                    .hint("the stored ssh key cannot be read: it has to be an ed25519 key in OpenSSH's form without a passphrase"),
            ),
            _ => Attempt::Absent(format!("log in as {}: {error}", target.user)),
        },
    }
}
