//! Judges whether the pair, or a host that is made anew, can get another instance type or disk. Pure.

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
    /// The engine's limit now, bytes; 0 without one.
    pub now: u64,
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

/// Returns the architecture of the wanted type, if a host has another one.
pub fn other_architecture(found: &Found) -> Option<&str> {
    let machine = found.machine_type.as_ref()?;
    let differs = |role| found.architecture_of(role) != machine.architecture;
    let is_there = |role: &Role| found.instances.iter().any(|host| host.role == *role);
    let differs = Role::ALL.into_iter().filter(is_there).any(differs);
    differs.then_some(machine.architecture.as_str())
}

/// Returns the wanted type. Fails with figures if the hosts cannot get it.
pub fn machine<'a>(wanted: &Wanted, found: &'a Found) -> Result<&'a MachineType> {
    let name = &wanted.instance_type;
    let doing = format!("resize the pair to {name}");
    let machine = known_type(&doing, wanted, found)?;
    let refuse = |found: String| Error::usage(format!("{doing}: {found}"));
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
            .hint(format!(
                "take a type of the kind {}; or set `hosts.instance_type: {name}` in infra.yml, and make both hosts \
                 anew: `infra replace replica`, then `infra replace master`",
                other.architecture
            )));
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

/// Returns true if a host has another type than the wanted one, so that its engine gets another limit.
pub fn changes_type(wanted: &Wanted, found: &Found) -> bool {
    let mut instances = found.instances.iter();
    instances.any(|instance| instance.instance_type != wanted.instance_type)
}

/// Returns the wanted type for a host that is made anew. Fails if the region does not have it.
pub fn known_type<'a>(doing: &str, wanted: &Wanted, found: &'a Found) -> Result<&'a MachineType> {
    found.machine_type.as_ref().ok_or_else(|| {
        Error::usage(format!("{doing}: {} has no such instance type", wanted.names.region))
            .hint("`aws ec2 describe-instance-types` lists those of the region")
    })
}

/// Fails with figures if the data would not fit. An engine that is full, as a cache is, may use a little more than its
/// limit: its data fits wherever the limit is not lower.
pub fn fits(doing: &str, held: Held) -> Result<()> {
    let no_lower = held.now > 0 && held.now <= held.most;
    if held.used <= held.most || no_lower {
        return Ok(());
    }
    Err(Error::usage(format!(
        "{doing}: the master uses {} of memory, and on that type it may use {}",
        size::bytes(held.used),
        size::bytes(held.most)
    ))
    .hint("take a larger type, or let fewer keys live"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::cloud::{Expiry, Network};
    use crate::model::names::Names;
    use std::collections::BTreeSet;

    fn wanted(instance_type: &str, disk_gb: u32) -> Wanted {
        Wanted {
            names: Names::new("demo", "production", "123456789012", "us-east-1").unwrap(),
            generation: 7,
            tls_only: true,
            expiry: Expiry::keeping(48, 35, 12, 3600),
            object_lock: None,
            parameters: Vec::new(),
            admin_cidrs: Vec::new(),
            app_cidrs: Vec::new(),
            scrape_cidrs: Vec::new(),
            own_address: None,
            instance_type: instance_type.into(),
            image: "debian-13".into(),
            disk_gb,
            zones: Vec::new(),
            subnet: None,
        }
    }

    fn machine_type(architecture: &str) -> MachineType {
        MachineType {
            memory_bytes: 2 << 30,
            network_bytes_per_s: None,
            architecture: architecture.into(),
        }
    }

    fn instance(role: Role, instance_type: &str, zone: &str) -> Instance {
        Instance {
            id: format!("i-{role}"),
            role,
            state: "running".into(),
            instance_type: instance_type.into(),
            image_id: "ami-0".into(),
            image_name: None,
            disk_gb: Some(16),
            zone: zone.into(),
            private_ip: None,
            public_ip: None,
            generation: Some(7),
            reason: None,
        }
    }

    /// A pair of t3.micro, where both zones offer what is wanted.
    fn found() -> Found {
        Found {
            network: Network {
                offering_zones: ["us-east-1a", "us-east-1b"].map(str::to_string).into(),
                ..Network::default()
            },
            instances: vec![
                instance(Role::Master, "t3.micro", "us-east-1a"),
                instance(Role::Replica, "t3.micro", "us-east-1b"),
            ],
            machine_type: Some(machine_type("amd64")),
            other_types: [("t3.micro".to_string(), machine_type("amd64"))].into(),
            ..Found::default()
        }
    }

    #[test]
    fn only_hosts_of_another_type_need_work() {
        let mut found = found();
        let small = wanted("t3.small", 16);
        let both = Needs {
            master: true,
            replica: true,
        };
        assert_eq!(needs(&small, &found).unwrap(), both);
        found.instances[1].instance_type = "t3.small".into();
        assert_eq!(needs(&small, &found).unwrap(), Needs { replica: false, ..both });
        assert_eq!(
            needs(&wanted("t3.micro", 16), &found).unwrap(),
            Needs { master: false, ..both }
        );
    }

    #[test]
    fn a_host_that_is_gone_is_named_with_the_command_that_makes_it() {
        let mut found = found();
        found.instances.pop();
        let error = needs(&wanted("t3.small", 16), &found).unwrap_err();
        assert!(error.to_string().contains("the replica is gone"), "{error}");
        assert!(error.next_step().unwrap().contains("infra up"));
    }

    #[test]
    fn a_disk_grows_and_never_shrinks() {
        let growing = disks(&wanted("t3.micro", 24), &found()).unwrap();
        assert_eq!(growing, [(Role::Replica, 16), (Role::Master, 16)]);
        assert_eq!(disks(&wanted("t3.micro", 16), &found()).unwrap(), []);
        let error = disks(&wanted("t3.micro", 8), &found()).unwrap_err();
        assert!(error.to_string().contains("16 GB, wanted are 8"), "{error}");
    }

    #[test]
    fn a_type_that_the_hosts_cannot_get_is_refused_with_its_reason() {
        let small = wanted("t3.small", 16);
        machine(&small, &found()).unwrap();
        let refused = |change: fn(&mut Found)| {
            let mut found = found();
            change(&mut found);
            machine(&small, &found).unwrap_err().to_string()
        };
        let unknown = refused(|found| found.machine_type = None);
        assert!(unknown.contains("us-east-1 has no such instance type"), "{unknown}");
        let other = refused(|found| found.machine_type = Some(machine_type("arm64")));
        assert!(other.contains("kind arm64") && other.contains("kind amd64"), "{other}");
        let mut mixed = found();
        assert_eq!(other_architecture(&mixed), None);
        mixed.machine_type = Some(machine_type("arm64"));
        assert_eq!(other_architecture(&mixed), Some("arm64"));
        let error = machine(&small, &mixed).unwrap_err();
        assert!(
            error.next_step().unwrap().contains("infra replace replica"),
            "{error:?}"
        );
        // One host is made anew: each has its own programs by now.
        mixed.instances[1].instance_type = "t3.small".into();
        assert_eq!(
            [Role::Master, Role::Replica].map(|role| mixed.architecture_of(role).to_string()),
            ["amd64", "arm64"]
        );
        mixed.instances[0].instance_type = "t3.small".into();
        assert_eq!(other_architecture(&mixed), None);
        let zone = refused(|found| {
            found.network.offering_zones = BTreeSet::from(["us-east-1a".to_string()]);
        });
        assert!(zone.contains("us-east-1b does not offer it"), "{zone}");
    }

    #[test]
    fn data_that_would_not_fit_is_refused_with_figures() {
        let held = |used| Held {
            used,
            now: 400 << 20,
            most: 200 << 20,
        };
        fits("resize the pair to t3.nano", held(200 << 20)).unwrap();
        let error = fits("replace the replica by a t3.nano", held(300 << 20)).unwrap_err();
        let text = error.to_string();
        assert!(text.starts_with("replace the replica by a t3.nano: "), "{text}");
        assert!(text.contains("300.0 MiB") && text.contains("200.0 MiB"), "{text}");
    }

    #[test]
    fn a_full_cache_fits_wherever_its_limit_is_not_lower() {
        let full = |now: u64, most: u64| Held {
            used: 401 << 20,
            now: now << 20,
            most: most << 20,
        };
        fits("replace the replica by a t4g.micro", full(400, 400)).unwrap();
        fits("replace the replica by a t4g.nano", full(400, 350)).unwrap_err();
        // Without a limit, nothing says that the engine keeps to one.
        fits("replace the replica by a t4g.micro", full(0, 400)).unwrap_err();
    }

    #[test]
    fn only_a_host_of_another_type_gets_another_limit() {
        assert!(!changes_type(&wanted("t3.micro", 16), &found()));
        assert!(changes_type(&wanted("t3.nano", 16), &found()));
        // The host that is to be made anew is gone; the other one shows the type of before.
        let mut alone = found();
        alone.instances.pop();
        assert!(changes_type(&wanted("t3.nano", 16), &alone));
        alone.machine_type = None;
        let error = known_type("replace the replica by a t3.tiny", &wanted("t3.tiny", 16), &alone).unwrap_err();
        assert!(
            error.to_string().contains("us-east-1 has no such instance type"),
            "{error}"
        );
    }
}
