//! JSON objects in the environment's bucket. A write fails if the object changed since it was read.

use crate::effects::cloud::Cloud;
use crate::effects::cloud::s3::{Bucket, Etag, If, Written};
use crate::model::error::{Doing, Error, Result};
use crate::model::state::{SCHEMA_VERSION, State};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The folder of one environment in the bucket. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    bucket: Bucket,
    env: String,
}

/// A value with the etag of its object.
#[derive(Clone, Debug)]
pub struct Stored<T> {
    pub value: T,
    pub etag: Etag,
}

impl Store {
    /// Sends no request. The bucket need not exist yet: reads then find nothing.
    pub fn new(cloud: &Cloud, bucket: &str, env: &str) -> Self {
        Store {
            bucket: Bucket::new(cloud, bucket),
            env: env.to_string(),
        }
    }

    pub fn env(&self) -> &str {
        &self.env
    }

    pub fn bucket(&self) -> &Bucket {
        &self.bucket
    }

    /// Returns the environment's state; `None` if none was ever written.
    pub async fn state(&self) -> Result<Option<Stored<State>>> {
        let stored: Option<Stored<State>> = self.read("state.json").await?;
        if let Some(stored) = &stored
            && stored.value.schema_version > SCHEMA_VERSION
        {
            return Err(Error::failed(format!(
                "understand {}: it was written by a newer version of this program (form {}, this one knows {SCHEMA_VERSION})",
                self.bucket.url(&self.key("state.json")),
                stored.value.schema_version
            ))
            .hint("use the newest version of this program that anybody on the team uses"));
        }
        Ok(stored)
    }

    /// Writes the state over what was read (`None`: nothing). Returns the etag for the next write.
    pub async fn save(&self, state: &State, over: Option<&Etag>) -> Result<Etag> {
        self.write("state.json", state, over).await?.ok_or_else(|| {
            Error::locked(format!(
                "write {}: somebody else wrote it since it was read",
                self.bucket.url(&self.key("state.json"))
            ))
            .hint("another command works on this environment: wait until it has ended, then run the same command again")
        })
    }

    pub(super) fn key(&self, file: &str) -> String {
        format!("state/{}/{file}", self.env)
    }

    pub(super) async fn read<T: DeserializeOwned>(&self, file: &str) -> Result<Option<Stored<T>>> {
        let key = self.key(file);
        let Some(object) = self.bucket.get(&key).await? else {
            return Ok(None);
        };
        let value = serde_json::from_slice(&object.body).doing(|| format!("understand {}", self.bucket.url(&key)))?;
        Ok(Some(Stored {
            value,
            etag: object.etag,
        }))
    }

    /// Returns `None` if somebody else wrote the file since it was read.
    pub(super) async fn write<T: Serialize>(&self, file: &str, value: &T, over: Option<&Etag>) -> Result<Option<Etag>> {
        let key = self.key(file);
        let body = serde_json::to_vec_pretty(value).doing(|| format!("put {} into JSON", self.bucket.url(&key)))?;
        let when = over.map_or(If::Absent, |etag| If::Unchanged(etag.clone()));
        Ok(match self.bucket.put(&key, &body, &when).await? {
            Written::Done(etag) => Some(etag),
            Written::Refused => None,
        })
    }
}
