//! Objects in one bucket, written under conditions.
//!
//! Objects are held whole in memory: state, journals, locks, records. `bucket` makes the bucket,
//! `listing` finds objects by their keys.

use super::Cloud;
use super::failure::{Explain, code, explained, status};
use super::patience::Patience;
use crate::effects::wait::{Look, Pauses};
use crate::model::cloud::Permission;
use crate::model::error::{Error, Result};
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::config::interceptors::BeforeDeserializationInterceptorContextRef;
use aws_sdk_s3::config::{Intercept, RuntimeComponents, SharedCredentialsProvider};
use aws_sdk_s3::error::SdkError;
use aws_sdk_s3::operation::get_object::{GetObjectError, GetObjectOutput};
use aws_sdk_s3::primitives::{ByteStream, DateTime};
use aws_smithy_types::config_bag::ConfigBag;
use jiff::Timestamp;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Pauses before a write is repeated that met another one at the same moment (409).
const CONFLICTS: [u64; 6] = [40, 80, 120, 160, 200, 240];

/// Limit for records. A journal grows by some hundred bytes a step, a base's record by its parts.
const LARGEST_RECORD: usize = 8 << 20;

/// Limit for a part of a base, or a segment of the log.
pub const LARGEST_OBJECT: usize = infra_agent::download::LARGEST as usize;

/// One bucket of one account. Cheap to clone.
#[derive(Clone)]
pub struct Bucket {
    pub(super) client: aws_sdk_s3::Client,
    pub(super) name: String,
    pub(super) account: String,
    pub(super) patience: Patience,
    pub(super) credentials: SharedCredentialsProvider,
}

/// Identifies the content of an object that was read or written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Etag(String);

/// The condition of a write.
#[derive(Clone, Debug)]
pub enum If {
    Always,
    /// Only if there is no such object.
    Absent,
    /// Only if the object is still the one that was read.
    Unchanged(Etag),
}

pub struct Object {
    pub body: Vec<u8>,
    pub etag: Etag,
    /// When the object was written, and when S3 answered, both by the clock of S3.
    pub written_at: Option<Timestamp>,
    pub answered_at: Option<Timestamp>,
}

/// The outcome of a conditional write.
#[derive(Debug, PartialEq, Eq)]
pub enum Written {
    Done(Etag),
    /// The condition did not hold (412), so nothing was written.
    Refused,
}

impl Bucket {
    pub fn new(cloud: &Cloud, name: &str) -> Self {
        Bucket {
            client: cloud.s3.clone(),
            name: name.to_string(),
            account: cloud.account().to_string(),
            patience: cloud.patience.clone(),
            credentials: cloud.credentials.clone(),
        }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns a record; `None` if it or the bucket does not exist, an error if it is too large.
    pub async fn get(&self, key: &str) -> Result<Option<Object>> {
        self.get_within(key, LARGEST_RECORD).await
    }

    /// As `get`, for an object of at most `most` bytes.
    pub async fn get_within(&self, key: &str, most: usize) -> Result<Option<Object>> {
        tracing::debug!("s3: get {key}");
        let clock = ServerClock::default();
        let doing = || format!("read {}", self.url(key));
        let asked = self
            .patience
            .of_bucket(&self.name, Permission::GetObject, doing, || self.ask_for(key, &clock));
        let answer = match Box::pin(asked).await? {
            Err(error) if code(&error) == "NoSuchBucket" => return Ok(None),
            Err(error) if code(&error) == "NoSuchKey" && !self.is_listed(key).await? => return Ok(None),
            Err(error) if code(&error) == "NoSuchKey" => Box::pin(self.ask_until_found(key, &clock)).await?,
            answer => answer,
        };
        let answer = answer.explain(Permission::GetObject, doing)?;
        let etag = Etag(answer.e_tag.unwrap_or_default());
        let written_at = answer.last_modified.as_ref().and_then(timestamp);
        let announced = answer.content_length.unwrap_or(0);
        let too_large = || {
            Error::failed(format!("read {}: it has more than {most} bytes", self.url(key)))
                .hint("this program did not write it: see who did")
        };
        if usize::try_from(announced).is_ok_and(|announced| announced > most) {
            return Err(too_large());
        }
        let mut body = Vec::new();
        let mut stream = answer.body;
        while let Some(bytes) = stream
            .try_next()
            .await
            .map_err(|error| Error::failed(format!("read {}", self.url(key))).because(error))?
        {
            if body.len() + bytes.len() > most {
                return Err(too_large());
            }
            body.extend_from_slice(&bytes);
        }
        Ok(Some(Object {
            body,
            etag,
            written_at,
            answered_at: clock.seen(),
        }))
    }

    async fn ask_for(
        &self,
        key: &str,
        clock: &ServerClock,
    ) -> Result<GetObjectOutput, SdkError<GetObjectError, HttpResponse>> {
        let get = self.client.get_object().bucket(&self.name).key(key);
        let get = get.expected_bucket_owner(&self.account).customize();
        // Boxed, since a future of the SDK is large and this one is part of many.
        Box::pin(get.interceptor(clock.clone()).send()).await
    }

    async fn ask_until_found(
        &self,
        key: &str,
        clock: &ServerClock,
    ) -> Result<Result<GetObjectOutput, SdkError<GetObjectError, HttpResponse>>> {
        let look = || async {
            match self.ask_for(key, clock).await {
                // It may have been removed meanwhile.
                Err(error) if code(&error) == "NoSuchKey" && self.is_listed(key).await.unwrap_or(true) => {
                    Look::NotYet("S3 lists the object and answers 404 for it".into())
                }
                answer => Look::Ready(answer),
            }
        };
        self.patience.until(|| format!("read {}", self.url(key)), look).await
    }

    /// Writes the whole object. Repeats it if S3 left it undecided because of another one (409).
    pub async fn put(&self, key: &str, body: &[u8], when: &If) -> Result<Written> {
        tracing::debug!("s3: put {key}, {} bytes", body.len());
        let mut pauses = Pauses::listed(CONFLICTS.map(Duration::from_millis));
        loop {
            let send = || {
                let put = self.client.put_object().bucket(&self.name).key(key);
                let put = put
                    .expected_bucket_owner(&self.account)
                    .content_type("application/json");
                let put = put.body(ByteStream::from(body.to_vec()));
                let put = match when {
                    If::Always => put,
                    If::Absent => put.if_none_match("*"),
                    If::Unchanged(etag) => put.if_match(&etag.0),
                };
                put.send()
            };
            let doing = || format!("write {}", self.url(key));
            let sent = self.patience.of_bucket(&self.name, Permission::PutObject, doing, send);
            match Box::pin(sent).await? {
                Ok(answer) => return Ok(Written::Done(Etag(answer.e_tag.unwrap_or_default()))),
                Err(error) => match refusal(&error) {
                    Refusal::Condition if !matches!(when, If::Always) => return self.own_write(key, body).await,
                    // The object that should be unchanged is gone.
                    Refusal::Gone if matches!(when, If::Unchanged(_)) => return self.own_write(key, body).await,
                    Refusal::Conflict if pauses.again().await => {}
                    _ => return Err(explained(&error, Permission::PutObject, doing())),
                },
            }
        }
    }

    /// A repeated request is refused after its own success; the object then has this content.
    async fn own_write(&self, key: &str, body: &[u8]) -> Result<Written> {
        Ok(match self.get(key).await? {
            Some(there) if there.body == body => Written::Done(there.etag),
            _ => Written::Refused,
        })
    }

    /// Removes the object. Returns false if the condition did not hold; true also if it is absent.
    pub async fn delete(&self, key: &str, when: &If) -> Result<bool> {
        let mut pauses = Pauses::listed(CONFLICTS.map(Duration::from_millis));
        loop {
            let mut delete = self
                .client
                .delete_object()
                .bucket(&self.name)
                .key(key)
                .expected_bucket_owner(&self.account);
            if let If::Unchanged(etag) = when {
                delete = delete.if_match(&etag.0);
            }
            let doing = || format!("remove {}", self.url(key));
            let needed = Permission::DeleteObject;
            let sent = self
                .patience
                .of_bucket(&self.name, needed, doing, || delete.clone().send());
            match Box::pin(sent).await? {
                Ok(_) => return Ok(true),
                Err(error) => match refusal(&error) {
                    Refusal::Gone => return Ok(true),
                    Refusal::Condition => return Ok(false),
                    Refusal::Conflict if pauses.again().await => {}
                    Refusal::Conflict | Refusal::Other => {
                        return Err(explained(&error, needed, doing()));
                    }
                },
            }
        }
    }

    /// Returns the name of an object for people.
    pub fn url(&self, key: &str) -> String {
        format!("s3://{}/{key}", self.name)
    }
}

enum Refusal {
    Condition,
    Conflict,
    Gone,
    Other,
}

fn refusal<E: aws_smithy_types::error::metadata::ProvideErrorMetadata>(
    error: &aws_sdk_s3::error::SdkError<E, aws_sdk_s3::config::http::HttpResponse>,
) -> Refusal {
    match (status(error), code(error)) {
        (_, "NoSuchBucket") => Refusal::Other,
        (412, _) | (_, "PreconditionFailed") => Refusal::Condition,
        (409, _) | (_, "ConditionalRequestConflict" | "OperationAborted") => Refusal::Conflict,
        (404, _) => Refusal::Gone,
        _ => Refusal::Other,
    }
}

pub(super) fn timestamp(time: &DateTime) -> Option<Timestamp> {
    Timestamp::from_second(time.secs()).ok()
}

/// Reads the `Date` of an answer, so that ages use one clock, that of S3, not those of two laptops.
#[derive(Clone, Debug, Default)]
struct ServerClock(Arc<Mutex<Option<Timestamp>>>);

impl ServerClock {
    fn seen(&self) -> Option<Timestamp> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Intercept for ServerClock {
    fn name(&self) -> &'static str {
        "server clock"
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), aws_sdk_s3::error::BoxError> {
        let date = context.response().headers().get("date");
        let date = date.and_then(|date| jiff::fmt::rfc2822::parse(date).ok());
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = date.map(|date| date.timestamp());
        Ok(())
    }
}
