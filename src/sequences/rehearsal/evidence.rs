//! Reads what a scratch server says of its clients: counters, refusals and handshakes.

use super::verdict::{Evidence, Refusal, Refused, handshake};
use crate::effects::redis::Connection;
use crate::model::error::Result;
use ::redis::{Value, cmd};
use wire::info::Fields;
use wire::reply::{pairs, text_lossy};

/// Gathers the evidence. Our own looking adds none: it touches no key and is refused nothing.
pub async fn gather(connection: &mut Connection, log: &str) -> Result<Evidence> {
    let info: String = connection.query(cmd("INFO").arg("everything")).await?;
    let info = Fields::read(&info);
    let number = |name: &str| {
        info.said(name)
            .and_then(|value| value.strip_prefix("count=").unwrap_or(value).parse().ok())
            .unwrap_or(0)
    };
    let mut evidence = Evidence {
        // The scratch server never saves, so this counts every change since its start.
        writes: number("rdb_changes_since_last_save"),
        reads: number("keyspace_hits") + number("keyspace_misses"),
        without_login: number("errorstat_NOAUTH"),
        handshakes: log.lines().filter_map(handshake).collect(),
        ..Evidence::default()
    };
    // The list is newest first; the refusal that happened first says most.
    let entries: Vec<Value> = connection.query(cmd("ACL").arg("LOG").arg(256)).await?;
    for entry in entries.into_iter().rev() {
        let fields = pairs(entry).unwrap_or_default();
        let said = |name: &str| fields.get(name).and_then(text_lossy).unwrap_or_default();
        let kind = match said("reason").as_str() {
            "auth" => {
                evidence.refused_logins.push(said("username"));
                continue;
            }
            "command" => Refused::Command,
            "key" => Refused::Key,
            "channel" => Refused::Channel,
            _ => continue,
        };
        evidence.refusals.push(Refusal {
            kind,
            what: said("object"),
        });
    }
    Ok(evidence)
}
