//! The price of the pair, by list prices of a year.

use std::fmt;

/// The year of the list prices below.
const LISTED_IN: &str = "2025";
const HOURS_A_MONTH: f64 = 730.0;
/// A GB of gp3 for a month, and a public IPv4 address for an hour.
const DISK_GB_MONTH: f64 = 0.08;
const ADDRESS_HOUR: f64 = 0.005;
/// An hour of the size `large`, on demand with Linux in us-east-1. The other sizes follow from it.
const LARGE_HOUR: [(&str, f64); 14] = [
    ("t3", 0.0832),
    ("t3a", 0.0752),
    ("t4g", 0.0672),
    ("m5", 0.096),
    ("m6g", 0.077),
    ("m6i", 0.096),
    ("m7g", 0.0816),
    ("m7i", 0.1008),
    ("r5", 0.126),
    ("r6g", 0.1008),
    ("r6i", 0.126),
    ("r7g", 0.1071),
    ("r7i", 0.1323),
    ("c7g", 0.0725),
];
const SIZES: [(&str, f64); 9] = [
    ("nano", 0.0625),
    ("micro", 0.125),
    ("small", 0.25),
    ("medium", 0.5),
    ("large", 1.0),
    ("xlarge", 2.0),
    ("2xlarge", 4.0),
    ("4xlarge", 8.0),
    ("8xlarge", 16.0),
];

/// A price in US dollars a month.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Monthly(pub f64);

impl fmt::Display for Monthly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.2} $ a month", self.0)
    }
}

/// Returns the price of both hosts with disks and addresses; `None` for an unknown type.
pub fn of_pair(instance_type: &str, disk_gb: u32) -> Option<Monthly> {
    let (family, size) = instance_type.split_once('.')?;
    let large = LARGE_HOUR.iter().find(|(name, _)| *name == family)?.1;
    let share = SIZES.iter().find(|(name, _)| *name == size)?.1;
    let host = (large * share + ADDRESS_HOUR) * HOURS_A_MONTH + f64::from(disk_gb) * DISK_GB_MONTH;
    Some(Monthly(2.0 * host))
}

/// Returns a line on what the pair costs, beside the price of the hosted plan if that is known.
pub fn line(instance_type: &str, disk_gb: u32, hosted: Option<(&str, Monthly)>) -> String {
    let pair = match of_pair(instance_type, disk_gb) {
        Some(price) => format!(
            "about {price} for both hosts with disks and addresses, without traffic and backups, by the list prices \
             of us-east-1 of {LISTED_IN}"
        ),
        None => format!("not known here for {instance_type}"),
    };
    match hosted {
        Some((plan, price)) => format!("Cost: {pair}; the plan {plan} costs {price}."),
        None => format!("Cost: {pair}."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_costs_two_hosts_two_disks_and_two_addresses() {
        let price = of_pair("t3.micro", 16).unwrap();
        assert_eq!(price.to_string(), "25.04 $ a month");
        assert_eq!(of_pair("m7g.large", 100).unwrap().to_string(), "142.44 $ a month");
        assert_eq!(of_pair("x9.large", 16), None);
        assert_eq!(of_pair("t3", 16), None);
    }

    #[test]
    fn the_line_has_the_date_of_the_prices_and_the_plan_beside_them() {
        let line = line("t3.micro", 16, Some(("heroku-redis:premium-0", Monthly(15.0))));
        assert!(line.contains("25.04 $ a month") && line.contains(LISTED_IN), "{line}");
        assert!(
            line.ends_with("the plan heroku-redis:premium-0 costs 15.00 $ a month."),
            "{line}"
        );
    }
}
