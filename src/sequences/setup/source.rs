//! What is known of the hosted Redis: asked of it while the pair may still follow, remembered afterwards.

use crate::effects::host::Upstream;
use crate::effects::redis::{Info, Server, Trust, pinned_certificate, survey};
use crate::model::error::Result;
use crate::model::state::SourceRecord;

/// What the pair needs to know of the source.
#[derive(Clone, Debug)]
pub struct Known {
    /// Where to replicate from; absent once the master has taken over, when nobody may follow the source again.
    pub upstream: Option<Upstream>,
    pub record: SourceRecord,
}

impl Known {
    /// What is remembered, for a pair that follows no more.
    pub fn remembered(record: &SourceRecord) -> Self {
        Known {
            upstream: None,
            record: record.clone(),
        }
    }

    /// Asks the source.
    pub async fn ask(server: &Server, addon: Option<String>) -> Result<Self> {
        let mut connection = server.connect(0).await?;
        let info = Info::read(&mut connection).await?;
        let certificate = match server.trust {
            Some(Trust::Pin(pin)) => Some(pinned_certificate(&server.host, server.port, pin).await?),
            _ => None,
        };
        let mut settings = survey::followed_settings(server, &mut connection).await?;
        settings.insert("maxmemory-policy".into(), info.maxmemory_policy.clone());
        Ok(Known {
            upstream: Some(Upstream {
                host: server.host.clone(),
                port: server.port,
                user: server.user.clone(),
                password: server.password.clone(),
                tls: server.trust.is_some(),
            }),
            record: SourceRecord {
                addon,
                address: Some(format!("{}:{}", server.host, server.port)),
                version: Some(info.own_version().to_string()),
                certificate,
                settings,
            },
        })
    }
}
