//! Finds work that stops the engine and so needs an operator: upgrade, restart, reboot. Pure.

use super::engine::Layout;
use super::facts::Facts;
use std::fmt;

/// Work that stops the engine for a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Need {
    /// Newer packages of the engine, with both versions of each.
    Upgrade(Vec<String>),
    Reboot,
    /// A restart of the engine, with its reason.
    Restart(&'static str),
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Need::Upgrade(packages) => f.write_str(&packages.join(", ")),
            Need::Reboot => f.write_str("an upgrade of the system wants a reboot"),
            Need::Restart(why) => f.write_str(why),
        }
    }
}

/// Returns what the host needs.
pub fn needs(engine: &Layout, facts: &Facts) -> Vec<Need> {
    let mut all = Vec::new();
    let upgrades: Vec<String> = [engine.server_package, engine.tools_package]
        .iter()
        .filter_map(|package| {
            let to = facts.upgrades.get(*package)?;
            let from = facts.packages.get(*package)?;
            Some(format!("{package} {from} could become {to}"))
        })
        .collect();
    let upgrades_engine = !upgrades.is_empty();
    if upgrades_engine {
        all.push(Need::Upgrade(upgrades));
    }
    if facts.reboot_required {
        all.push(Need::Reboot);
    } else if lacks_its_module(engine, facts) {
        all.push(Need::Restart(
            "the engine runs without the module that its settings name, and lets the users of hosts in from anywhere: it wants a restart",
        ));
    } else if facts.outdated_libraries && !upgrades_engine {
        all.push(Need::Restart(
            "the engine runs with libraries that an upgrade has replaced: it wants a restart",
        ));
    }
    all
}

/// Returns each need with its remedy, for `infra status`.
pub fn wanted(name: &str, engine: &Layout, facts: &Facts) -> Vec<String> {
    let told = |need: Need| format!("{name}: {need}: `infra upgrade` does it, the replica first");
    needs(engine, facts).into_iter().map(told).collect()
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
        assert!(matches!(needs(&engine, &facts)[..], [Need::Restart(_)]));
        // The upgrade restarts the engine.
        facts.upgrades.insert("redis-server".into(), "5:8.0.4-1".into());
        let told = wanted("replica", &engine, &facts);
        assert_eq!(told.len(), 1);
        assert!(
            told[0].contains("redis-server 5:8.0.2-3 could become 5:8.0.4-1") && told[0].contains("`infra upgrade`"),
            "{told:?}"
        );
        facts.reboot_required = true;
        assert_eq!(needs(&engine, &facts)[1], Need::Reboot);
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
        assert!(wanted("master", &engine, &facts(named, bare))[0].contains("without the module"));
        for (config, info) in [(named, loaded), ("port 0\n", bare), (named, "Could not connect")] {
            assert_eq!(
                wanted("master", &engine, &facts(config, info)),
                [] as [&str; 0],
                "{info}"
            );
        }
    }
}
