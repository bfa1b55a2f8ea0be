//! Decides which addresses may reach the pair, and whether infra.yml or a lookup says so. Pure.

use crate::effects::platform::Egress;
use crate::model::cloud::Wanted;
use crate::model::values::Cidr;
use std::collections::BTreeSet;
use std::net::Ipv4Addr;

/// A block with fewer fixed bits holds over a hundredth of all addresses, so it is no operator's.
const NARROWEST_WORLD: u8 = 7;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    pub admins: Admins,
    pub apps: Apps,
}

/// The addresses that may use ssh, and Redis for the tool's own work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admins {
    /// The blocks of `hosts.admin_cidrs`; empty means nobody.
    Named(Vec<Cidr>),
    /// The address from which this command reaches AWS.
    Own(Ipv4Addr),
}

/// The addresses that may use Redis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Apps {
    /// The blocks of `hosts.app_cidrs`.
    Named(Vec<Cidr>),
    /// The app's processes have no fixed address.
    Anywhere,
    /// The outgoing addresses of the apps' Private Spaces.
    Spaces {
        names: BTreeSet<String>,
        addresses: BTreeSet<Ipv4Addr>,
    },
}

impl Admins {
    pub fn cidrs(&self) -> Vec<Cidr> {
        match self {
            Admins::Named(cidrs) => cidrs.clone(),
            Admins::Own(address) => vec![Cidr::from(*address)],
        }
    }

    /// Returns the first block that is too wide to be an operator's.
    pub fn world(&self) -> Option<Cidr> {
        let Admins::Named(cidrs) = self else { return None };
        cidrs.iter().find(|cidr| cidr.bits() < NARROWEST_WORLD).copied()
    }
}

impl Apps {
    /// Joins the apps' outgoing addresses. One app without fixed ones opens the port to everybody.
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
        if names.is_empty() {
            Apps::Anywhere
        } else {
            Apps::Spaces { names, addresses }
        }
    }

    pub fn cidrs(&self) -> Vec<Cidr> {
        match self {
            Apps::Named(cidrs) => cidrs.clone(),
            // A default for apps only; for operators infra.yml must say it.
            Apps::Anywhere => vec![Cidr::WORLD],
            Apps::Spaces { addresses, .. } => addresses.iter().map(|address| Cidr::from(*address)).collect(),
        }
    }
}

impl Access {
    /// Returns no addresses, for commands that only look and leave the rules as they are.
    pub fn untouched() -> Self {
        Access {
            admins: Admins::Named(Vec::new()),
            apps: Apps::Named(Vec::new()),
        }
    }

    /// Writes the addresses into the wanted cloud.
    pub fn fill(&self, wanted: &mut Wanted) {
        wanted.admin_cidrs = self.admins.cidrs();
        wanted.app_cidrs = self.apps.cidrs();
        wanted.own_address = match self.admins {
            Admins::Own(address) => Some(Cidr::from(address)),
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
        assert_eq!(
            both.cidrs(),
            [one, other].map(|address| Cidr::from(Ipv4Addr::from(address)))
        );
        assert_eq!(
            Apps::of(vec![space("a", &[one]), Egress::Anywhere]).cidrs(),
            [Cidr::WORLD]
        );
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
            let admins = Admins::Named(cidrs.into_iter().map(|cidr: &str| cidr.parse().unwrap()).collect());
            assert_eq!(admins.world().map(|cidr| cidr.to_string()).as_deref(), world);
        }
        assert_eq!(Admins::Own(Ipv4Addr::UNSPECIFIED).world(), None);
    }
}
