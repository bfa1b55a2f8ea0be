//! Finds work that stops the engine and so needs an operator: upgrade, restart, reboot. Pure.

use super::engine::Layout;
use super::facts::Facts;

/// Returns each need with its remedy. `name` is the host's name for `infra ssh`.
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
            "{name}: {}: `infra ssh {name} -- sudo apt-get install --only-upgrade {} {}` does it and restarts the engine; {order}; then `infra up`, since the package gives its folder another owner",
            upgrades.join(", "),
            engine.server_package,
            engine.tools_package
        ));
    }
    if facts.reboot_required {
        all.push(format!(
            "{name}: an upgrade of the system wants a reboot: `infra ssh {name} -- sudo systemctl reboot`; {order}"
        ));
    } else if lacks_its_module(engine, facts) {
        all.push(format!(
            "{name}: the engine runs without the module that its settings name, and lets the users of hosts in from anywhere: `infra ssh {name} -- sudo systemctl \
             restart {}`; {order}",
            engine.unit
        ));
    } else if facts.outdated_libraries && upgrades.is_empty() {
        all.push(format!(
            "{name}: the engine runs with libraries that an upgrade has replaced: `infra ssh {name} -- sudo systemctl restart {}`; {order}",
            engine.unit
        ));
    }
    all
}

/// Returns true if the engine started without the module that its settings name.
fn lacks_its_module(engine: &Layout, facts: &Facts) -> bool {
    let config = facts.files.get(engine.config_file).and_then(|file| file.text.as_ref());
    let is_named = config.is_some_and(|text| text.expose().lines().any(|line| line.starts_with("loadmodule ")));
    let says = |word| facts.engine.as_ref().is_some_and(|info| info.contains(word));
    is_named && says("run_id:") && !says("module:name=infra,")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::effects::host::facts::FoundFile;
    use crate::model::config::Engine;
    use crate::model::secret::Secret;

    #[test]
    fn each_need_is_reported_with_its_remedy_and_the_order_of_hosts() {
        let engine = Layout::of(Engine::Redis);
        let mut facts = Facts::default();
        facts.packages.insert("redis-server".into(), "5:8.0.2-3".into());
        facts.packages.insert("nftables".into(), "1".into());
        assert_eq!(wanted("replica", &engine, &facts), [] as [&str; 0]);
        // Other packages upgrade by themselves.
        facts.upgrades.insert("nftables".into(), "2".into());
        assert_eq!(wanted("replica", &engine, &facts), [] as [&str; 0]);
        facts.outdated_libraries = true;
        assert!(wanted("replica", &engine, &facts)[0].contains("systemctl restart redis-server.service"));
        // The upgrade restarts the engine.
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

    #[test]
    fn an_engine_without_its_module_is_reported_once_its_settings_name_one() {
        let engine = Layout::of(Engine::Redis);
        let facts = |config: &str, info: &str| {
            let mut facts = Facts::default();
            let file = FoundFile {
                mode: 0o640,
                owner: "root".into(),
                group: "redis".into(),
                sha256: String::new(),
                text: Some(Secret::new(config)),
            };
            facts.files.insert(engine.config_file.into(), file);
            facts.engine = Some(info.into());
            facts
        };
        let named = "port 0\nloadmodule /usr/local/lib/infra/infra-module.so\n";
        let loaded = "# Server\r\nrun_id:1\r\n# Modules\r\nmodule:name=infra,ver=1\r\n";
        let bare = "# Server\r\nrun_id:1\r\n# Modules\r\n";
        assert!(wanted("master", &engine, &facts(named, bare))[0].contains("systemctl restart redis-server.service"));
        for (config, info) in [(named, loaded), ("port 0\n", bare), (named, "Could not connect")] {
            assert_eq!(
                wanted("master", &engine, &facts(config, info)),
                [] as [&str; 0],
                "{info}"
            );
        }
    }
}
