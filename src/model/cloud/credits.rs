//! CPU credits of burstable instances. One credit is a minute of one full processor.

use jiff::Timestamp;

/// The families whose processors run on credits.
const BURSTABLE: [&str; 4] = ["t2", "t3", "t3a", "t4g"];

/// An instance's credits at a moment, as CloudWatch has them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Balance {
    pub at: Timestamp,
    pub credits: f64,
}

/// Returns true if instances of this type run on credits.
pub fn is_burstable(instance_type: &str) -> bool {
    let family = instance_type.split('.').next().unwrap_or_default();
    BURSTABLE.contains(&family)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_types_of_the_burstable_families_have_credits() {
        for burstable in ["t2.micro", "t3.small", "t3a.large", "t4g.nano"] {
            assert!(is_burstable(burstable), "{burstable}");
        }
        for other in ["m7g.large", "r6i.large", "t1.micro", "trn1.2xlarge", ""] {
            assert!(!is_burstable(other), "{other}");
        }
    }
}
