//! Refuses to make a lost master anew: the new one would be empty, and the replica would copy that.

use super::Seen;
use crate::effects::backup::read;
use crate::model::cloud::{Action, HostAction};
use crate::model::error::{Error, Result};
use crate::model::role::Role;
use crate::sequences::context::{Context, Environment};
use crate::sequences::cutover::Phase;

/// The place where a lost master's data still is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Data {
    OnReplica,
    InBucket,
    Nowhere,
}

impl Seen {
    /// Fails if the master is to be made anew although it had data that no source has.
    pub(super) async fn refuse_empty_master(&self, context: &Context, environment: &Environment) -> Result<()> {
        let is_new =
            |action: &&Action| matches!(action, Action::Host(HostAction::Create(host)) if host.role == Role::Master);
        let has_source = self.phase.is_none_or(|phase| phase < Phase::Promoted) && !context.config.source.none;
        if has_source
            || !self.unknown_hosts().all(|role| role != Role::Master)
            || !self.plan.actions.iter().any(|action| is_new(&action))
        {
            return Ok(());
        }
        let mut standing = self.found.instances.iter();
        let data = if standing.any(|instance| instance.role == Role::Replica) {
            Data::OnReplica
        } else {
            in_bucket(context, environment).await
        };
        Err(refusal(data))
    }
}

/// A bucket that cannot be read may have the data.
async fn in_bucket(context: &Context, environment: &Environment) -> Data {
    let catalogue = read::catalogue(environment.store.bucket(), context.env()).await;
    match catalogue.map(|catalogue| catalogue.without_empty_bases().bases.is_empty()) {
        Ok(true) => Data::Nowhere,
        Ok(false) | Err(_) => Data::InBucket,
    }
}

fn refusal(data: Data) -> Error {
    let error = Error::failed(
        "make the master anew: its instance is gone, a new one would be empty, and the replica would copy that",
    );
    error.hint(match data {
        Data::OnReplica => {
            "the replica has the data: `infra promote --force` makes it the master, then `infra up` makes another replica"
        }
        Data::InBucket => {
            "both hosts are gone: `infra restore --latest --to pair` makes them anew with the data of the bucket; `infra up --empty-master` gives that data up"
        }
        Data::Nowhere => {
            "both hosts are gone, and the bucket has no backup with keys: `infra up --empty-master` makes them anew and empty"
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_out_depends_on_where_the_data_is() {
        let hint = |data| refusal(data).next_step().unwrap_or_default().to_string();
        assert!(hint(Data::OnReplica).contains("`infra promote --force`"));
        assert!(
            !hint(Data::OnReplica).contains("--empty-master"),
            "it would be given up"
        );
        assert!(hint(Data::InBucket).contains("`infra restore --latest --to pair`"));
        assert!(hint(Data::Nowhere).contains("`infra up --empty-master`"));
        assert!(!hint(Data::Nowhere).contains("restore"), "there is nothing to restore");
    }
}
