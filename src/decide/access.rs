//! Who may come in to the pair, and who said so: infra.yml, or what its owner would have to look up otherwise. Pure.

use crate::effects::platform::Egress;
use crate::model::cloud::Wanted;
use std::collections::BTreeSet;
use std::net::Ipv4Addr;

/// Everybody. Written out by whoever means it, and never taken for the operators.
const WORLD: &str = "0.0.0.0/0";
/// Blocks with fewer fixed bits than this hold more than a hundredth of all addresses: nobody's own.
const NARROWEST_WORLD: u8 = 7;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    pub admins: Admins,
    pub apps: Apps,
}

/// Who may use ssh, and Redis for the tool's own work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admins {
    /// As `hosts.admin_cidrs` has it; empty: nobody.
    Named(Vec<String>),
    /// Whoever runs this, at the address that AWS sees.
    Own(Ipv4Addr),
}

/// Who may use Redis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Apps {
    /// As `hosts.app_cidrs` has it.
    Named(Vec<String>),
    /// The app's processes have no fixed address.
    Anywhere,
    /// The addresses by which the apps' Private Spaces reach the world.
    Spaces {
        names: BTreeSet<String>,
        addresses: BTreeSet<Ipv4Addr>,
    },
}

impl Admins {
    pub fn cidrs(&self) -> Vec<String> {
        match self {
            Admins::Named(cidrs) => cidrs.clone(),
            Admins::Own(address) => vec![format!("{address}/32")],
        }
    }

    /// The first block that is so wide that it is no operator's.
    pub fn world(&self) -> Option<&str> {
        let Admins::Named(cidrs) = self else { return None };
        let is_wide = |cidr: &&String| {
            let bits = cidr.split_once('/').and_then(|(_, bits)| bits.parse::<u8>().ok());
            bits.is_some_and(|bits| bits < NARROWEST_WORLD)
        };
        cidrs.iter().find(is_wide).map(String::as_str)
    }
}

impl Apps {
    /// What the ways out of all the apps come to: one that may come from anywhere opens the port to everybody.
    pub fn of(egress: Vec<Egress>) -> Self {
        let (mut names, mut addresses) = (BTreeSet::new(), BTreeSet::new());
        for way in egress {
            match way {
                Egress::Anywhere => return Apps::Anywhere,
                Egress::Space {
                    name,
                    addresses: sources,
                } => {
                    names.insert(name);
                    addresses.extend(sources);
                }
            }
        }
        match names.is_empty() {
            true => Apps::Anywhere,
            false => Apps::Spaces { names, addresses },
        }
    }

    pub fn cidrs(&self) -> Vec<String> {
        match self {
            Apps::Named(cidrs) => cidrs.clone(),
            Apps::Anywhere => vec![WORLD.into()],
            Apps::Spaces { addresses, .. } => addresses.iter().map(|address| format!("{address}/32")).collect(),
        }
    }
}

impl Access {
    /// For whoever looks at what stands and leaves the rules as they are.
    pub fn untouched() -> Self {
        Access {
            admins: Admins::Named(Vec::new()),
            apps: Apps::Named(Vec::new()),
        }
    }

    /// Writes it into what should stand.
    pub fn fill(&self, wanted: &mut Wanted) {
        wanted.admin_cidrs = self.admins.cidrs();
        wanted.app_cidrs = self.apps.cidrs();
        wanted.own_address = match self.admins {
            Admins::Own(address) => Some(format!("{address}/32")),
            Admins::Named(_) => None,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn space(name: &str, addresses: &[[u8; 4]]) -> Egress {
        Egress::Space {
            name: name.into(),
            addresses: addresses.iter().copied().map(Ipv4Addr::from).collect(),
        }
    }

    #[test]
    fn apps_in_spaces_open_their_addresses_and_one_outside_opens_the_world() {
        let (one, other) = ([192, 0, 2, 1], [198, 51, 100, 7]);
        let both = Apps::of(vec![space("a", &[one, other]), space("b", &[one])]);
        assert_eq!(both.cidrs(), ["192.0.2.1/32", "198.51.100.7/32"]);
        assert_eq!(Apps::of(vec![space("a", &[one]), Egress::Anywhere]).cidrs(), [WORLD]);
        assert_eq!(Apps::of(vec![Egress::Anywhere]), Apps::Anywhere);
    }

    #[test]
    fn a_block_that_holds_much_of_the_world_is_the_world() {
        for (cidrs, world) in [
            (vec!["203.0.113.7/32", "0.0.0.0/0"], Some("0.0.0.0/0")),
            (vec!["0.0.0.0/1", "128.0.0.0/1"], Some("0.0.0.0/1")),
            (vec!["10.0.0.0/8"], None),
            (vec![], None),
        ] {
            let admins = Admins::Named(cidrs.into_iter().map(str::to_string).collect());
            assert_eq!(admins.world(), world);
        }
        assert_eq!(Admins::Own(Ipv4Addr::UNSPECIFIED).world(), None);
    }
}
