//! The source changes under a running tunnel: its certificate, the certificate's name, and the
//! address that its own name resolves to.

use crate::machine::Machine;
use sandbox::addon::{Authority, Provider, Shown, Tls, authority, make_certificate};
use sandbox::names;
use std::fs;
use std::future::Future;
use std::time::Duration;
use testkit::access;
use testkit::world::World;

const ADDRESS: &str = "10.77.0.1";
const SOON: Duration = Duration::from_secs(60);

fn now<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Runtime::new().unwrap().block_on(work)
}

fn addon() -> &'static str {
    names::ADDON.split('.').next().unwrap()
}

fn provider() -> Provider {
    Provider::of(&access::paths().state().join(format!("addon-{}", addon()))).unwrap()
}

/// Returns how often the master has fetched everything from its source.
fn full_copies(master: &Machine) -> String {
    master.root("journalctl -u redis-server --no-pager -o cat | grep -c 'Full resync from master'")
}

/// The source of a pair that pins its leaf renews its certificate, and takes that back.
pub fn says_that_the_pinned_certificate_changed(world: &World) {
    let master = Machine::of_role(world, "master");
    is_connected(world);
    let before = full_copies(&master);
    let file =
        |name: &str| fs::read_to_string(access::paths().state().join(format!("addon-{}/{name}", addon()))).unwrap();
    let pinned = Shown {
        chain: file("tls.crt"),
        key: file("tls.key"),
        authority: Some(file("authority.crt")),
    };
    let renewed = make_certificate(Tls::On, &[ADDRESS.to_string()], None)
        .unwrap()
        .unwrap();
    now(provider().show(&renewed)).unwrap();
    is_named(world, "certificate-changed", "the one pinned is");
    now(provider().show(&pinned)).unwrap();
    is_connected(world);
    assert_eq!(full_copies(&master), before, "the master went on from where it was");
}

/// Lets the source show a certificate for this name, issued by `issuer`.
fn show(name: &str, issuer: &Authority) {
    let names = [name.to_string(), ADDRESS.into()];
    let shown = make_certificate(Tls::Authority, &names, Some(issuer)).unwrap().unwrap();
    now(provider().show(&shown)).unwrap();
}

/// Lets the machines' name server give this address; none if it is empty.
fn resolve(address: &str) {
    let line = match address {
        "" => String::new(),
        address => format!("{address} {}\n", names::ADDON),
    };
    fs::write(access::paths().names(), line).unwrap();
}

/// Ends the connection, so that the tunnel opens another one. Waits until `status` gives this reason.
#[track_caller]
fn is_named(world: &World, obstacle: &str, words: &str) {
    now(provider().cut_clients()).unwrap();
    world.until(SOON, obstacle, || {
        let status = world.infra(&["status", "--json"]).json();
        status["tunnel"]["obstacle"] == obstacle
            && status["tunnel"]["why"].as_str().is_some_and(|why| why.contains(words))
            && status["findings"]
                .as_array()
                .unwrap()
                .iter()
                .any(|finding| finding["id"] == "tunnel" && finding["found"].as_str().unwrap().contains(words))
    });
}

#[track_caller]
fn is_connected(world: &World) {
    world.until(SOON, "the tunnel to be connected again", || {
        let tunnel = &world.status()["tunnel"];
        tunnel["obstacle"].is_null() && tunnel["address"].is_string()
    });
}

pub fn says_what_changed_under_it(world: &World) {
    let paths = access::paths();
    let ours = Authority {
        certificate: fs::read_to_string(paths.authority()).unwrap(),
        key: fs::read_to_string(paths.authority_key()).unwrap(),
    };
    let master = Machine::of_role(world, "master");
    let known = master.root("cat /etc/resolv.conf");
    assert_eq!(known.trim(), format!("nameserver {ADDRESS}"));
    is_connected(world);
    let before = full_copies(&master);

    show(names::ADDON, &authority("somebody else").unwrap());
    is_named(world, "authority-unknown", "issued by an authority that is not trusted");
    show("other.hosted.test", &ours);
    is_named(world, "name-differs", "other.hosted.test");
    show(names::ADDON, &ours);
    is_connected(world);

    resolve("");
    is_named(world, "name", "there is no such name");
    // An address at which nobody listens.
    resolve("10.77.0.9");
    is_named(world, "no-answer", "10.77.0.9");
    resolve(ADDRESS);
    is_connected(world);
    assert_eq!(full_copies(&master), before, "the master went on from where it was");
}
