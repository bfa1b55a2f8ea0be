//! Waits for something outside.
//!
//! - [`Wait`] has a deadline, a heartbeat and an error that names what was waited for.
//! - [`Pauses`] are the pauses alone, for a caller with an error of its own or with nothing to show.

use crate::model::clock::Instant;
use crate::model::error::{Error, Result};
use crate::ui::Step;
use std::future::Future;
use std::time::Duration;

const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Says what to wait for, for how long, and what to try if it does not happen.
pub struct Wait<'a> {
    /// A phrase that fits after "waiting for".
    pub what: &'a str,
    pub deadline: Duration,
    pub hint: &'a str,
    /// First pause between two looks. It grows by half each time, up to [`LONGEST_PAUSE`].
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
        let mut pauses = Pauses::growing(self.deadline, self.first_pause, 1.5, LONGEST_PAUSE);
        loop {
            let seen = match look().await? {
                Look::Ready(value) => return Ok(value),
                Look::NotYet(seen) => seen,
            };
            step.update(&seen);
            if !pauses.again().await {
                return Err(Error::failed(format!(
                    "wait for {}: still not there after {} s; last seen: {seen}",
                    self.what,
                    begun.elapsed().as_secs()
                ))
                .hint(self.hint));
            }
        }
    }
}

/// The pauses between attempts. They end with a deadline, or with the last pause of a list.
pub struct Pauses {
    lengths: Box<dyn Iterator<Item = Duration> + Send>,
    end: Option<Instant>,
}

impl Pauses {
    /// Pauses of equal length.
    pub fn even(deadline: Duration, pause: Duration) -> Self {
        Self::growing(deadline, pause, 1.0, pause)
    }

    /// Pauses that grow by `factor` each time, up to the longest one.
    pub fn growing(deadline: Duration, first: Duration, factor: f64, longest: Duration) -> Self {
        let grown = move |pause: &Duration| Some(pause.mul_f64(factor).min(longest));
        Pauses {
            lengths: Box::new(std::iter::successors(Some(first), grown)),
            end: Some(Instant::now().after(deadline)),
        }
    }

    /// One pause of each length, without a deadline.
    pub fn listed(lengths: impl IntoIterator<Item = Duration, IntoIter: Send + 'static>) -> Self {
        Pauses {
            lengths: Box::new(lengths.into_iter()),
            end: None,
        }
    }

    /// Sleeps until the next attempt. Returns false at once if there is to be none.
    pub async fn again(&mut self) -> bool {
        let left = self.end.map_or(Duration::MAX, Instant::remaining);
        match self.lengths.next() {
            Some(pause) if !left.is_zero() => tokio::time::sleep(pause.min(left)).await,
            _ => return false,
        }
        true
    }
}

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

    #[tokio::test]
    async fn pauses_grow_up_to_the_longest_and_end_with_the_deadline() {
        let milliseconds = Duration::from_millis;
        let grown = Pauses::growing(milliseconds(60), milliseconds(10), 2.0, milliseconds(25));
        let lengths: Vec<u128> = grown.lengths.take(4).map(|pause| pause.as_millis()).collect();
        assert_eq!(lengths, [10, 20, 25, 25]);

        let begun = Instant::now();
        let mut pauses = Pauses::even(milliseconds(50), milliseconds(20));
        let mut attempts = 1;
        while pauses.again().await {
            attempts += 1;
        }
        assert!(
            (2..=4).contains(&attempts) && begun.elapsed() >= milliseconds(50),
            "{attempts}"
        );
    }

    #[tokio::test]
    async fn listed_pauses_allow_one_attempt_more_than_there_are_pauses() {
        let mut pauses = Pauses::listed([1, 1, 1].map(Duration::from_millis));
        let mut attempts = 1;
        while pauses.again().await {
            attempts += 1;
        }
        assert_eq!(attempts, 4);
    }
}
