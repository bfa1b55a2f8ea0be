//! Compares the cloud that is wanted with the one that was found, and returns the actions.

use super::subnets;
use crate::model::cloud::{
    Action, AddressAction, BucketAction, BucketSetting, Drift, Found, GroupAction, HostAction, HostSpec, Image,
    Instance, KeyPair, KeyPairAction, Make, NewParameter, Plan, RoleAction, Rule, SSH_PORT, Source, Subnet, Wanted,
    backup_policy, bucket_statements, lifecycle, mean_the_same, trust_policy, wanted_rules,
};
use crate::model::error::{Error, Result};
use crate::model::role::Role;
use crate::model::secrets::parameter;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};

/// Returns the changes that make the wanted cloud. Fails if no change of ours leads there.
pub fn plan(wanted: &Wanted, found: &Found) -> Result<Plan> {
    let hosts = by_role(found)?;
    let mut plan = Plan::default();
    bucket(wanted, found, &mut plan);
    parameters(wanted, found, &hosts, &mut plan);
    key_pair(wanted, found, &mut plan);
    group(wanted, found, &mut plan)?;
    role_and_profile(wanted, found, &mut plan);
    instances(wanted, found, &hosts, &mut plan)?;
    address(wanted, found, &hosts, &mut plan)?;
    plan.actions.extend(found.fences.iter().cloned().map(Action::LiftFence));
    Ok(plan)
}

/// Returns the instance of each role. Fails if two have one role: nobody knows which has the data.
fn by_role(found: &Found) -> Result<BTreeMap<Role, &Instance>> {
    let mut hosts: BTreeMap<Role, &Instance> = BTreeMap::new();
    for instance in &found.instances {
        if let Some(first) = hosts.insert(instance.role, instance) {
            return Err(Error::failed(format!(
                "tell which instance is the {}: {} and {} both carry its tags",
                instance.role, first.id, instance.id
            ))
            .hint("terminate the one that is not in use, or remove its tag infra:role"));
        }
    }
    Ok(hosts)
}

fn bucket(wanted: &Wanted, found: &Found, plan: &mut Plan) {
    let name = wanted.names.bucket().to_string();
    if found.bucket.is_none() {
        plan.actions
            .push(Action::Bucket(BucketAction::Create { name: name.clone() }));
    }
    let there = found.bucket.clone().unwrap_or_default();
    let rules = lifecycle(&wanted.names, wanted.expiry);
    let rules_there: BTreeSet<_> = there.lifecycle.iter().collect();
    let mut settings = Vec::new();
    let mut unless = |fine: bool, setting: BucketSetting| {
        if !fine {
            settings.push(setting);
        }
    };
    unless(there.versioned, BucketSetting::Versioned);
    unless(there.encrypted, BucketSetting::Encrypted);
    unless(there.public_access_blocked, BucketSetting::PublicAccessBlocked);
    unless(there.tagged, BucketSetting::Tagged);
    unless(
        rules_there == rules.iter().collect(),
        BucketSetting::Lifecycle(rules.clone()),
    );
    let statements = bucket_statements(&wanted.names, wanted.tls_only);
    unless(
        statements
            .iter()
            .all(|statement| there.statements.iter().any(|other| mean_the_same(statement, other))),
        BucketSetting::Policy(statements.clone()),
    );
    // Another environment may have set a retention on the shared bucket, so it is never removed.
    if let Some(lock) = wanted.object_lock {
        unless(there.object_lock == Some(lock), BucketSetting::ObjectLock(lock));
    }
    if found.bucket.is_some() && settings.is_empty() {
        plan.unchanged.push(format!("bucket {name}"));
    }
    plan.actions.extend(settings.into_iter().map(|setting| {
        Action::Bucket(BucketAction::Set {
            name: name.clone(),
            setting,
        })
    }));
}

fn parameters(wanted: &Wanted, found: &Found, hosts: &BTreeMap<Role, &Instance>, plan: &mut Plan) {
    let prefix = wanted.names.parameters();
    let mut there = 0;
    for parameter in &wanted.parameters {
        let needed = match parameter.make {
            Make::Always => true,
            Make::ForNewHost(role) => !hosts.contains_key(&role),
            Make::Elsewhere => false,
        };
        if found.secrets.find(&parameter.name).is_some() {
            there += 1;
        } else if needed {
            plan.actions.push(Action::Parameter(NewParameter {
                prefix: prefix.clone(),
                name: parameter.name.clone(),
                secure: parameter.secure,
                derived: parameter.derived,
            }));
        }
    }
    if there > 0 {
        plan.unchanged.push(format!("{there} parameters under {prefix}"));
    }
}

fn key_pair(wanted: &Wanted, found: &Found, plan: &mut Plan) {
    let name = wanted.names.resource();
    let ours = found.secrets.find(parameter::SSH_PUBLIC_KEY);
    match (&found.key_pair, ours) {
        (None, _) => plan.actions.push(Action::KeyPair(KeyPairAction::Import { name })),
        (Some(pair), Some(ours)) if is_key_of(ours.expose(), pair) => plan.unchanged.push(format!("key pair {name}")),
        (Some(pair), _) => plan.actions.push(Action::KeyPair(KeyPairAction::Replace {
            name,
            fingerprint: pair.fingerprint.clone(),
        })),
    }
}

/// Returns true if `line` is the key of `pair`. Compares the keys; if AWS shows none, it compares
/// the SHA-256 fingerprints that AWS gives ed25519 keys.
fn is_key_of(line: &str, pair: &KeyPair) -> bool {
    let body = |line: &str| line.split_whitespace().nth(1).map(str::to_string);
    let Some(ours) = body(line) else {
        return false;
    };
    if let Some(theirs) = pair.public_key.as_deref().and_then(body) {
        return theirs == ours;
    }
    let Ok(key) = STANDARD.decode(&ours) else {
        return false;
    };
    let theirs = pair.fingerprint.trim_start_matches("SHA256:").trim_end_matches('=');
    STANDARD.encode(Sha256::digest(&key)).trim_end_matches('=') == theirs
}

fn group(wanted: &Wanted, found: &Found, plan: &mut Plan) -> Result<()> {
    let name = wanted.names.resource();
    let rules = wanted_rules(&wanted.admin_cidrs, &wanted.app_cidrs, &wanted.scrape_cidrs);
    let there = match &found.group {
        Some(group) => group.rules.clone(),
        None => {
            let vpc = found.network.vpc.clone().ok_or_else(|| subnets::no_network(wanted))?;
            plan.actions.push(Action::Group(GroupAction::Create {
                name: name.clone(),
                vpc,
            }));
            BTreeSet::new()
        }
    };
    if found.group.is_some() && there == rules {
        plan.unchanged.push(format!("security group {name}"));
    }
    let added = rules.difference(&there).map(|rule| GroupAction::Authorize {
        group: name.clone(),
        rule: rule.clone(),
        why: own_address(wanted, rule, &there, &rules),
    });
    let removed = there.difference(&rules).map(|rule| GroupAction::Revoke {
        group: name.clone(),
        rule: rule.clone(),
    });
    plan.actions.extend(added.chain(removed).map(Action::Group));
    Ok(())
}

/// Returns the reason for a rule that admits the operator's own address; names the old one too.
fn own_address(wanted: &Wanted, rule: &Rule, there: &BTreeSet<Rule>, rules: &BTreeSet<Rule>) -> Option<String> {
    if rule.source != Source::Ipv4(wanted.own_address?.network()) {
        return None;
    }
    let mut before = there.difference(rules).filter_map(|old| match &old.source {
        Source::Ipv4(cidr) if old.from_port == Some(SSH_PORT) && cidr.ends_with("/32") => Some(cidr),
        _ => None,
    });
    Some(match (before.next(), before.next()) {
        (Some(old), None) => format!("your own address, no longer {old}"),
        _ => "your own address".into(),
    })
}

fn role_and_profile(wanted: &Wanted, found: &Found, plan: &mut Plan) {
    let name = wanted.names.resource();
    let trust = trust_policy(&wanted.names);
    let document = backup_policy(&wanted.names);
    let before = plan.actions.len();
    match &found.role {
        None => plan.actions.push(Action::Role(RoleAction::Create {
            name: name.clone(),
            trust,
        })),
        Some(role) if !mean_the_same(&role.trust, &trust) => plan.actions.push(Action::Role(RoleAction::SetTrust {
            role: name.clone(),
            trust,
        })),
        Some(_) => {}
    }
    let policy_there = found.role.as_ref().and_then(|role| role.policy.as_ref());
    if !policy_there.is_some_and(|policy| mean_the_same(policy, &document)) {
        plan.actions.push(Action::Role(RoleAction::SetPolicy {
            role: name.clone(),
            document,
        }));
    }
    if plan.actions.len() == before {
        plan.unchanged.push(format!("role {name}"));
    }
    if found.profile.is_none() {
        plan.actions
            .push(Action::Role(RoleAction::CreateProfile { name: name.clone() }));
    }
    if found
        .profile
        .as_ref()
        .is_some_and(|profile| profile.roles.contains(&name))
    {
        plan.unchanged.push(format!("instance profile {name}"));
    } else {
        plan.actions.push(Action::Role(RoleAction::PutInProfile {
            profile: name.clone(),
            role: name,
        }));
    }
}

fn instances(wanted: &Wanted, found: &Found, hosts: &BTreeMap<Role, &Instance>, plan: &mut Plan) -> Result<()> {
    let missing: Vec<Role> = Role::ALL.into_iter().filter(|role| !hosts.contains_key(role)).collect();
    let taken = hosts
        .iter()
        .map(|(role, instance)| (*role, instance.zone.clone()))
        .collect();
    let subnets = if missing.is_empty() {
        BTreeMap::new()
    } else {
        // This comes first, since no zone offers an unknown machine type and that error misleads.
        machine_and_image(wanted, found)?;
        subnets::choose(wanted, &found.network, &missing, &taken)?
    };
    for role in Role::ALL {
        let name = wanted.names.host(role);
        match (hosts.get(&role), subnets.get(&role)) {
            (Some(instance), _) => {
                if matches!(instance.state.as_str(), "stopped" | "stopping") {
                    plan.actions.push(Action::Host(HostAction::Start {
                        role,
                        name,
                        id: instance.id.clone(),
                    }));
                } else {
                    plan.unchanged.push(format!("instance {name} ({})", instance.id));
                }
                let other = hosts.get(&role.other()).map(|other| &other.zone);
                plan.drift.extend(drift(wanted, found.image.as_ref(), instance, other));
            }
            (None, Some(subnet)) => {
                let image = machine_and_image(wanted, found)?;
                let host = HostAction::Create(host_spec(wanted, image, role, subnet));
                plan.actions.push(Action::Host(host));
            }
            (None, None) => {}
        }
    }
    Ok(())
}

fn machine_and_image<'a>(wanted: &Wanted, found: &'a Found) -> Result<&'a Image> {
    let region = &wanted.names.region;
    if found.machine_type.is_none() {
        return Err(
            Error::usage(format!("find the instance type {} in {region}", wanted.instance_type))
                .hint("correct `hosts.instance_type` in infra.yml, for example t3.micro"),
        );
    }
    let image = found.image.as_ref().ok_or_else(|| {
        Error::usage(format!(
            "find the image {} for {} in {region}",
            wanted.image, wanted.instance_type
        ))
        .hint("correct `hosts.image` in infra.yml: `debian-13`, or an AMI id of this region and architecture")
    })?;
    if wanted.disk_gb < image.smallest_gb {
        let text = format!(
            "fit the image {} on {} GB: it needs {}",
            image.id, wanted.disk_gb, image.smallest_gb
        );
        return Err(Error::usage(text).hint(format!("set `hosts.disk_gb` to {} or more", image.smallest_gb)));
    }
    Ok(image)
}

fn host_spec(wanted: &Wanted, image: &Image, role: Role, subnet: &Subnet) -> HostSpec {
    HostSpec {
        role,
        name: wanted.names.host(role),
        instance_type: wanted.instance_type.clone(),
        image_id: image.id.clone(),
        image_name: wanted.image.clone(),
        root_device: image.root_device.clone(),
        disk_gb: wanted.disk_gb,
        zone: subnet.zone.clone(),
        subnet: subnet.id.clone(),
        generation: wanted.generation,
    }
}

/// The remedies for an instance that differs from `infra.yml`.
const RESIZE: &str = "kept as it stands: `infra resize` changes it, or set it back in infra.yml";
const REPLACE: &str = "kept as it stands: `infra replace` makes the host anew, or set it back in infra.yml";

/// Returns the differences of an instance that `up` does not change.
fn drift(wanted: &Wanted, image: Option<&Image>, instance: &Instance, other_zone: Option<&String>) -> Vec<Drift> {
    let mut all = Vec::new();
    let mut differs = |field: &'static str, found: String, want: String, remedy: &'static str| {
        if found != want {
            all.push(Drift {
                role: instance.role,
                instance: instance.id.clone(),
                field,
                found,
                wanted: want,
                remedy,
            });
        }
    };
    differs(
        "instance_type",
        instance.instance_type.clone(),
        wanted.instance_type.clone(),
        RESIZE,
    );
    if let Some(disk_gb) = instance.disk_gb {
        differs("disk_gb", disk_gb.to_string(), wanted.disk_gb.to_string(), RESIZE);
    }
    // A newer image under the same name is no drift, since packages are updated on the host.
    let same_name = instance.image_name.as_ref() == Some(&wanted.image);
    let same_image = instance.image_id == wanted.image || image.is_some_and(|image| image.id == instance.image_id);
    if !same_name && !same_image {
        let there = instance.image_name.clone().unwrap_or_else(|| instance.image_id.clone());
        differs("image", there, wanted.image.clone(), REPLACE);
    }
    let zone = subnets::free_zone(wanted, instance.role, other_zone);
    if let Some(zone) = zone.filter(|_| wanted.subnet.is_none()) {
        differs("zone", instance.zone.clone(), zone, REPLACE);
    }
    all
}

fn address(wanted: &Wanted, found: &Found, hosts: &BTreeMap<Role, &Instance>, plan: &mut Plan) -> Result<()> {
    let name = wanted.names.resource();
    if let [first, second, ..] = found.addresses.as_slice() {
        return Err(Error::failed(format!(
            "tell which address is the endpoint: {} ({}) and {} ({}) both carry its tags",
            first.public_ip, first.allocation_id, second.public_ip, second.allocation_id
        ))
        .hint("release the one that the app's REDIS_URL does not name"));
    }
    let address = found.addresses.first();
    if address.is_none() {
        plan.actions
            .push(Action::Address(AddressAction::Allocate { name: name.clone() }));
    }
    let led_to = address.and_then(|address| address.instance.clone());
    match hosts.get(&Role::Master) {
        Some(master) if led_to.as_ref() == Some(&master.id) => plan.unchanged.push(format!("address {name}")),
        _ => plan.actions.push(Action::Address(AddressAction::Associate {
            name,
            role: Role::Master,
            away_from: led_to,
        })),
    }
    Ok(())
}
