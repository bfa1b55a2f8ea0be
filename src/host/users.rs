//! users.acl: the four users of the pair. Passwords go in as SHA-256, so that the file alone opens nothing. Pure.
//!
//! Nobody can log in as the default user, which is off and has no password. It keeps its commands all the same: Redis replays its append-only log as
//! that user, and checks a transaction's commands against its rules once more. Without them every MULTI in the log is refused at a restart, and what it
//! wrote is gone without an error.

use super::settings::{Door, Passwords};
use super::templates;
use crate::error::Result;
use crate::secret::Secret;
use serde::Serialize;
use sha2::{Digest, Sha256};

pub fn render(passwords: &Passwords, door: Door) -> Result<Secret> {
    let values = Values {
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

#[derive(Serialize)]
struct Values {
    app_state: &'static str,
    app: String,
    replication: String,
    backup: String,
    admin: String,
}

fn digest(password: &Secret) -> String {
    use std::fmt::Write;
    Sha256::digest(password.expose().as_bytes())
        .iter()
        .fold(String::with_capacity(64), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
}
