//! Repeats what AWS refuses only for the moment, by the name of the refusal.
//!
//! - AWS may not see everywhere what was just made: [`Patience::seen`].
//! - It refuses a call that comes too fast: [`throttle`], below the SDK, for every call.
//!
//! Each has a deadline and shows what AWS answers meanwhile. Other refusals are not repeated here.

mod shown;
mod throttle;

pub(super) use throttle::Repeating;

use shown::Shown;

use super::failure::{Explain, NO_ADDRESS, NO_GROUP, code};
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
const NOT_SEEN: [&str; 4] = [
    "NoSuchEntity",
    "NoSuchBucket",
    "OperationAborted",
    "InvalidInstanceID.NotFound",
];

fn is_not_seen(code: &str) -> bool {
    [&NOT_SEEN[..], &NO_GROUP, &NO_ADDRESS].concat().contains(&code)
}

/// Shows what is waited for, and knows which buckets this process has made.
#[derive(Clone)]
pub(crate) struct Patience {
    shown: Shown,
    made: Arc<Mutex<BTreeSet<String>>>,
}

impl Patience {
    pub(super) fn new(ui: &Ui) -> Self {
        Patience {
            shown: Shown::new(ui, "AWS does not see everything yet", "it does by now"),
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
                Some(name) if is_not_seen(name) => Look::NotYet(format!("{} answers {name}", permission.action())),
                _ => Look::Ready(answer),
            }
        };
        match look().await {
            Look::Ready(answer) => Ok(answer),
            Look::NotYet(_) => Box::pin(self.until(what, look)).await,
        }
    }

    /// As `answer`, for a bucket that may be absent: it is waited for if this process has made it.
    pub(super) async fn of_bucket<T, E, Fut>(
        &self,
        bucket: &str,
        permission: Permission,
        what: impl Fn() -> String,
        call: impl Fn() -> Fut,
    ) -> Result<Result<T, SdkError<E, HttpResponse>>>
    where
        E: ProvideErrorMetadata + StdError + Send + Sync + 'static,
        Fut: Future<Output = Result<T, SdkError<E, HttpResponse>>>,
    {
        if self.has_made(bucket) {
            Box::pin(self.answer(permission, what, call)).await
        } else {
            Ok(Box::pin(call()).await)
        }
    }

    /// Waits until AWS sees what was made. `look` says what it answers instead.
    pub(super) async fn until<T, Fut>(&self, what: impl Fn() -> String, look: impl Fn() -> Fut) -> Result<T>
    where
        Fut: Future<Output = Look<T>>,
    {
        let waiting = self.shown.begin();
        let mut wait = Wait::new(
            "AWS to see what was just made",
            SEEN_WITHIN,
            "see that nobody removed it, then run the same command again",
        );
        wait.first_pause = FIRST_PAUSE;
        let seen = wait.until(&waiting.step, || async { Ok(look().await) }).await;
        if seen.is_err() {
            waiting.step.failed("a call has waited in vain");
        }
        seen.map_err(|error| error.while_doing(what()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::future::join_all;
    use std::sync::atomic::{AtomicU32, Ordering};

    /// Lets five calls wait at once, each until its `looks`-th look. Returns the printed lines.
    async fn printed(heartbeat: Duration, looks: u32) -> Vec<String> {
        let (ui, lines) = Ui::kept(heartbeat);
        let patience = Patience::new(&ui);
        join_all((0..5).map(|_| async {
            let seen = AtomicU32::new(0);
            let look = || async {
                match seen.fetch_add(1, Ordering::Relaxed) {
                    count if count + 1 == looks => Look::Ready(()),
                    _ => Look::NotYet("s3:GetObject answers NoSuchBucket".into()),
                }
            };
            patience.until(|| "read".into(), look).await.unwrap();
        }))
        .await;
        lines.lock().unwrap().clone()
    }

    #[tokio::test]
    async fn calls_that_wait_for_a_moment_print_nothing() {
        assert_eq!(printed(Duration::from_secs(10), 2).await, [] as [&str; 0]);
    }

    #[tokio::test]
    async fn calls_that_wait_together_share_a_heartbeat_and_an_end() {
        let lines = printed(Duration::from_millis(500), 4).await;
        let (ends, beats): (Vec<&String>, Vec<&String>) =
            lines.iter().partition(|line| line.contains("it does by now"));
        assert_eq!(ends.len(), 1, "{lines:?}");
        assert!((1..5).contains(&beats.len()), "{lines:?}");
        assert!(beats[0].contains("s3:GetObject answers NoSuchBucket"), "{lines:?}");
    }
}
