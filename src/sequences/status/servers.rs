//! Asks the three servers, and judges what each says of itself.

use crate::decide::preflight::{Finding, RENEWED_LATE_DAYS};
use crate::decide::room::Use;
use crate::effects::host::tls;
use crate::effects::redis::{Server, Trust, shown_certificate, trust};
use crate::model::error::Result;
use jiff::Timestamp;
use serde::Serialize;
use std::collections::BTreeMap;
use wire::info::{Info, Keyspace, ServerRole};

/// One server, as it says of itself.
#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum Seen {
    Up(Box<Redis>),
    Down { error: String },
}

#[derive(Serialize)]
pub(super) struct Redis {
    pub(super) address: String,
    pub(super) version: String,
    pub(super) role: ServerRole,
    pub(super) run_id: String,
    pub(super) replid: String,
    /// The applied offset of a replica, or the written offset of a master.
    pub(super) offset: u64,
    pub(super) link_up: Option<bool>,
    /// Bytes behind the server that it follows.
    pub(super) lag_bytes: Option<u64>,
    pub(super) used_memory: u64,
    pub(super) maxmemory: u64,
    pub(super) keys: BTreeMap<u32, Keyspace>,
    pub(super) connected_clients: u64,
    pub(super) replicas: usize,
    /// Days until its certificate ends; `None` without TLS.
    pub(super) certificate_days_left: Option<i64>,
}

pub(super) struct Answer {
    pub(super) address: String,
    pub(super) info: Info,
    pub(super) certificate_days_left: Option<i64>,
    /// A public authority's certificate is renewed without us.
    pub(super) renewed_by_others: bool,
}

pub(super) async fn ask(server: &Server) -> Result<Answer> {
    let mut connection = server.connect(0).await?;
    let certificate_days_left = match server.trust {
        Some(_) => {
            let certificate = shown_certificate(&server.host, server.port).await?;
            Some(trust::read(&certificate)?.days_left(Timestamp::now()))
        }
        None => None,
    };
    Ok(Answer {
        address: format!("{}:{}", server.host, server.port),
        info: connection.info().await?,
        certificate_days_left,
        renewed_by_others: server.trust == Some(Trust::Public),
    })
}

pub(super) type Asked = Result<Answer>;

pub(super) fn memory_of(servers: &BTreeMap<&'static str, Seen>) -> Option<Use> {
    let Some(Seen::Up(master)) = servers.get("master") else {
        return None;
    };
    // Without a limit the machine's memory counts, which Redis does not know.
    (master.maxmemory > 0).then_some(Use {
        used: master.used_memory,
        most: master.maxmemory,
    })
}

pub(super) fn connections_of(master: &Asked) -> Option<Use> {
    let info = &master.as_ref().ok()?.info;
    Some(Use {
        used: info.connected_clients,
        most: info.max_clients?,
    })
}

pub(super) fn judge(name: &str, seen: Asked, upstream: Option<u64>, findings: &mut Vec<Finding>) -> Seen {
    let Answer {
        address,
        info,
        certificate_days_left,
        renewed_by_others,
    } = match seen {
        Ok(seen) => seen,
        Err(error) => {
            let error = format!("{error:#}");
            let remedy = match name {
                "source" => "see the provider's status page, and whether its list of allowed addresses has yours",
                "master" => {
                    "`infra up` starts an instance that is stopped; if the master does not come back, `infra promote --force`"
                }
                _ => "`infra up` starts an instance that is stopped; if it does not come back, `infra replace replica`",
            };
            let found = format!("{name} does not answer: {error}");
            findings.push(Finding::warning("no-answer", found, remedy));
            return Seen::Down { error };
        }
    };
    let warn_days = if renewed_by_others {
        RENEWED_LATE_DAYS
    } else {
        tls::WARN_DAYS
    };
    if let Some(days) = certificate_days_left.filter(|days| *days < warn_days) {
        let remedy = match name {
            _ if renewed_by_others => "ask the provider when it is renewed; the new one needs nothing from you",
            "source" => "ask the provider when it is renewed, and run `infra check --pin` after that",
            _ => "`infra up` renews it without a restart",
        };
        let found = format!("the certificate of the {name} ends in {days} days");
        findings.push(Finding::warning("certificate-ends", found, remedy));
    }
    let link_up = info.link.as_ref().map(|link| link.up);
    if link_up == Some(false) {
        let found = format!("{name} has lost the server that it follows");
        let remedy = "it connects again by itself; if it does not, `infra up` says why";
        findings.push(Finding::warning("link-down", found, remedy));
    }
    let offset = info.applied_offset.unwrap_or(info.master_repl_offset);
    Seen::Up(Box::new(Redis {
        address,
        version: info.own_version().to_string(),
        role: info.role,
        run_id: info.run_id.clone(),
        replid: info.replid.clone(),
        offset,
        link_up,
        lag_bytes: link_up.and(upstream).map(|upstream| upstream.saturating_sub(offset)),
        used_memory: info.used_memory,
        maxmemory: info.maxmemory,
        keys: info.keyspace.clone(),
        connected_clients: info.connected_clients,
        replicas: info.replicas.len(),
        certificate_days_left,
    }))
}
