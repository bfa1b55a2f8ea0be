//! The facts of the source: asked while the pair may follow it, remembered afterwards.

use crate::decide::follow::follower;
use crate::effects::host::Upstream;
use crate::effects::redis::{Server, Trust, control, survey};
use crate::model::error::Result;
use crate::model::follow::Follow;
use crate::model::state::SourceRecord;
use trust::Policy;

#[derive(Clone, Debug)]
pub struct Known {
    /// The server to replicate from; `None` after the promotion, when nobody may follow it again.
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

    pub async fn ask(server: &Server, follow: Follow, addon: Option<String>) -> Result<Self> {
        let mut connection = server.connect(0).await?;
        let info = connection.info().await?;
        let psync = control::psync(&mut connection).await?;
        let mut settings = survey::followed_settings(&mut connection).await?;
        settings.insert("maxmemory-policy".into(), info.maxmemory_policy.clone());
        Ok(Known {
            upstream: Some(upstream(server)),
            record: SourceRecord {
                addon,
                address: Some(format!("{}:{}", server.host, server.port)),
                version: Some(info.own_version().to_string()),
                // The tunnel checks it: the engine has no use for it.
                certificate: None,
                follower: follower(follow, &psync),
                settings,
            },
        })
    }
}

/// Returns the source as a host follows it.
pub fn upstream(server: &Server) -> Upstream {
    let policy = |trust: &Trust| match trust {
        Trust::Pin(pin) => Policy::Pin(*pin),
        Trust::Public | Trust::Authority(_) => Policy::Verify,
    };
    Upstream {
        host: server.host.clone(),
        port: server.port,
        user: server.login_user().map(str::to_string),
        password: server.password.clone(),
        trust: server.trust.as_ref().map(policy),
        seen_as: None,
    }
}
