//! A certificate that is about to end, under an app that writes.

use base64::Engine;
use infra::effects::cloud::ssm;
use infra::effects::host::engine::Layout;
use infra::effects::host::tls;
use infra::model::role::Role;
use infra::model::secret::Secret;
use infra::model::secrets::parameter;
use jiff::Timestamp;
use std::time::Duration;
use testkit::pair::Pair;
use testkit::world::World;

/// Both hosts and SSM have one that ends tomorrow: it is told, renewed by the next `up` without a restart, and no client notices.
pub fn is_renewed_under_load(world: &World) {
    let before = world.status();
    age(world);
    // A host may be too busy to answer at once.
    world.until(
        Duration::from_secs(30),
        "both hosts to show a certificate that ends",
        || {
            let status = world.status();
            let days = |role: Role| status["servers"][role.name()]["certificate_days_left"].as_i64();
            let shown = Role::ALL
                .iter()
                .all(|role| days(*role).is_some_and(|days| (0..=1).contains(&days)));
            if !shown {
                println!("not both certificates end: {status}");
            }
            shown
        },
    );
    let status = world.status();
    assert!(
        status["alarms"]
            .to_string()
            .contains("the certificate of the master ends in"),
        "{status}"
    );
    world.infra(&["check"]).exits(0).says("the certificate of the");
    world.wait_for_more_writes(2_000);

    let errors = crate::client_errors(world);
    world.infra(&["up", "--yes"]).exits(0).says("certificates");
    let status = world.status();
    for role in Role::ALL {
        let server = &status["servers"][role.name()];
        assert!(server["certificate_days_left"].as_i64().unwrap() > 300, "{status}");
        assert_eq!(
            server["run_id"],
            before["servers"][role.name()]["run_id"],
            "the engine was restarted"
        );
    }
    // Processes that start now see the new certificate.
    world.scale(3, 1);
    world.wait_for_more_writes(4_000);
    world.scale(2, 1);
    assert_eq!(crate::client_errors(world), errors, "clients saw errors");
    assert_eq!(world.infra(&["up", "--yes", "--json"]).exits(0).json()["changes"], 0);
}

fn age(world: &World) {
    let pair = Pair::of(world);
    let authority = tls::Issued {
        certificate: pair.secrets.ca_cert().unwrap().into(),
        key: pair.secrets.ca_key().unwrap().clone(),
    };
    for role in Role::ALL {
        let address = pair.addresses[&role].clone();
        let private = world.infra(&["ssh", role.name(), "hostname", "-I"]).exits(0).printed();
        let mut addresses: Vec<std::net::IpAddr> = vec![address.parse().unwrap()];
        addresses.extend(
            private
                .split_whitespace()
                .filter_map(|word| word.parse::<std::net::Ipv4Addr>().ok())
                .map(std::net::IpAddr::from),
        );
        let subjects = tls::Subjects {
            addresses,
            domains: Vec::new(),
        };
        let issued = tls::issue_for(&authority, &pair.names.host(role), &subjects, Timestamp::now(), 1).unwrap();
        pair.runtime.block_on(async {
            let certificate = Secret::new(issued.certificate.clone());
            let parameters = ssm::Parameters {
                cloud: &pair.cloud,
                names: &pair.names,
            };
            for (name, value) in [
                (parameter::tls_key(role), &issued.key),
                (parameter::tls_cert(role), &certificate),
            ] {
                parameters.replace(&name, value).await.unwrap();
            }
        });
        let encoded = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
        let layout = Layout::of(infra::model::config::Engine::Redis);
        let (certificate, key) = (layout.certificate_file, layout.key_file);
        for (path, text) in [(certificate, issued.certificate.as_str()), (key, issued.key.expose())] {
            let script = format!(
                "echo {} | base64 -d | sudo tee {path} >/dev/null && echo placed",
                encoded(text)
            );
            world.infra(&["ssh", role.name(), &script]).exits(0).says("placed");
        }
        let load = [
            "redis-cli",
            role.name(),
            "CONFIG",
            "SET",
            "tls-cert-file",
            certificate,
            "tls-key-file",
            key,
        ];
        world.infra(&load).exits(0).says("OK");
    }
}
