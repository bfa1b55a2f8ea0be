//! Keeps the result of the last rehearsal in the bucket, for the switch.

use super::verdict::Verdict;
use crate::effects::cloud::s3::If;
use crate::effects::state::Store;
use crate::model::config::Config;
use crate::model::error::{Doing, Result};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub struct Record {
    pub at: Timestamp,
    #[serde(flatten)]
    pub verdict: Verdict,
    /// Digest of the settings that the rehearsal depends on; with another digest it does not count.
    pub digest: String,
}

impl Record {
    pub fn new(verdict: Verdict, config: &Config, at: Timestamp) -> Self {
        Record {
            at,
            verdict,
            digest: digest(config),
        }
    }

    /// Returns the last rehearsal of this app under these settings; `None` if there was none.
    pub async fn load(store: &Store, config: &Config) -> Result<Option<Record>> {
        let key = key(store);
        let Some(object) = store.bucket().get(&key).await? else {
            return Ok(None);
        };
        let record: Record =
            serde_json::from_slice(&object.body).doing(|| format!("understand {}", store.bucket().url(&key)))?;
        Ok(Some(record).filter(|record| record.digest == digest(config)))
    }

    pub async fn save(&self, store: &Store) -> Result<()> {
        let key = key(store);
        let body = serde_json::to_vec_pretty(self).doing(|| "put the rehearsal's result into JSON".into())?;
        store.bucket().put(&key, &body, &If::Always).await.map(drop)
    }
}

fn key(store: &Store) -> String {
    format!("state/{}/rehearsal.json", store.env())
}

/// Returns a digest of those parts of infra.yml that change what an app meets at the endpoint.
fn digest(config: &Config) -> String {
    let app = &config.app;
    let parts = [
        app.name.clone(),
        app.config_var.clone(),
        app.ca_config_var(),
        app.rehearse.clone().unwrap_or_default(),
        config.redis.app_commands.join(" "),
        format!("{:?}", config.redis.engine),
    ];
    infra_agent::digest::of(parts.join("\n").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(more: &str) -> Config {
        Config::parse(&format!(
            "name: demo\nsource: {{config_var: REDIS_URL}}\napp: {{name: demo, rehearse: bin/check{more}}}\n"
        ))
        .unwrap()
    }

    #[test]
    fn a_rehearsal_under_other_settings_does_not_count() {
        let first = Record::new(
            Verdict::Passed { writes: 1, reads: 1 },
            &config(""),
            Timestamp::UNIX_EPOCH,
        );
        assert_eq!(first.digest, digest(&config("")));
        assert_ne!(first.digest, digest(&config(", ca_config_var: OTHER_CA")));
        assert_ne!(first.digest, digest(&config(", config_var: JOBS_URL")));
    }

    #[test]
    fn a_record_is_read_back_as_it_was_written() {
        for verdict in [
            Verdict::Passed { writes: 1, reads: 2 },
            Verdict::Failed {
                reason: "a".into(),
                remedy: "b".into(),
            },
            Verdict::Unknown {
                reason: "a".into(),
                remedy: "b".into(),
            },
        ] {
            let record = Record::new(verdict, &config(""), Timestamp::UNIX_EPOCH);
            let text = serde_json::to_string(&record).unwrap();
            assert_eq!(serde_json::from_str::<Record>(&text).unwrap(), record);
        }
    }
}
