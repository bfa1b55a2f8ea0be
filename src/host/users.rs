//! users.acl: the four users of the pair. Passwords go in as SHA-256, so that the file alone opens nothing. Pure.
//!
//! Nobody can log in as the default user, which is off and has no password. It keeps its commands all the same: Redis replays its append-only log as
//! that user, and checks a transaction's commands against its rules once more. Without them every MULTI in the log is refused at a restart, and what it
//! wrote is gone without an error.

use super::acl::Rules;
use super::settings::{Door, Passwords};
use super::templates;
use crate::error::Result;
use crate::secret::Secret;
use serde::Serialize;
use sha2::{Digest, Sha256};

/// The user that the app logs in as.
pub const APP: &str = "app";

/// `app_commands` are what the app may run beyond the usual, such as `keys`.
pub fn render(passwords: &Passwords, door: Door, app_commands: &[String]) -> Result<Secret> {
    let values = Values {
        app_commands,
        app_state: match door {
            Door::Open => "on",
            Door::Closed => "off",
        },
        app: digest(&passwords.app),
        replication: digest(&passwords.replication),
        backup: digest(&passwords.backup),
        admin: digest(&passwords.admin),
    };
    templates::render("users.acl", templates::USERS_ACL, &values).map(Secret::new)
}

/// Which commands the user `app` may run, read from the same file that a host is given.
pub fn app_rules(app_commands: &[String]) -> Result<Rules> {
    let nobody = || Secret::new("");
    let passwords = Passwords {
        app: nobody(),
        replication: nobody(),
        backup: nobody(),
        admin: nobody(),
    };
    let file = render(&passwords, Door::Open, app_commands)?;
    let line = file.expose().lines().find(|line| line.starts_with("user app "));
    Ok(Rules::read(line.unwrap_or_default()))
}

#[derive(Serialize)]
struct Values<'a> {
    app_state: &'static str,
    app: String,
    replication: String,
    backup: String,
    admin: String,
    app_commands: &'a [String],
}

/// What stands in users.acl for a password.
pub fn digest(password: &Secret) -> String {
    use std::fmt::Write;
    Sha256::digest(password.expose().as_bytes())
        .iter()
        .fold(String::with_capacity(64), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
}
