//! Makes what hosts need.

use super::Inputs;
use super::work::Work;
use crate::effects::cloud::{Cloud, bucket, ec2, iam, ssm};
use crate::model::cloud::{
    Address, AddressAction, BucketAction, Found, GroupAction, KeyPairAction, NewParameter, Plan, RoleAction, Wanted,
};
use crate::model::error::{Error, Result};
use crate::model::secrets::Secrets;
use crate::ui::Ui;
use futures_util::future::join_all;

/// Makes only the bucket of a plan, which the lock needs. May be repeated.
pub async fn make_bucket(cloud: &Cloud, wanted: &Wanted, plan: &Plan, ui: &Ui) -> Result<()> {
    let work = Work::new(cloud, wanted, plan, ui);
    bucket(&work, &plan.sections().bucket)
        .await
        .map_err(|error| work.partly(error))
}

pub(super) async fn bucket(work: &Work<'_>, actions: &[&BucketAction]) -> Result<()> {
    if actions.is_empty() {
        return Ok(());
    }
    let step = work.ui.step(format!("bucket {}", work.wanted.names.bucket()));
    // One after the other: S3 refuses settings that arrive at the same moment.
    for action in actions {
        match action {
            BucketAction::Create { name } => bucket::create(work.cloud, name).await?,
            BucketAction::Set { setting, .. } => bucket::set(work.cloud, &work.wanted.names, setting).await?,
        }
        work.did(action.change());
    }
    step.done("set up");
    Ok(())
}

/// Stores what is missing, those that are made from others last, then imports the key. Gives all secrets.
pub(super) async fn parameters_and_key_pair(
    work: &Work<'_>,
    (parameters, key_pairs): (&[&NewParameter], &[&KeyPairAction]),
    found: &Found,
    inputs: &Inputs<'_>,
) -> Result<Secrets> {
    let mut secrets = found.secrets.clone();
    let (derived, first): (Vec<_>, Vec<_>) = parameters.iter().partition(|parameter| parameter.derived);
    make_parameters(work, &first, &mut secrets, inputs).await?;
    make_parameters(work, &derived, &mut secrets, inputs).await?;
    key_pair(work, key_pairs, &secrets).await?;
    Ok(secrets)
}

async fn make_parameters(
    work: &Work<'_>,
    missing: &[&NewParameter],
    secrets: &mut Secrets,
    inputs: &Inputs<'_>,
) -> Result<()> {
    if missing.is_empty() {
        return Ok(());
    }
    let step = work
        .ui
        .step(format!("parameters under {}", work.wanted.names.parameters()));
    let known = &*secrets;
    let store = &ssm::Parameters {
        cloud: work.cloud,
        names: &work.wanted.names,
    };
    let making = missing.iter().map(|parameter| async move {
        let NewParameter { name, secure, .. } = parameter;
        let value = (inputs.parameter)(name, known)?;
        let stored = store.make(name, &value, *secure).await?;
        work.did(parameter.change());
        Ok::<_, Error>((name.clone(), stored))
    });
    let made: Result<Vec<_>> = join_all(making).await.into_iter().collect();
    for (name, stored) in made? {
        secrets.insert(name, stored);
    }
    step.done(format!("{} made", missing.len()));
    Ok(())
}

async fn key_pair(work: &Work<'_>, actions: &[&KeyPairAction], secrets: &Secrets) -> Result<()> {
    for action in actions {
        let (name, replaced) = match action {
            KeyPairAction::Import { name } => (name, false),
            KeyPairAction::Replace { name, .. } => (name, true),
        };
        let step = work.ui.step(format!("key pair {name}"));
        ec2::import_key_pair(work.cloud, &work.wanted.names, name, secrets.ssh_public_key()?).await?;
        work.did(action.change());
        step.done(if replaced { "replaced" } else { "imported" });
    }
    Ok(())
}

/// The group's id, with its rules as wanted.
pub(super) async fn group(work: &Work<'_>, actions: &[&GroupAction], found: &Found) -> Result<String> {
    let mut id = found.group.as_ref().map(|group| group.id.clone());
    let name = work.wanted.names.resource();
    let step = (!actions.is_empty()).then(|| work.ui.step(format!("security group {name}")));
    for action in actions {
        match action {
            GroupAction::Create { name, vpc } => {
                id = Some(ec2::create_group(work.cloud, &work.wanted.names, name, vpc).await?);
            }
            GroupAction::Authorize { rule, .. } => {
                ec2::authorize(work.cloud, id.as_deref().unwrap_or_default(), rule).await?;
            }
            GroupAction::Revoke { rule, .. } => {
                ec2::revoke(work.cloud, id.as_deref().unwrap_or_default(), rule).await?;
            }
        }
        work.did(action.change());
    }
    let id =
        id.ok_or_else(|| Error::failed(format!("find the security group {name}")).hint("run the same command again"))?;
    if let Some(step) = step {
        step.done(format!("{id} as wanted"));
    }
    Ok(id)
}

pub(super) async fn role_and_profile(work: &Work<'_>, actions: &[&RoleAction]) -> Result<()> {
    if actions.is_empty() {
        return Ok(());
    }
    let (cloud, names) = (work.cloud, &work.wanted.names);
    let step = work.ui.step(format!("role {}", names.resource()));
    for action in actions {
        match action {
            RoleAction::Create { name, trust } => iam::create_role(cloud, names, name, trust).await?,
            RoleAction::SetTrust { role, trust } => iam::set_trust(cloud, role, trust).await?,
            RoleAction::SetPolicy { role, document } => iam::set_role_policy(cloud, role, document).await?,
            RoleAction::CreateProfile { name } => iam::create_profile(cloud, names, name).await?,
            RoleAction::PutInProfile { profile, role } => iam::put_role_in_profile(cloud, profile, role).await?,
        }
        work.did(action.change());
    }
    step.done("may put backups and nothing else");
    Ok(())
}

pub(super) async fn address(work: &Work<'_>, found: &Found) -> Result<Address> {
    if let Some(address) = found.addresses.first() {
        return Ok(address.clone());
    }
    let name = work.wanted.names.resource();
    let step = work.ui.step(format!("address {name}"));
    let address = ec2::allocate_address(work.cloud, &work.wanted.names, &name).await?;
    work.did(AddressAction::Allocate { name }.change());
    step.done(&address.public_ip);
    Ok(address)
}
