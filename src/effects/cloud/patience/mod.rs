//! Repeats what AWS refuses only for the moment, by the name of the refusal.
//!
//! - AWS may not see everywhere what was just made: [`Patience::seen`].
//! - It refuses a call that comes too fast: [`throttle`], below the SDK, for every call.
//!
//! Each has a deadline and shows what AWS answers meanwhile. Other refusals are not repeated here.

mod throttle;

pub(super) use throttle::Repeating;

use super::failure::{Explain, code};
use crate::effects::wait::{Look, Wait};
use crate::model::cloud::Permission;
use crate::model::error::Result;
use crate::ui::Ui;
use aws_sdk_sts::config::http::HttpResponse;
use aws_sdk_sts::error::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use std::collections::BTreeSet;
use std::error::Error as StdError;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// AWS names a minute for what was just made; this leaves some room.
const SEEN_WITHIN: Duration = Duration::from_secs(90);
const FIRST_PAUSE: Duration = Duration::from_millis(250);

/// Refusals of what was just made, or is being changed by the call before.
const NOT_SEEN: [&str; 8] = [
    "NoSuchEntity",
    "NoSuchBucket",
    "OperationAborted",
    "InvalidGroup.NotFound",
    "InvalidGroupId.NotFound",
    "InvalidInstanceID.NotFound",
    "InvalidAllocationID.NotFound",
    "InvalidAddressID.NotFound",
];

/// Shows what is waited for, and knows which buckets this process has made.
#[derive(Clone)]
pub(crate) struct Patience {
    ui: Ui,
    made: Arc<Mutex<BTreeSet<String>>>,
}

impl Patience {
    pub(super) fn new(ui: &Ui) -> Self {
        Patience {
            ui: ui.clone(),
            made: Arc::default(),
        }
    }

    pub(super) fn has_made(&self, bucket: &str) -> bool {
        self.made
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .contains(bucket)
    }

    pub(super) fn note_made(&self, bucket: &str) {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        made.insert(bucket.to_string());
    }

    /// The bucket is removed, so that an answer that it is not there is true.
    pub(super) fn forget_made(&self, bucket: &str) {
        self.made.lock().unwrap_or_else(PoisonError::into_inner).remove(bucket);
    }

    /// Repeats a call that uses what exists, while AWS answers that it does not.
    pub(super) async fn seen<T, E, Fut>(
        &self,
        permission: Permission,
        what: impl Fn() -> String,
        call: impl Fn() -> Fut,
    ) -> Result<T>
    where
        E: ProvideErrorMetadata + StdError + Send + Sync + 'static,
        Fut: Future<Output = Result<T, SdkError<E, HttpResponse>>>,
    {
        // Boxed, since the futures of the SDK are large and many of them run at once.
        let answer = Box::pin(self.answer(permission, &what, call));
        answer.await?.explain(permission, what)
    }

    /// As `seen`, and returns AWS's other refusals to the caller.
    pub(super) async fn answer<T, E, Fut>(
        &self,
        permission: Permission,
        what: impl Fn() -> String,
        call: impl Fn() -> Fut,
    ) -> Result<Result<T, SdkError<E, HttpResponse>>>
    where
        E: ProvideErrorMetadata + StdError + Send + Sync + 'static,
        Fut: Future<Output = Result<T, SdkError<E, HttpResponse>>>,
    {
        let look = || async {
            let answer = Box::pin(call()).await;
            match answer.as_ref().err().map(code) {
                Some(name) if NOT_SEEN.contains(&name) => {
                    Look::NotYet(format!("{} answers {name}", permission.action()))
                }
                _ => Look::Ready(answer),
            }
        };
        match look().await {
            Look::Ready(answer) => Ok(answer),
            Look::NotYet(_) => Box::pin(self.until(what, look)).await,
        }
    }

    /// Waits until AWS sees what was made. `look` says what it answers instead.
    pub(super) async fn until<T, Fut>(&self, what: impl Fn() -> String, look: impl Fn() -> Fut) -> Result<T>
    where
        Fut: Future<Output = Look<T>>,
    {
        let step = self.ui.step(what());
        let mut wait = Wait::new(
            "AWS to see what was just made",
            SEEN_WITHIN,
            "see that nobody removed it, then run the same command again",
        );
        wait.first_pause = FIRST_PAUSE;
        let seen = wait
            .until(&step, || async { Ok(look().await) })
            .await
            .map_err(|error| error.while_doing(what()))?;
        step.done("AWS sees by now what was just made");
        Ok(seen)
    }
}
