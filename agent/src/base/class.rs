//! Decides which base of a day or month is kept longer.

use infra_agent::name::Class;
use serde::{Deserialize, Serialize};

/// The newest day and month that have a base of their class.
#[derive(Default, Deserialize, Serialize)]
pub(super) struct Classes {
    day: String,
    month: String,
}

pub(super) fn choose(started: &str, classes: &mut Classes) -> Class {
    let (day, month) = (started[..10].to_string(), started[..7].to_string());
    let first_of_month = day.ends_with("-01") && classes.month != month;
    let first_of_day = classes.day != day;
    classes.day = day;
    if first_of_month {
        classes.month = month;
        Class::Monthly
    } else if first_of_day {
        Class::Daily
    } else {
        Class::Hourly
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_base_of_a_day_or_month_is_kept_longer() {
        let mut classes = Classes::default();
        let mut choose = |text: &str| super::choose(text, &mut classes).name();
        assert_eq!(
            [
                choose("2026-11-30T10:00:00Z"),
                choose("2026-11-30T11:00:00Z"),
                choose("2026-12-01T00:00:00Z"),
                choose("2026-12-01T01:00:00Z"),
                choose("2026-12-02T00:00:00Z"),
            ],
            ["daily", "hourly", "monthly", "hourly", "daily"]
        );
    }
}
