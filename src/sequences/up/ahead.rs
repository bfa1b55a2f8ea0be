//! What is still to be done on a pair, for commands that do it one host after the other.

use super::look;
use super::show::host_lines;
use crate::effects::host::upkeep::{self, Need};
use crate::model::error::{Error, Result};
use crate::model::role::Role;
use crate::sequences::context::{Context, Environment};
use crate::sequences::setup::hosts::Looked;
use std::collections::BTreeMap;

/// Returns what `infra up` would change now, for a command that does that too.
pub async fn pending(context: &Context, environment: &Environment) -> Result<Vec<String>> {
    let seen = look(&context.quietly(), environment).await?;
    let mut lines: Vec<String> = seen.plan.changes().iter().map(ToString::to_string).collect();
    match seen.hosts {
        Some(_) => lines.extend(host_lines(&seen)),
        None => lines.extend(seen.unknown_hosts().map(|role| format!("host {role}  is set up"))),
    }
    Ok(lines)
}

/// Returns the work on each host that stops its engine for a moment.
pub async fn needs(context: &Context, environment: &Environment) -> Result<BTreeMap<Role, Vec<Need>>> {
    let seen = look(&context.quietly(), environment).await?;
    let hosts = seen.hosts.ok_or_else(|| {
        Error::failed("look at both hosts: the cloud is not as infra.yml says").hint("run `infra up` first")
    })?;
    let of = |looked: &Looked| upkeep::needs(&looked.description.engine, &looked.facts);
    Ok(hosts.iter().map(|(role, looked)| (*role, of(looked))).collect())
}

#[cfg(test)]
mod tests {
    use crate::model::cloud::Instance;
    use crate::model::role::Role;
    use crate::model::state::HostRecord;
    use crate::sequences::up::is_known;

    fn instance(id: &str) -> Instance {
        Instance {
            id: id.into(),
            role: Role::Replica,
            state: "running".into(),
            instance_type: "t3.micro".into(),
            image_id: "ami-0".into(),
            image_name: None,
            disk_gb: None,
            zone: "us-east-1b".into(),
            private_ip: None,
            public_ip: None,
            generation: None,
            reason: None,
        }
    }

    #[test]
    fn the_key_of_an_instance_that_is_gone_is_not_expected_of_its_successor() {
        let record = HostRecord {
            instance_id: "i-1".into(),
            host_key: "ssh-ed25519 AAAA".into(),
            next_host_key: None,
        };
        let known = |instances: &[Instance]| is_known(Some(&record), Role::Replica, instances);
        assert!(known(&[instance("i-1")]));
        assert!(!known(&[instance("i-2")]));
        // Another one is still to be made.
        assert!(known(&[]));
        assert!(!is_known(None, Role::Replica, &[instance("i-1")]));
    }
}
