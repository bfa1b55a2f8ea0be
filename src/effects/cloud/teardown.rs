//! Removes an environment. Steps may be repeated; resources that a rerun needs are removed last.

use super::s3::{Bucket, If};
use super::{Cloud, bucket, ec2, iam, retention, ssm};
use crate::effects::state::Held;
use crate::effects::wait::{Look, Wait};
use crate::model::cloud::LockMode;
use crate::model::cloud::{Locked, Removal, Standing, TeardownPlan};
use crate::model::error::{Error, Result};
use crate::model::names::Names;
use crate::ui::{Step, Ui};
use jiff::{SignedDuration, Timestamp};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

const TERMINATED: Duration = Duration::from_secs(600);
/// Network interfaces exist a little longer than their instances.
const UNUSED: Duration = Duration::from_secs(180);

#[derive(Clone, Debug, Default)]
pub struct Removed {
    pub removed: Vec<String>,
    pub kept: Vec<String>,
}

/// Finds all resources of the environment, by tag, name and prefix.
pub async fn find(cloud: &Cloud, names: &Names) -> Result<Standing> {
    let resource = names.resource();
    let prefix = names.parameters();
    let (instances, addresses, fences, groups, role, profile, key_pair, parameters, bucket) = tokio::try_join!(
        ec2::instance_ids(cloud, names),
        ec2::addresses(cloud, names),
        ec2::network_fences(cloud, names),
        ec2::groups(cloud, names),
        iam::role(cloud, &resource),
        iam::profile(cloud, &resource),
        ec2::key_pair(cloud, &resource),
        ssm::names_under(cloud, &prefix),
        bucket::exists(cloud, names),
    )?;
    let mut standing = Standing {
        instances: instances.into_iter().map(|(id, _)| id).collect(),
        addresses,
        fences,
        groups: groups.into_iter().map(|group| group.id).collect(),
        role: role.is_some(),
        profile: profile.is_some(),
        key_pair: key_pair.is_some(),
        parameters,
        bucket,
        ..Standing::default()
    };
    if bucket {
        let objects = Bucket::new(cloud, names.bucket());
        let (state, backups) = (names.state(), names.backups());
        let (state, now, backups, old, lock) = tokio::try_join!(
            objects.versions(&state),
            objects.list(&state),
            objects.list(&backups),
            objects.versions(&backups),
            retention::of_bucket(cloud, names.bucket()),
        )?;
        if lock.is_on {
            let (of_state, of_backups) = tokio::try_join!(objects.locked(&state), objects.locked(&old))?;
            // Later objects get the bucket's default: this command's lock, and the last segments.
            let coming = lock.default.map(|default| Locked {
                mode: default.mode,
                until: Timestamp::now() + SignedDuration::from_hours(24 * i64::from(default.days)),
            });
            standing.state_locked = strictest(of_state, coming.filter(|_| !now.is_empty()));
            standing.backups_locked = strictest(of_backups, coming.filter(|_| !standing.instances.is_empty()));
        }
        standing.state_versions = state.len();
        standing.state_objects = now.len();
        standing.backups = backups.len();
        standing.backup_bytes = backups.iter().map(|object| object.bytes).sum();
        standing.backup_versions = old.len();
    }
    Ok(standing)
}

/// Returns the stricter one of those that are in force.
fn strictest(one: Option<Locked>, other: Option<Locked>) -> Option<Locked> {
    let holding = [one, other].into_iter().flatten();
    holding
        .filter(|locked| locked.until > Timestamp::now())
        .max_by_key(|locked| (locked.mode == LockMode::Compliance, locked.until))
}

/// Removes what the plan names. The lock goes with its folder, or the caller releases it.
pub async fn apply(cloud: &Cloud, names: &Names, plan: &TeardownPlan, lock: Option<&Held>, ui: &Ui) -> Result<Removed> {
    let work = Work {
        cloud,
        names,
        plan,
        ui,
        removed: Mutex::default(),
    };
    match work.remove(lock).await {
        Ok(kept) => Ok(Removed {
            removed: work.removed(),
            kept: plan.kept.iter().cloned().chain(kept).collect(),
        }),
        Err(error) => Err(work.partly(error)),
    }
}

struct Work<'a> {
    cloud: &'a Cloud,
    names: &'a Names,
    plan: &'a TeardownPlan,
    ui: &'a Ui,
    removed: Mutex<Vec<String>>,
}

impl Work<'_> {
    /// Returns what had to be kept after all.
    async fn remove(&self, lock: Option<&Held>) -> Result<Vec<String>> {
        let held = async || match lock {
            Some(lock) => lock.confirm(Duration::from_secs(5)).await,
            None => Ok(()),
        };
        held().await?;
        self.instances().await?;
        held().await?;
        let all = tokio::join!(
            self.each(|removal| matches!(removal, Removal::Address(_) | Removal::Fence(_))),
            self.each(|removal| matches!(removal, Removal::Group { .. })),
            self.each(|removal| matches!(removal, Removal::Profile { .. } | Removal::Role { .. })),
            self.each(|removal| matches!(removal, Removal::KeyPair { .. })),
            self.each(|removal| matches!(removal, Removal::Parameters { .. })),
        );
        for result in [all.0, all.1, all.2, all.3, all.4] {
            result?;
        }
        held().await?;
        self.each(|removal| matches!(removal, Removal::Backups { .. })).await?;
        held().await?;
        self.state(lock).await?;
        self.empty_bucket().await
    }

    async fn instances(&self) -> Result<()> {
        let ids: Vec<String> = self
            .plan
            .removals
            .iter()
            .filter_map(|removal| match removal {
                Removal::Instance { id } => Some(id.clone()),
                _ => None,
            })
            .collect();
        if ids.is_empty() {
            return Ok(());
        }
        let step = self.ui.step(format!("instances {}", ids.join(", ")));
        ec2::terminate(self.cloud, &ids).await?;
        let what = format!("{} to be terminated", ids.join(" and "));
        let hint = format!(
            "see what holds them with `aws ec2 describe-instances --instance-ids {}`",
            ids.join(" ")
        );
        Wait::new(&what, TERMINATED, &hint)
            .until(&step, || async {
                let left = ec2::instance_ids(self.cloud, self.names).await?;
                let left: Vec<String> = left
                    .into_iter()
                    .filter(|(id, _)| ids.contains(id))
                    .map(|(id, state)| format!("{id} is {state}"))
                    .collect();
                Ok(Look::when(left.is_empty(), left.join(", ")))
            })
            .await?;
        self.did(|removal| matches!(removal, Removal::Instance { .. }));
        step.done("terminated");
        Ok(())
    }

    /// Removes one after the other those of a kind.
    async fn each(&self, kind: impl Fn(&Removal) -> bool) -> Result<()> {
        for removal in self.plan.removals.iter().filter(|removal| kind(removal)) {
            match removal {
                Removal::Address(address) => {
                    let step = self.ui.step(format!("address {}", address.public_ip));
                    let what = format!("the address {} to be let go", address.public_ip);
                    until_unused(&step, &what, || ec2::release_address(self.cloud, address)).await?;
                    step.done("released");
                }
                Removal::Fence(fence) => {
                    self.at_once(removal, ec2::lift_fence_of_stopped(self.cloud, fence))
                        .await?
                }
                Removal::Group { id, name } => {
                    let step = self.ui.step(format!("security group {name}"));
                    let what = format!("the security group {id} to be empty");
                    until_unused(&step, &what, || ec2::delete_group(self.cloud, id)).await?;
                    step.done("removed");
                }
                Removal::Profile { name } => self.at_once(removal, iam::delete_profile(self.cloud, name)).await?,
                Removal::Role { name } => self.at_once(removal, iam::delete_role(self.cloud, name)).await?,
                Removal::KeyPair { name } => self.at_once(removal, ec2::delete_key_pair(self.cloud, name)).await?,
                Removal::Parameters { names, .. } => self.at_once(removal, ssm::delete(self.cloud, names)).await?,
                Removal::Backups { prefix, .. } => {
                    let step = self.ui.step(format!("backups {prefix}"));
                    let bucket = Bucket::new(self.cloud, self.names.bucket());
                    let versions = bucket.versions(prefix).await?;
                    bucket.erase(&versions, self.plan.governed).await?;
                    step.done("removed, with old versions");
                }
                // These are removed in ways of their own.
                Removal::Instance { .. } | Removal::State { .. } | Removal::EmptyBucket { .. } => continue,
            }
            self.did(|other| other == removal);
        }
        Ok(())
    }

    /// The lock is the last object in the environment's folder, and its renewal stops before.
    async fn state(&self, lock: Option<&Held>) -> Result<()> {
        let bucket = Bucket::new(self.cloud, self.names.bucket());
        let removal = self
            .plan
            .removals
            .iter()
            .find(|removal| matches!(removal, Removal::State { .. }));
        let Some(Removal::State { prefix, locked }) = removal else {
            return Ok(());
        };
        let is_lock = |key: &str| key.ends_with(crate::effects::state::LOCK_FILE);
        let erase = async |and_lock: bool| {
            if locked.is_some() {
                // Locked versions cannot be removed, but their objects can be marked as deleted.
                for object in bucket.list(prefix).await? {
                    if and_lock || !is_lock(&object.key) {
                        bucket.delete(&object.key, &If::Always).await?;
                    }
                }
                return Ok(());
            }
            let mut versions = bucket.versions(prefix).await?;
            versions.retain(|version| and_lock || !is_lock(&version.key));
            bucket.erase(&versions, self.plan.governed).await
        };
        erase(false).await?;
        if let Some(lock) = lock {
            lock.stop_renewing().await;
        }
        erase(true).await?;
        if let Some(lock) = lock {
            lock.is_removed();
        }
        if let Some(removal) = removal {
            self.show_removed(removal);
            self.did(|other| other == removal);
        }
        Ok(())
    }

    async fn empty_bucket(&self) -> Result<Vec<String>> {
        for removal in &self.plan.removals {
            let Removal::EmptyBucket { name } = removal else {
                continue;
            };
            if bucket::delete(self.cloud, name).await? {
                self.show_removed(removal);
                self.did(|other| other == removal);
            } else {
                return Ok(vec![format!("bucket {name}: something else is in it")]);
            }
        }
        Ok(Vec::new())
    }

    fn did(&self, which: impl Fn(&Removal) -> bool) {
        let lines = self
            .plan
            .removals
            .iter()
            .filter(|removal| which(removal))
            .map(|removal| removal.change().to_string());
        self.removed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend(lines);
    }

    /// Shows a removal that takes no time only when it is done.
    async fn at_once(&self, removal: &Removal, removing: impl Future<Output = Result<()>>) -> Result<()> {
        removing.await?;
        self.show_removed(removal);
        Ok(())
    }

    fn show_removed(&self, removal: &Removal) {
        let change = removal.change();
        self.ui
            .step(format!("{} {}", change.resource, change.name))
            .done("removed");
    }

    fn removed(&self) -> Vec<String> {
        self.removed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn partly(&self, error: Error) -> Error {
        let removed = self.removed();
        if removed.is_empty() {
            return error;
        }
        let all = self.plan.removals.len();
        let text = format!(
            "remove everything: {} of {all} were removed ({})",
            removed.len(),
            removed.join("; ")
        );
        Error::partial(text)
            .because(error)
            .hint("run the same command again: it goes on from here")
    }
}

/// Repeats a removal that AWS refuses while something is still in use.
async fn until_unused<F, Fut>(step: &Step, what: &str, remove: F) -> Result<()>
where
    F: Fn() -> Fut,
    Fut: Future<Output = Result<bool>>,
{
    Wait::new(
        what,
        UNUSED,
        "remove by hand what else uses it, then run the same command again",
    )
    .until(step, || async { Ok(Look::when(remove().await?, "it is still in use")) })
    .await
}
