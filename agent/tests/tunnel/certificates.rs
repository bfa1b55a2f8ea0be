//! Which certificates the tunnel accepts, and what it says of the others.

use super::peer::{self, BOTH, listen, serve};
use super::redis::Redis;
use super::rig::{NAME, Tunnel, free_port, pin, shown};
use infra_agent::record::Obstacle;
use sandbox::addon::{Engine, Shown, Tls, authority, make_certificate};
use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

const KINDS: [Tls; 3] = [Tls::On, Tls::SelfSigned, Tls::V1];

#[test]
fn a_pinned_leaf_leads_to_the_source_whatever_issued_it() {
    for tls in KINDS {
        let shown = shown(tls);
        let source = Redis::tls(Engine::Redis7, &shown, &shown.chain, &[]);
        let tunnel = Tunnel::start("127.0.0.1", source.port, &pin(&shown));
        assert_eq!(tunnel.ask("PING"), "+PONG", "{tls:?}");
        assert_eq!(tunnel.status().trouble, None, "{tls:?}");
        let reached = tunnel.reach();
        assert!(reached.status.success(), "{tls:?}: {reached:?}");
        assert_eq!(
            String::from_utf8_lossy(&reached.stdout).trim(),
            format!("127.0.0.1:{}", source.port)
        );
    }
}

#[test]
fn an_authority_and_the_name_lead_to_the_source_and_each_alone_does_not() {
    let ours = authority("an authority").unwrap();
    let shown = make_certificate(Tls::Authority, &[NAME.into()], Some(&ours))
        .unwrap()
        .unwrap();
    let source = Redis::tls(Engine::Redis7, &shown, &shown.chain, &[]);
    let to = |name: &str| Tunnel::new(name, source.port, "verify");

    let mut tunnel = to(NAME).trusting(&ours.certificate);
    tunnel.again();
    assert_eq!(tunnel.ask("PING"), "+PONG");

    let mut tunnel = to("other.test").trusting(&ours.certificate);
    tunnel.again();
    let (obstacle, why) = tunnel.refused();
    assert_eq!(obstacle, Obstacle::NameDiffers);
    assert!(why.contains("other.test") && why.contains(NAME), "{why}");

    let mut tunnel = to(NAME);
    tunnel.again();
    let (obstacle, why) = tunnel.refused();
    assert_eq!(obstacle, Obstacle::AuthorityUnknown, "{why}");
}

#[test]
fn a_certificate_that_has_ended_is_named() {
    let ours = authority("an authority").unwrap();
    let issuer = rcgen::Issuer::from_ca_cert_pem(&ours.certificate, rcgen::KeyPair::from_pem(&ours.key).unwrap());
    let mut params = rcgen::CertificateParams::new([NAME.into()]).unwrap();
    params.not_after = rcgen::date_time_ymd(2020, 1, 1);
    let key = rcgen::KeyPair::generate().unwrap();
    let ended = Shown {
        chain: params.signed_by(&key, &issuer.unwrap()).unwrap().pem(),
        key: key.serialize_pem(),
        authority: Some(ours.certificate.clone()),
    };
    let port = serve(listen(), &ended, &BOTH, greet);
    let mut tunnel = Tunnel::new(NAME, port, "verify").trusting(&ours.certificate);
    tunnel.again();
    let (obstacle, why) = tunnel.refused();
    assert_eq!(obstacle, Obstacle::Expired);
    assert!(why.contains("2020-01-01"), "{why}");
    // A pin is for exactly this one, ended or not.
    let tunnel = Tunnel::start(NAME, port, &pin(&ended));
    assert_eq!(tunnel.ask("PING"), "+PONG");
}

#[test]
fn an_impostor_with_the_pinned_certificate_and_another_key_gets_no_byte() {
    for (tls, version) in KINDS.into_iter().flat_map(|tls| BOTH.map(|version| (tls, version))) {
        let real = shown(tls);
        let impostor = Shown {
            key: rcgen::KeyPair::generate().unwrap().serialize_pem(),
            ..real.clone()
        };
        let got = Arc::new(AtomicUsize::new(0));
        let count = got.clone();
        let port = serve(listen(), &impostor, &[version], move |mut session| {
            let mut bytes = [0; 64];
            count.fetch_add(session.read(&mut bytes).unwrap_or(0), Ordering::SeqCst);
        });
        let tunnel = Tunnel::start("127.0.0.1", port, &pin(&real));
        let (obstacle, why) = tunnel.refused();
        assert_eq!(obstacle, Obstacle::CertificateRefused, "{tls:?} {version:?}: {why}");
        assert!(why.contains("private key"), "{tls:?} {version:?}: {why}");
        assert_eq!(got.load(Ordering::SeqCst), 0);
    }
}

#[test]
fn a_leaf_that_changes_under_a_running_tunnel_is_refused_with_both_pins() {
    let (first, second) = (shown(Tls::On), shown(Tls::On));
    let source = Redis::tls(Engine::Redis7, &first, &first.chain, &[]);
    let tunnel = Tunnel::start("127.0.0.1", source.port, &pin(&first));
    let mut open = tunnel.connect();
    assert_eq!(super::rig::ask(&mut open, "PING"), "+PONG");
    source.show(&second);
    assert_eq!(super::rig::ask(&mut open, "PING"), "+PONG", "an open connection stays");
    drop(open);
    super::rig::until("the open connection is gone", || {
        tunnel.status().connected_since.is_none()
    });

    let (obstacle, why) = tunnel.refused();
    assert_eq!(obstacle, Obstacle::CertificateChanged);
    assert!(why.contains(&pin(&first)) && why.contains(&pin(&second)), "{why}");
    let reached = tunnel.reach();
    assert_eq!(reached.status.code(), Some(1));
    let said = String::from_utf8_lossy(&reached.stderr).into_owned();
    assert!(
        said.contains("reach the source 127.0.0.1:") && said.contains(&why),
        "{said}"
    );

    source.show(&first);
    assert_eq!(tunnel.ask("PING"), "+PONG");
    assert_eq!(tunnel.status().trouble, None);
}

#[test]
fn a_closed_port_and_one_without_tls_have_reasons_of_their_own() {
    let any = pin(&shown(Tls::On));
    let tunnel = Tunnel::start("127.0.0.1", free_port(), &any);
    let (obstacle, why) = tunnel.refused();
    assert_eq!(obstacle, Obstacle::Refused);
    assert!(why.ends_with("refuses the connection"), "{why}");

    let plain = Redis::plain(Engine::Redis7);
    let tunnel = Tunnel::start("127.0.0.1", plain.port, &any);
    let (obstacle, why) = tunnel.refused();
    assert_eq!(obstacle, Obstacle::Tls, "{why}");
}

/// Answers one line as an engine would.
fn greet(mut session: peer::Session) {
    let mut bytes = [0; 64];
    if session.read(&mut bytes).is_ok_and(|length| length > 0) {
        session.write_all(b"+PONG\r\n").unwrap();
        session.flush().unwrap();
        let _ = session.read(&mut bytes);
    }
}
