//! Judges whether the pair can get another instance type or disk. Pure.

use super::rolling::Needs;
use crate::model::cloud::{Found, Instance, MachineType, Wanted};
use crate::model::error::{Error, Result};
use crate::model::role::Role;
use crate::model::size;

/// The data that has to fit.
#[derive(Clone, Copy, Debug)]
pub struct Held {
    /// Memory in use by the master's engine, bytes.
    pub used: u64,
    /// The engine's limit on the wanted type, bytes.
    pub most: u64,
}

/// Returns the instance of a role.
pub fn host(found: &Found, role: Role) -> Result<&Instance> {
    found
        .instances
        .iter()
        .find(|instance| instance.role == role)
        .ok_or_else(|| {
            Error::failed(format!("resize the pair: the {role} is gone")).hint(match role {
                Role::Replica => "`infra up` makes another replica; then run the same command again",
                Role::Master => "`infra promote --force` makes the replica the master; then run `infra up`",
            })
        })
}

/// Returns the hosts that have another type than the wanted one, or do not run after it was given.
pub fn needs(wanted: &Wanted, found: &Found) -> Result<Needs> {
    let differs = |role| Ok::<_, Error>(host(found, role)?.instance_type != wanted.instance_type);
    Ok(Needs {
        master: differs(Role::Master)?,
        replica: differs(Role::Replica)?,
    })
}

/// Returns the hosts whose disk is to grow, with its size now.
pub fn disks(wanted: &Wanted, found: &Found) -> Result<Vec<(Role, u32)>> {
    let mut growing = Vec::new();
    for role in [Role::Replica, Role::Master] {
        let Some(gb) = host(found, role)?.disk_gb else {
            continue;
        };
        if gb > wanted.disk_gb {
            return Err(Error::usage(format!(
                "make the disk of the {role} smaller: it has {gb} GB, wanted are {}",
                wanted.disk_gb
            ))
            .because("a disk can only grow")
            .hint(format!(
                "set `hosts.disk_gb` to {gb} or more; `infra replace` makes a host with a new disk"
            )));
        }
        if gb < wanted.disk_gb {
            growing.push((role, gb));
        }
    }
    Ok(growing)
}

/// Returns the wanted type. Fails with figures if the hosts cannot get it.
pub fn machine<'a>(wanted: &Wanted, found: &'a Found) -> Result<&'a MachineType> {
    let name = &wanted.instance_type;
    let refuse = |found: String| Error::usage(format!("resize the pair to {name}: {found}"));
    let machine = found.machine_type.as_ref().ok_or_else(|| {
        refuse(format!("{} has no such instance type", wanted.names.region))
            .hint("`aws ec2 describe-instance-types` lists those of the region")
    })?;
    for role in Role::ALL {
        let host = host(found, role)?;
        if host.instance_type == *name {
            continue;
        }
        if let Some(other) = found.other_types.get(&host.instance_type)
            && other.architecture != machine.architecture
        {
            return Err(refuse(format!(
                "it is of the kind {}, and the {role} is a {} of the kind {}",
                machine.architecture, host.instance_type, other.architecture
            ))
            .because("an instance keeps its architecture, with its image and programs")
            .hint(format!("take a type of the kind {}", other.architecture)));
        }
        if !found.network.offering_zones.contains(&host.zone) {
            let zones: Vec<&str> = found.network.offering_zones.iter().map(String::as_str).collect();
            return Err(refuse(format!(
                "{} does not offer it, and the {role} is there; these zones do: {}",
                host.zone,
                zones.join(", ")
            ))
            .hint("take a type that both zones offer"));
        }
    }
    Ok(machine)
}

/// Fails with figures if the data would not fit.
pub fn fits(wanted: &Wanted, held: Held) -> Result<()> {
    if held.used <= held.most {
        return Ok(());
    }
    Err(Error::usage(format!(
        "resize the pair to {}: the master uses {} of memory, and on that type it may use {}",
        wanted.instance_type,
        size::bytes(held.used),
        size::bytes(held.most)
    ))
    .hint("take a larger type, or let fewer keys live"))
}
