//! Decides which commands a user's rules allow, by Redis's own reading of rules. Pure.
//!
//! It only predicts refusals, so `@admin` and `@dangerous` are tables here, as in Redis 7.0. A
//! running master is asked itself (`ACL DRYRUN`).

use std::fmt;

/// Commands of `@dangerous` but not `@admin`: slow or destructive on a shared server.
const DANGEROUS: [&str; 10] = [
    "flushall",
    "flushdb",
    "info",
    "keys",
    "migrate",
    "restore",
    "restore-asking",
    "sort",
    "sort_ro",
    "swapdb",
];

/// Commands of `@admin`, all in `@dangerous` too. A name without `|` includes subcommands.
const ADMIN: [&str; 65] = [
    "acl|deluser",
    "acl|dryrun",
    "acl|getuser",
    "acl|list",
    "acl|load",
    "acl|log",
    "acl|save",
    "acl|setuser",
    "acl|users",
    "bgrewriteaof",
    "bgsave",
    "client|kill",
    "client|list",
    "client|no-evict",
    "client|pause",
    "client|unblock",
    "client|unpause",
    "cluster|addslots",
    "cluster|addslotsrange",
    "cluster|bumpepoch",
    "cluster|count-failure-reports",
    "cluster|delslots",
    "cluster|delslotsrange",
    "cluster|failover",
    "cluster|flushslots",
    "cluster|forget",
    "cluster|meet",
    "cluster|replicas",
    "cluster|replicate",
    "cluster|reset",
    "cluster|saveconfig",
    "cluster|set-config-epoch",
    "cluster|setslot",
    "cluster|slaves",
    "config",
    "debug",
    "failover",
    "lastsave",
    "latency|doctor",
    "latency|graph",
    "latency|histogram",
    "latency|history",
    "latency|latest",
    "latency|reset",
    "module|list",
    "module|load",
    "module|loadex",
    "module|unload",
    "monitor",
    "pfdebug",
    "pfselftest",
    "psync",
    "replconf",
    "replicaof",
    "role",
    "save",
    "shutdown",
    "slaveof",
    "slowlog|get",
    "slowlog|len",
    "slowlog|reset",
    "sync",
    // Valkey's names of these commands.
    "commandlog",
    "cluster|syncslots",
    "cluster|migrateslots",
];

/// A user's rules about commands, in their order: the last one that matches decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules(Vec<Rule>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Rule {
    allows: bool,
    /// A command, a subcommand or `@category`, in lower case.
    what: String,
}

impl Rules {
    /// Reads the rules about commands in a line of users.acl; ignores passwords, keys and channels.
    pub fn read(line: &str) -> Rules {
        let rules = line.split_whitespace().filter_map(|word| {
            let (allows, what) = match word {
                "allcommands" => (true, "@all"),
                "nocommands" => (false, "@all"),
                _ if word.starts_with('+') => (true, &word[1..]),
                _ if word.starts_with('-') => (false, &word[1..]),
                _ => return None,
            };
            Some(Rule {
                allows,
                what: what.to_lowercase(),
            })
        });
        Rules(rules.collect())
    }

    /// Returns true if a command, such as `get` or `config|get`, may be run. Ignores key rules.
    pub fn allow(&self, command: &str) -> bool {
        let command = command.to_lowercase();
        let mut allowed = false;
        for rule in &self.0 {
            let fits = match rule.what.strip_prefix('@') {
                Some("all") => true,
                Some("admin") => listed(&ADMIN, &command),
                Some("dangerous") => listed(&ADMIN, &command) || listed(&DANGEROUS, &command),
                Some(_) => false,
                None => covers(&rule.what, &command),
            };
            if fits {
                allowed = rule.allows;
            }
        }
        allowed
    }
}

impl fmt::Display for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, rule) in self.0.iter().enumerate() {
            let gap = if index == 0 { "" } else { " " };
            let sign = if rule.allows { '+' } else { '-' };
            write!(f, "{gap}{sign}{}", rule.what)?;
        }
        Ok(())
    }
}

fn listed(table: &[&str], command: &str) -> bool {
    table.iter().any(|entry| covers(entry, command))
}

/// Returns true if the rule names the command, or its parent command.
fn covers(rule: &str, command: &str) -> bool {
    command == rule || command.strip_prefix(rule).is_some_and(|rest| rest.starts_with('|'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::effects::host::users::app_rules;
    use crate::effects::redis::testing::TestServer;

    #[test]
    fn the_last_rule_that_fits_decides() {
        let rules = Rules::read("user app on #00 ~* &* +@all -@admin -@dangerous +info +client|list -get");
        for (command, allowed) in [
            ("set", true),
            ("get", false),
            ("INFO", true),
            ("keys", false),
            ("client|list", true),
            ("client|kill", false),
            ("client|setname", true),
            ("config|get", false),
            ("evalsha", true),
            ("json.set", true),
        ] {
            assert_eq!(rules.allow(command), allowed, "{command}");
        }
    }

    #[test]
    fn the_app_may_run_the_commands_that_infra_yml_adds() {
        let usual = app_rules(&[]).unwrap();
        assert!(usual.allow("set") && usual.allow("info") && !usual.allow("keys") && !usual.allow("flushdb"));
        let more = app_rules(&["keys".into(), "client|list".into()]).unwrap();
        assert!(more.allow("keys") && more.allow("client|list") && !more.allow("flushdb"));
    }

    /// Compares the table with the server of its version, for every command of both categories.
    #[tokio::test]
    async fn the_table_agrees_with_a_server() {
        let server = TestServer::start(&[]).await;
        let rules = app_rules(&[]).unwrap();
        server
            .script("ACL SETUSER app on nopass ~* &* +@all -@admin -@dangerous +info")
            .await;
        let dangerous: Vec<String> = server.run("ACL CAT dangerous").await;
        assert!(dangerous.len() > 60);
        for command in dangerous {
            assert_eq!(rules.allow(&command), command == "info", "{command}");
        }
        for category in [
            "read",
            "write",
            "connection",
            "scripting",
            "pubsub",
            "transaction",
            "stream",
        ] {
            let commands: Vec<String> = server.run(&format!("ACL CAT {category}")).await;
            let dangerous: Vec<String> = server.run("ACL CAT dangerous").await;
            for command in commands.into_iter().filter(|command| !dangerous.contains(command)) {
                assert!(rules.allow(&command), "{command}");
            }
        }
    }
}
