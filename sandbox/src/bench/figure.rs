//! One figure over several runs.

use serde::{Deserialize, Serialize, Serializer};

/// One figure of each run: read as a list of runs, written as median and spread.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Figure(Vec<f64>);

#[derive(Serialize)]
struct Shown {
    median: f64,
    min: f64,
    max: f64,
    runs: usize,
}

impl Figure {
    pub fn add(&mut self, value: f64) {
        self.0.push(value);
    }

    /// Returns the median; `None` if nothing was measured.
    pub fn median(&self) -> Option<f64> {
        let sorted = self.sorted();
        let middle = sorted.len() / 2;
        match sorted.len() {
            0 => None,
            count if count % 2 == 1 => Some(sorted[middle]),
            _ => Some((sorted[middle - 1] + sorted[middle]) / 2.0),
        }
    }

    /// `12.3 (11.0 to 14.1, 5 runs)`
    pub fn shown(&self) -> String {
        let sorted = self.sorted();
        match (self.median(), sorted.first(), sorted.last()) {
            (Some(median), Some(min), Some(max)) => {
                format!(
                    "{:>12} ({} to {}, {} runs)",
                    number(median),
                    number(*min),
                    number(*max),
                    sorted.len()
                )
            }
            _ => format!("{:>12}", "not measured"),
        }
    }

    fn sorted(&self) -> Vec<f64> {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        sorted
    }
}

fn number(value: f64) -> String {
    if value >= 100.0 {
        format!("{value:.0}")
    } else {
        format!("{value:.2}")
    }
}

impl Serialize for Figure {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let sorted = self.sorted();
        let rounded = |value: f64| (value * 1000.0).round() / 1000.0;
        match (self.median(), sorted.first(), sorted.last()) {
            (Some(median), Some(min), Some(max)) => Shown {
                median: rounded(median),
                min: rounded(*min),
                max: rounded(*max),
                runs: sorted.len(),
            }
            .serialize(serializer),
            _ => serializer.serialize_none(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[f64]) -> Figure {
        Figure(values.to_vec())
    }

    #[test]
    fn the_median_is_the_middle_one_or_between_the_two() {
        assert_eq!(of(&[3.0, 1.0, 2.0]).median(), Some(2.0));
        assert_eq!(of(&[4.0, 1.0, 2.0, 3.0]).median(), Some(2.5));
        assert_eq!(of(&[]).median(), None);
    }

    #[test]
    fn a_figure_is_written_with_its_spread_and_an_empty_one_as_null() {
        assert_eq!(
            serde_json::to_value(of(&[2.0, 1.0])).unwrap(),
            serde_json::json!({"median": 1.5, "min": 1.0, "max": 2.0, "runs": 2})
        );
        assert!(serde_json::to_value(of(&[])).unwrap().is_null());
    }
}
