//! Where new hosts go: two different zones, so that losing one does not lose both.

use crate::model::cloud::{Network, Subnet, Wanted};
use crate::model::error::{Error, Result};
use crate::model::role::Role;
use std::collections::BTreeMap;

/// Returns the zone that `infra.yml` names for this role, with its region.
pub fn named_zone(wanted: &Wanted, role: Role) -> Option<String> {
    let index = match role {
        Role::Master => 0,
        Role::Replica => 1,
    };
    let zone = wanted.zones.get(index)?;
    Some(if zone.starts_with(&wanted.names.region) {
        zone.clone()
    } else {
        format!("{}{zone}", wanted.names.region)
    })
}

/// Returns the named zone of a host whose other one is in the zone `taken`. A failover exchanges the
/// roles and no zones, so the zone of this role may be taken.
pub fn free_zone(wanted: &Wanted, role: Role, taken: Option<&String>) -> Option<String> {
    let own = named_zone(wanted, role)?;
    if taken == Some(&own) {
        return named_zone(wanted, role.other()).or(Some(own));
    }
    Some(own)
}

/// Returns a subnet for each role in `missing`. `taken` holds the zones of existing hosts.
pub fn choose(
    wanted: &Wanted,
    network: &Network,
    missing: &[Role],
    taken: &BTreeMap<Role, String>,
) -> Result<BTreeMap<Role, Subnet>> {
    let mut zones = taken.clone();
    let mut chosen = BTreeMap::new();
    for &role in missing {
        let subnet = choose_one(wanted, network, role, &zones)?;
        zones.insert(role, subnet.zone.clone());
        chosen.insert(role, subnet);
    }
    Ok(chosen)
}

/// Returns the error for a network without a subnet for the hosts.
pub fn no_network(wanted: &Wanted) -> Error {
    let region = &wanted.names.region;
    match &wanted.subnet {
        Some(id) => Error::usage(format!("find the subnet {id} in {region}"))
            .hint("correct `hosts.subnet` in infra.yml, or leave it out"),
        None => Error::failed(format!("find a default VPC with subnets in {region}"))
            .hint("name a subnet in `hosts.subnet`, or make a default VPC with `aws ec2 create-default-vpc`"),
    }
}

fn choose_one(wanted: &Wanted, network: &Network, role: Role, zones: &BTreeMap<Role, String>) -> Result<Subnet> {
    let region = &wanted.names.region;
    if let Some(id) = &wanted.subnet {
        let named = network.subnets.iter().find(|subnet| &subnet.id == id).cloned();
        return named.ok_or_else(|| no_network(wanted));
    }
    if network.subnets.is_empty() {
        return Err(no_network(wanted));
    }
    if let Some(zone) = free_zone(wanted, role, zones.get(&role.other())) {
        let there: Vec<&str> = network.subnets.iter().map(|subnet| subnet.zone.as_str()).collect();
        return network
            .subnets
            .iter()
            .find(|subnet| subnet.zone == zone)
            .cloned()
            .ok_or_else(|| {
                Error::usage(format!(
                    "put the {role} into {zone}: the default VPC has no subnet there"
                ))
                .hint(format!(
                    "name zones in `hosts.zones` that have one: {}",
                    there.join(", ")
                ))
            });
    }
    let mut offering: Vec<&Subnet> = network
        .subnets
        .iter()
        .filter(|subnet| network.offering_zones.contains(&subnet.zone))
        .collect();
    offering.sort_by(|a, b| a.zone.cmp(&b.zone));
    // The zone of the other host, or the zone that infra.yml names for it.
    let other = zones
        .get(&role.other())
        .cloned()
        .or_else(|| named_zone(wanted, role.other()));
    offering
        .into_iter()
        .find(|subnet| Some(&subnet.zone) != other.as_ref())
        .cloned()
        .ok_or_else(|| {
            Error::failed(format!(
                "find two zones in {region} that have a subnet and offer {}",
                wanted.instance_type
            ))
            .hint("name another `hosts.instance_type`, or two zones in `hosts.zones`")
        })
}
