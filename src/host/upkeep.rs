//! What a host waits for that only the operator may do, since the engine stands still meanwhile: an upgrade of the engine, a restart, a reboot. Pure.

use super::engine::Layout;
use super::facts::Facts;

/// Each with what to do. `name` is what `infra ssh` calls the host.
pub fn wanted(name: &str, engine: &Layout, facts: &Facts) -> Vec<String> {
    let order = "the replica first; once `infra status` shows it in sync, the master, whose app waits for some seconds";
    let mut all = Vec::new();
    let upgrades: Vec<String> = [engine.server_package, engine.tools_package]
        .iter()
        .filter_map(|package| {
            let to = facts.upgrades.get(*package)?;
            let from = facts.packages.get(*package)?;
            Some(format!("{package} {from} could become {to}"))
        })
        .collect();
    if !upgrades.is_empty() {
        all.push(format!(
            "{name}: {}: `infra ssh {name} -- sudo apt-get install --only-upgrade {} {}` does it and restarts the engine; {order}",
            upgrades.join(", "),
            engine.server_package,
            engine.tools_package
        ));
    }
    if facts.reboot_required {
        all.push(format!(
            "{name}: an upgrade of the system wants a reboot: `infra ssh {name} -- sudo systemctl reboot`; {order}"
        ));
    } else if facts.outdated_libraries && upgrades.is_empty() {
        all.push(format!(
            "{name}: the engine runs with libraries that an upgrade has replaced: `infra ssh {name} -- sudo systemctl restart {}`; {order}",
            engine.unit
        ));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Engine;

    #[test]
    fn what_waits_is_told_with_what_to_do_and_in_which_order() {
        let engine = Layout::of(Engine::Redis);
        let mut facts = Facts::default();
        facts.packages.insert("redis-server".into(), "5:8.0.2-3".into());
        facts.packages.insert("nftables".into(), "1".into());
        assert_eq!(wanted("replica", &engine, &facts), [] as [&str; 0]);
        // Other packages are mended by themselves.
        facts.upgrades.insert("nftables".into(), "2".into());
        assert_eq!(wanted("replica", &engine, &facts), [] as [&str; 0]);
        facts.outdated_libraries = true;
        assert!(wanted("replica", &engine, &facts)[0].contains("systemctl restart redis-server.service"));
        // The upgrade restarts it.
        facts.upgrades.insert("redis-server".into(), "5:8.0.4-1".into());
        let told = wanted("replica", &engine, &facts);
        assert_eq!(told.len(), 1);
        assert!(
            told[0].contains("redis-server 5:8.0.2-3 could become 5:8.0.4-1") && told[0].contains("replica first"),
            "{told:?}"
        );
        facts.reboot_required = true;
        assert!(wanted("replica", &engine, &facts)[1].contains("sudo systemctl reboot"));
    }
}
