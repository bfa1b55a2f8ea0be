//! The facts of the source: asked while the pair may follow it, remembered afterwards.

use crate::effects::host::Upstream;
use crate::effects::redis::{Server, pinned_certificate, survey};
use crate::model::error::Result;
use crate::model::state::SourceRecord;

#[derive(Clone, Debug)]
pub struct Known {
    /// Where to replicate from; `None` after the promotion, when nobody may follow it again.
    pub upstream: Option<Upstream>,
    pub record: SourceRecord,
}

impl Known {
    /// Returns what is remembered, for a pair that no longer follows.
    pub fn remembered(record: &SourceRecord) -> Self {
        Known {
            upstream: None,
            record: record.clone(),
        }
    }

    pub async fn ask(server: &Server, addon: Option<String>) -> Result<Self> {
        let mut connection = server.connect(0).await?;
        let info = connection.info().await?;
        let certificate = match &server.trust {
            Some(trust) => Some(pinned_certificate(server, trust).await?),
            None => None,
        };
        let mut settings = survey::followed_settings(&mut connection).await?;
        settings.insert("maxmemory-policy".into(), info.maxmemory_policy.clone());
        Ok(Known {
            upstream: Some(Upstream {
                host: server.host.clone(),
                port: server.port,
                user: server.login_user().map(str::to_string),
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
