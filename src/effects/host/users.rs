//! users.acl: the users of the pair with least privilege. It holds SHA-256 of passwords. Pure.
//!
//! The default user is off, so nobody can log in as it. It keeps its commands, since Redis replays
//! the append-only log as this user and checks commands in transactions. Without them every MULTI
//! in the log is refused at a restart, and its writes are lost without an error.

use super::acl::Rules;
use super::settings::{AppAccess, AppRights, CopyAccess, Password, Passwords};
use super::templates;
use crate::model::error::Result;
use crate::model::secret::Secret;
use serde::Serialize;

/// The name of the user that the app logs in as.
pub const APP: &str = "app";

pub fn render(
    passwords: &Passwords,
    app_access: AppAccess,
    copy_access: CopyAccess,
    rights: &AppRights,
) -> Result<Secret> {
    let digests = |password: &Password| password.accepted().into_iter().map(digest).collect();
    let values = Values {
        app_commands: &rights.commands,
        app_keys: rights.keys.iter().map(|pattern| key_rule(pattern)).collect(),
        app_channels: &rights.channels,
        app_state: match app_access {
            AppAccess::Open => "on",
            AppAccess::Closed => "off",
        },
        copy_state: match copy_access {
            CopyAccess::Open => "on",
            CopyAccess::Closed => "off",
        },
        app: digests(&passwords.app),
        copy: digests(&passwords.copy()),
        replication: digests(&passwords.replication),
        backup: digests(&passwords.backup),
        monitoring: digests(&passwords.monitoring),
        admin: digests(&passwords.admin),
    };
    templates::render("users.acl", templates::USERS_ACL, &values).map(Secret::new)
}

/// Returns which commands the user `app` may run, read from the file for hosts.
pub fn app_rules(app_commands: &[String]) -> Result<Rules> {
    let nobody = || Password::only(Secret::new(""));
    let passwords = Passwords {
        app: nobody(),
        replication: nobody(),
        backup: nobody(),
        monitoring: nobody(),
        admin: nobody(),
    };
    let rights = AppRights {
        commands: app_commands.to_vec(),
        ..AppRights::default()
    };
    let file = render(&passwords, AppAccess::Open, CopyAccess::Closed, &rights)?;
    let line = file.expose().lines().find(|line| line.starts_with("user app "));
    Ok(Rules::read(line.unwrap_or_default()))
}

#[derive(Serialize)]
struct Values<'a> {
    app_state: &'static str,
    copy_state: &'static str,
    copy: Vec<String>,
    app: Vec<String>,
    replication: Vec<String>,
    backup: Vec<String>,
    monitoring: Vec<String>,
    admin: Vec<String>,
    app_commands: &'a [String],
    app_keys: Vec<String>,
    app_channels: &'a [String],
}

/// Returns what the user `copy` may do, as rules of the file for hosts.
#[cfg(test)]
pub(crate) fn copy_rule() -> &'static str {
    let line = templates::USERS_ACL.lines().find(|line| line.starts_with("user copy "));
    line.and_then(|line| Some(&line[line.find("resetkeys")?..]))
        .unwrap_or_default()
}

/// Returns a key pattern as an ACL rule: read and write, unless it begins with `%R~` or `%W~`.
fn key_rule(pattern: &str) -> String {
    if pattern.starts_with("%R~") || pattern.starts_with("%W~") {
        pattern.into()
    } else {
        format!("~{pattern}")
    }
}

/// Returns the form of a password in users.acl.
pub fn digest(password: &Secret) -> String {
    infra_agent::digest::of(password.expose().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::effects::redis::testing::TestServer;

    fn passwords() -> Passwords {
        let one = |name: &str| Password::only(Secret::new(format!("{name}-secret")));
        Passwords {
            app: Password {
                used: Secret::new("old"),
                also: Some(Secret::new("new")),
            },
            replication: one("replication"),
            backup: one("backup"),
            monitoring: one("monitoring"),
            admin: one("admin"),
        }
    }

    #[test]
    fn both_passwords_are_accepted_during_a_rotation_whichever_is_used() {
        let swapped = Passwords {
            app: Password {
                used: Secret::new("new"),
                also: Some(Secret::new("old")),
            },
            ..passwords()
        };
        let file = |passwords: Passwords| {
            render(&passwords, AppAccess::Open, CopyAccess::Closed, &AppRights::default()).unwrap()
        };
        assert_eq!(file(passwords()), file(swapped));
        let same = Passwords {
            app: Password {
                used: Secret::new("new"),
                also: Some(Secret::new("new")),
            },
            ..passwords()
        };
        assert_eq!(file(same).expose().matches(&digest(&Secret::new("new"))).count(), 1);
        let both = [digest(&Secret::new("old")), digest(&Secret::new("new"))];
        assert!(both.iter().all(|digest| file(passwords()).expose().contains(digest)));
        assert!(!file(passwords()).expose().contains("secret"));
    }

    /// Tests the whole file with a real engine.
    #[tokio::test]
    async fn an_engine_grants_each_user_what_the_file_says_and_no_more() {
        let server = TestServer::start(&[]).await;
        let rights = AppRights {
            commands: vec!["keys".into()],
            keys: vec!["shop:*".into(), "%R~shared:*".into()],
            channels: vec!["news.*".into()],
        };
        let file = render(&passwords(), AppAccess::Open, CopyAccess::Open, &rights).unwrap();
        for line in file.expose().lines().filter(|line| !line.starts_with("user default ")) {
            let line = line.trim_start_matches("user ");
            server.script(&format!("ACL SETUSER {line}")).await;
        }
        for (user, command, allowed) in [
            ("app", "SET shop:1 x", true),
            ("app", "GET shared:1", true),
            ("app", "SET shared:1 x", false),
            ("app", "GET other:1", false),
            ("app", "PUBLISH news.uk x", true),
            ("app", "PUBLISH weather x", false),
            ("app", "KEYS shop:*", true),
            ("app", "FLUSHALL", false),
            ("app", "CONFIG GET requirepass", false),
            ("app", "DEBUG SLEEP 0", false),
            ("app", "ACL LIST", false),
            ("app", "ACL WHOAMI", true),
            ("app", "SHUTDOWN", false),
            ("app", "REPLICAOF NO ONE", false),
            ("app", "MODULE LIST", false),
            ("app", "MONITOR", false),
            ("replication", "PSYNC ? -1", true),
            ("replication", "GET shop:1", false),
            ("replication", "INFO", false),
            ("backup", "BGREWRITEAOF", true),
            ("backup", "GET shop:1", false),
            ("backup", "CONFIG GET masterauth", false),
            ("monitoring", "INFO", true),
            ("monitoring", "LATENCY LATEST", true),
            ("monitoring", "GET shop:1", false),
            ("monitoring", "SLOWLOG GET", false),
            ("monitoring", "CONFIG GET masterauth", false),
            ("monitoring", "CLIENT LIST", false),
            ("copy", "RESTORE shop:1 0 x", true),
            ("copy", "UNLINK shop:1", true),
            ("copy", "CLIENT KILL USER copy", true),
            ("copy", "GET shop:1", false),
            ("copy", "FLUSHALL", false),
            ("copy", "CONFIG GET masterauth", false),
            ("copy", "CLIENT LIST", false),
            ("admin", "CONFIG GET masterauth", true),
        ] {
            let answer: String = server.run(&format!("ACL DRYRUN {user} {command}")).await;
            assert_eq!(answer == "OK", allowed, "{user}: {command}: {answer}");
        }
    }
}
