//! Decides how long the CPU credits of the hosts last. Pure.

use super::preflight::Finding;
use crate::model::cloud::Balance;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use std::collections::BTreeMap;

/// A balance below this that does not rise is a finding: two full processors use it up in a quarter of an hour.
pub const LOW: f64 = 30.0;
/// Credits that are gone within this time are a finding. A larger instance type takes less than an hour.
const SOON: SignedDuration = SignedDuration::from_hours(3);
/// The trend is that of the balances within this time.
pub const WINDOW: SignedDuration = SignedDuration::from_hours(3);
/// Balances within a shorter time show no trend. A new host begins with few credits or none.
const SHORTEST: SignedDuration = SignedDuration::from_mins(30);
/// A trend of hours says nothing of a time after this.
const FARTHEST: SignedDuration = SignedDuration::from_hours(3 * 24);

/// The credits of one host.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Credits {
    pub left: f64,
    /// The gain in an hour, by the last hours; below zero for a loss, `None` if the balances are too few.
    pub gain_an_hour: Option<f64>,
    /// When they are gone at that trend; `None` if they do not fall, or last for days.
    pub gone_at: Option<Timestamp>,
}

/// Returns what is known of the credits by these balances, in any order; `None` without one.
pub fn credits(balances: &[Balance]) -> Option<Credits> {
    let newest = balances.iter().max_by_key(|balance| balance.at)?;
    let oldest = balances.iter().min_by_key(|balance| balance.at)?;
    let between = newest.at.duration_since(oldest.at);
    let gain = (between >= SHORTEST).then(|| {
        let hours = between.as_secs_f64() / 3600.0;
        (newest.credits - oldest.credits) / hours
    });
    Some(Credits {
        left: newest.credits,
        gain_an_hour: gain,
        gone_at: gain.and_then(|gain| gone_at(*newest, gain)),
    })
}

fn gone_at(newest: Balance, gain: f64) -> Option<Timestamp> {
    if gain >= 0.0 {
        return None;
    }
    let left = SignedDuration::try_from_secs_f64(newest.credits / -gain * 3600.0).ok()?;
    (left < FARTHEST).then(|| newest.at.checked_add(left).ok())?
}

/// Returns a finding for each host whose credits are low or soon gone.
pub fn findings(hosts: &BTreeMap<&'static str, Credits>, now: Timestamp) -> Vec<Finding> {
    let finding = |(host, credits): (&&'static str, &Credits)| {
        let gone_soon = credits.gone_at.filter(|gone_at| gone_at.duration_since(now) < SOON);
        let is_low = credits.left < LOW && credits.gain_an_hour.is_some_and(|gain| gain <= 0.0);
        match gone_soon {
            Some(gone_at) if credits.left > 0.0 => Some(Finding::warning(
                "credits-end-soon",
                format!(
                    "the CPU credits of the {host} are gone in {} at the trend of the last hours: {:.0} are left",
                    hours(gone_at, now),
                    credits.left
                ),
                REMEDY,
            )),
            _ if is_low => Some(Finding::warning(
                "credits-low",
                format!("the {host} has {:.0} CPU credits left", credits.left),
                REMEDY,
            )),
            _ => None,
        }
    };
    hosts.iter().filter_map(finding).collect()
}

const REMEDY: &str = "take a larger instance type with `infra resize --type TYPE`: without credits a host has only its \
                      lasting share of its processors, or costs more where AWS's unlimited mode is on";

/// Returns the credits as a part of the line about room.
pub fn part(host: &str, credits: &Credits, now: Timestamp) -> String {
    let until = credits.gone_at.map(|gone_at| hours(gone_at, now));
    let until = until.map(|until| format!(", gone in {until} at the trend of the last hours"));
    format!("{host}'s CPU credits {:.0}{}", credits.left, until.unwrap_or_default())
}

fn hours(until: Timestamp, now: Timestamp) -> String {
    match until.duration_since(now).as_hours() {
        ..1 => "less than an hour".into(),
        1 => "an hour".into(),
        hours => format!("about {hours} hours"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-03-08T12:00:00Z".parse().unwrap()
    }

    /// The balance of this many minutes ago.
    fn balance(minutes: i64, credits: f64) -> Balance {
        Balance {
            at: now() - SignedDuration::from_mins(minutes),
            credits,
        }
    }

    fn found(balances: &[Balance]) -> Vec<&'static str> {
        let hosts = [("master", credits(balances).unwrap())].into();
        findings(&hosts, now()).iter().map(|finding| finding.id).collect()
    }

    #[test]
    fn credits_end_when_the_trend_of_the_last_hours_has_used_them_up() {
        // 100 are left of 160 of three hours ago: 20 an hour, for five hours.
        let falling = credits(&[balance(0, 100.0), balance(90, 130.0), balance(180, 160.0)]).unwrap();
        assert_eq!(falling.gain_an_hour, Some(-20.0));
        assert_eq!(falling.gone_at, Some(now() + SignedDuration::from_hours(5)));
        let line = part("master", &falling, now());
        assert_eq!(
            line,
            "master's CPU credits 100, gone in about 5 hours at the trend of the last hours"
        );
        // Steady and rising ones never end, nor do a few in three hours.
        for earlier in [100.0, 60.0, 102.0] {
            let steady = credits(&[balance(0, 100.0), balance(180, earlier)]).unwrap();
            assert_eq!(steady.gone_at, None, "{earlier}");
            assert_eq!(part("master", &steady, now()), "master's CPU credits 100");
        }
    }

    #[test]
    fn credits_that_are_gone_within_three_hours_are_a_finding() {
        let falling = |left| found(&[balance(0, left), balance(120, left + 40.0)]);
        assert_eq!(falling(61.0), [] as [&str; 0]);
        assert_eq!(falling(59.0), ["credits-end-soon"]);
        assert_eq!(falling(10.0), ["credits-end-soon"]);
        assert_eq!(falling(0.0), ["credits-low"]);
    }

    #[test]
    fn few_credits_are_a_finding_unless_they_rise() {
        let steady = |left| found(&[balance(0, left), balance(120, left)]);
        assert_eq!(steady(30.0), [] as [&str; 0]);
        assert_eq!(steady(29.0), ["credits-low"]);
        assert_eq!(steady(0.0), ["credits-low"]);
        assert_eq!(found(&[balance(0, 12.0), balance(60, 0.0)]), [] as [&str; 0]);
    }

    #[test]
    fn a_new_host_with_few_credits_is_no_finding() {
        let new = [balance(0, 1.0), balance(25, 1.0)];
        assert_eq!(credits(&new).unwrap().gain_an_hour, None);
        assert_eq!(found(&new), [] as [&str; 0]);
        assert_eq!(credits(&[]), None);
    }
}
