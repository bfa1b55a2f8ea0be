//! Judges the way from the master host to the source, once there is a host to try it from. Pure.

use super::Finding;
use crate::effects::host::tunnel::Trial;

/// A trial, and what to do if it failed.
#[derive(Clone, Debug)]
pub struct Way {
    pub trial: Trial,
    pub hint: String,
}

/// A failure is no blocker, since `up` may be the remedy; it tries again before the master follows.
pub(super) fn judge(way: &Way) -> Option<Finding> {
    match &way.trial {
        Trial::Reached(address) => Some(Finding::ok(
            "host-reach",
            format!("the master host reaches the source by {address}"),
        )),
        Trial::Failed(why) => Some(Finding::warning(
            "host-reach",
            format!("the master host does not {why}"),
            way.hint.clone(),
        )),
        Trial::NotTried => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::preflight::Severity;

    fn judged(trial: Trial) -> Option<Finding> {
        let hint = "add its address".into();
        judge(&Way { trial, hint })
    }

    #[test]
    fn a_host_that_does_not_reach_the_source_is_a_warning_with_the_address_to_allow() {
        let why = "reach the source redis.test:6380: 192.0.2.7:6380 does not answer within 4 s";
        let finding = judged(Trial::Failed(why.into())).unwrap();
        assert_eq!(finding.severity, Severity::Warning);
        assert!(
            finding.found.starts_with("the master host does not reach the source"),
            "{finding:?}"
        );
        assert_eq!(finding.remedy.as_deref(), Some("add its address"));
        assert_eq!(
            judged(Trial::Reached("192.0.2.7:6380".into())).unwrap().severity,
            Severity::Ok
        );
        assert_eq!(judged(Trial::NotTried), None);
    }
}
