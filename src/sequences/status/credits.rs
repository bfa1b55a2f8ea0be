//! Asks for the CPU credits of the hosts whose type has them.

use super::unseen;
use crate::decide::credits::WINDOW;
use crate::decide::preflight::Finding;
use crate::effects::cloud::credits::cpu_credits;
use crate::effects::cloud::ec2;
use crate::model::cloud::{Balance, Permission, is_burstable};
use crate::model::error::Result;
use crate::model::state::State;
use crate::sequences::context::Environment;
use jiff::Timestamp;
use std::collections::BTreeMap;

/// Balances by host.
pub(super) type Balances = BTreeMap<&'static str, Vec<Balance>>;

pub(super) enum CreditsSeen {
    Known(Balances),
    /// AWS does not let these credentials ask.
    NotAllowed,
}

pub(super) async fn look(environment: &Environment, state: &State) -> Result<CreditsSeen> {
    let instances = ec2::instances(&environment.cloud, &environment.names).await?;
    let burstable = instances.into_iter().filter(|host| is_burstable(&host.instance_type));
    let hosts: BTreeMap<String, &'static str> = burstable
        .map(|host| (host.id.clone(), state.role_of(&host.id, host.role).name()))
        .collect();
    if hosts.is_empty() {
        return Ok(CreditsSeen::Known(Balances::new()));
    }
    let ids: Vec<String> = hosts.keys().cloned().collect();
    let found = cpu_credits(&environment.cloud, &ids, Timestamp::now(), WINDOW).await?;
    Ok(found.map_or(CreditsSeen::NotAllowed, |found| {
        let by_host = found
            .into_iter()
            .filter_map(|(id, balances)| Some((*hosts.get(&id)?, balances)));
        CreditsSeen::Known(by_host.collect())
    }))
}

/// Returns the balances, or why they are not known. A missing right is no finding: whoever uses a policy of before gets
/// all the rest as before.
pub(super) fn judge(seen: Result<CreditsSeen>, findings: &mut Vec<Finding>) -> (Balances, Option<String>) {
    match seen {
        Ok(CreditsSeen::Known(balances)) => (balances, None),
        Ok(CreditsSeen::NotAllowed) => {
            let action = Permission::GetMetricData.action();
            let why =
                format!("since these credentials may not call `{action}`; `infra policy` prints the policy with it");
            (Balances::new(), Some(why))
        }
        Err(error) => {
            findings.push(unseen("credits-unseen", "CPU credits", &error));
            (Balances::new(), None)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::error::Error;

    #[test]
    fn a_missing_right_is_said_and_is_no_finding_but_a_failure_is_one() {
        let mut findings = Vec::new();
        let (balances, why) = judge(Ok(CreditsSeen::NotAllowed), &mut findings);
        assert!(balances.is_empty() && findings.is_empty(), "{findings:?}");
        assert!(why.unwrap().contains("cloudwatch:GetMetricData"));
        let (_, why) = judge(Err(Error::failed("ask")), &mut findings);
        assert_eq!((why, findings[0].id), (None, "credits-unseen"));
    }
}
