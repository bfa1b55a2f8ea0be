//! Waits for something outside, with a deadline, a heartbeat and an error that names it.

use crate::model::clock::Instant;
use crate::model::error::{Error, Result};
use crate::ui::Step;
use std::future::Future;
use std::time::Duration;

/// Says what to wait for, for how long, and what to try if it does not happen.
pub struct Wait<'a> {
    /// A phrase that fits after "waiting for".
    pub what: &'a str,
    pub deadline: Duration,
    pub hint: &'a str,
    /// First pause between two looks. It grows by half each time, up to two seconds.
    pub first_pause: Duration,
}

impl<'a> Wait<'a> {
    pub fn new(what: &'a str, deadline: Duration, hint: &'a str) -> Self {
        Wait {
            what,
            deadline,
            hint,
            first_pause: Duration::from_millis(50),
        }
    }

    /// Calls `look` until it returns a value. Shows on `step` what it reports meanwhile.
    pub async fn until<T, F, Fut>(&self, step: &Step, mut look: F) -> Result<T>
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<Look<T>>>,
    {
        let begun = Instant::now();
        let end = begun.after(self.deadline);
        let mut pause = self.first_pause;
        loop {
            let seen = match look().await? {
                Look::Ready(value) => return Ok(value),
                Look::NotYet(seen) => seen,
            };
            if end.has_passed() {
                return Err(Error::failed(format!(
                    "wait for {}: still not there after {} s; last seen: {seen}",
                    self.what,
                    begun.elapsed().as_secs()
                ))
                .hint(self.hint));
            }
            step.update(&seen);
            tokio::time::sleep(pause.min(end.remaining())).await;
            pause = pause.mul_f64(1.5).min(Duration::from_secs(2));
        }
    }
}

/// The result of one look.
pub enum Look<T> {
    Ready(T),
    /// Describes in a few words what is there instead.
    NotYet(String),
}

impl Look<()> {
    /// Waits for a fact alone; `seen` describes what is there without it.
    pub fn when(it_is_so: bool, seen: impl Into<String>) -> Self {
        if it_is_so {
            Look::Ready(())
        } else {
            Look::NotYet(seen.into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ui::Ui;

    #[tokio::test]
    async fn a_wait_ends_at_its_deadline_and_says_what_was_last_seen() {
        let step = Ui::silent().step("test");
        let wait = Wait::new("the tide", Duration::from_millis(30), "go home");
        let error = wait
            .until::<(), _, _>(&step, || async { Ok(Look::NotYet("ebb".into())) })
            .await
            .unwrap_err();
        assert!(
            error.to_string().contains("the tide") && error.to_string().contains("ebb"),
            "{error}"
        );
        assert_eq!(error.next_step(), Some("go home"));
    }

    #[tokio::test]
    async fn the_error_says_how_long_was_waited_and_not_how_long_was_allowed() {
        let step = Ui::silent().step("test");
        let wait = Wait::new("the tide", Duration::from_millis(30), "go home");
        let slow = || async {
            tokio::time::sleep(Duration::from_millis(1100)).await;
            Ok(Look::NotYet("ebb".into()))
        };
        let error = wait.until::<(), _, _>(&step, slow).await.unwrap_err();
        assert!(error.to_string().contains("after 1 s"), "{error}");
    }

    #[tokio::test]
    async fn a_wait_returns_the_value_that_came() {
        let step = Ui::silent().step("test");
        let mut looks = 0;
        let wait = Wait::new("three", Duration::from_secs(5), "");
        let got = wait
            .until(&step, || {
                looks += 1;
                let now = looks;
                async move {
                    Ok(if now == 3 {
                        Look::Ready(now)
                    } else {
                        Look::NotYet(format!("{now}"))
                    })
                }
            })
            .await
            .unwrap();
        assert_eq!(got, 3);
    }
}
