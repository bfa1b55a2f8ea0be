//! Judges whether the source's add-on stands in a private network.

use super::{Facts, Finding};

/// A sign that an add-on can only be reached from within a Private or Shield Space.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Private {
    pub addon: String,
    /// Its plan or its var, such as `private-7` or `REDIS_BASTIONS`.
    pub sign: String,
}

/// Returns the sign of an add-on with this plan and these vars; `None` for an ordinary one.
pub fn sign<'a>(addon: &str, plan: Option<&str>, vars: impl IntoIterator<Item = &'a str>) -> Option<Private> {
    let plan = plan.map(|plan| plan.rsplit(':').next().unwrap_or(plan));
    let by_plan = plan.filter(|plan| ["private-", "shield-"].iter().any(|kind| plan.starts_with(kind)));
    let sign = match by_plan {
        Some(plan) => format!("its plan is {plan}"),
        None => {
            let bastions = vars.into_iter().find(|var| var.ends_with("_BASTIONS"))?;
            format!("it has the var {bastions}")
        }
    };
    Some(Private {
        addon: addon.into(),
        sign,
    })
}

/// A private add-on that answers is reached from within its space or by a way that was made.
pub(super) fn judge(facts: &Facts) -> Option<Finding> {
    let Private { addon, sign } = facts.private.as_ref()?;
    let found = format!("the add-on {addon} stands in a private network ({sign})");
    Some(match &facts.source {
        Ok(_) => Finding::warning(
            "private-plan",
            format!("{found}, and answers here; the hosts must reach it too"),
            "put the pair into the network from which it answers (hosts.subnet), such as the VPC of a PrivateLink endpoint",
        ),
        Err(_) => Finding::blocker(
            "private-plan",
            format!("{found}: nobody outside its space reaches it"),
            "the way that remains is AWS PrivateLink: make an endpoint for the add-on in a VPC of the same region (`heroku data:privatelink:create`), put the pair into that VPC (hosts.subnet), run `infra` from a computer there, and name the endpoint's URL by source.url_env",
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::{good, unseen};
    use super::super::{Severity, judge as judge_all};
    use super::*;

    #[test]
    fn private_and_shield_plans_are_told_by_plan_or_var() {
        let of =
            |plan: Option<&str>, vars: &[&str]| sign("redis-1", plan, vars.iter().copied()).map(|private| private.sign);
        assert_eq!(
            of(Some("heroku-redis:private-7"), &[]).unwrap(),
            "its plan is private-7"
        );
        assert_eq!(of(Some("heroku-redis:shield-9"), &[]).unwrap(), "its plan is shield-9");
        let vars = ["REDIS_URL", "REDIS_BASTIONS"];
        assert_eq!(
            of(Some("heroku-redis:other"), &vars).unwrap(),
            "it has the var REDIS_BASTIONS"
        );
        assert_eq!(of(None, &vars).unwrap(), "it has the var REDIS_BASTIONS");
        assert_eq!(of(Some("heroku-redis:premium-0"), &["REDIS_URL"]), None);
        assert_eq!(of(None, &[]), None);
    }

    #[test]
    fn a_private_add_on_is_named_with_the_way_that_remains() {
        let private = sign("redis-1", Some("heroku-redis:private-7"), []);
        let finding = |facts: &Facts| {
            let findings = judge_all(facts);
            findings.into_iter().find(|finding| finding.id == "private-plan")
        };
        let out_of_reach = Facts {
            private: private.clone(),
            source: Err(unseen()),
            ..good()
        };
        let found = finding(&out_of_reach).unwrap();
        assert_eq!(found.severity, Severity::Blocker);
        assert!(found.found.contains("private-7"), "{}", found.found);
        assert!(found.remedy.unwrap().contains("PrivateLink"));
        let within = Facts { private, ..good() };
        assert_eq!(finding(&within).unwrap().severity, Severity::Warning);
        assert_eq!(finding(&good()), None);
    }
}
