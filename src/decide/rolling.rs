//! Decides in which order the hosts are worked on: the replica first, then the other one as the replica. Pure.

use crate::model::role::Role;

/// The next part of the work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Works on this host and waits until it is in sync again.
    Work(Role),
    /// Moves the role of master to the replica, which needs no work any more.
    Failover,
    Done,
}

/// The hosts that still need work, by their present roles.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    pub master: bool,
    pub replica: bool,
}

/// Returns the next part. `serves`: the app uses the pair, so the master must not stop.
pub fn next(needs: Needs, serves: bool) -> Next {
    match (needs.replica, needs.master) {
        (true, _) => Next::Work(Role::Replica),
        (false, true) if serves => Next::Failover,
        (false, true) => Next::Work(Role::Master),
        (false, false) => Next::Done,
    }
}

/// Returns all parts that are ahead, for a dry run.
pub fn ahead(mut needs: Needs, serves: bool) -> Vec<Next> {
    let mut parts = Vec::new();
    loop {
        let part = next(needs, serves);
        match part {
            Next::Work(Role::Replica) => needs.replica = false,
            Next::Work(Role::Master) => needs.master = false,
            Next::Failover => std::mem::swap(&mut needs.master, &mut needs.replica),
            Next::Done => return parts,
        }
        parts.push(part);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: Needs = Needs {
        master: true,
        replica: true,
    };

    #[test]
    fn the_replica_comes_first_and_the_master_only_as_a_replica() {
        use Next::{Failover, Work};
        assert_eq!(ahead(BOTH, true), [Work(Role::Replica), Failover, Work(Role::Replica)]);
        let only_master = Needs { replica: false, ..BOTH };
        assert_eq!(ahead(only_master, true), [Failover, Work(Role::Replica)]);
        let only_replica = Needs { master: false, ..BOTH };
        assert_eq!(ahead(only_replica, true), [Work(Role::Replica)]);
        assert_eq!(ahead(Needs::default(), true), []);
    }

    #[test]
    fn a_pair_that_the_app_does_not_use_yet_needs_no_failover() {
        use Next::Work;
        assert_eq!(ahead(BOTH, false), [Work(Role::Replica), Work(Role::Master)]);
    }

    #[test]
    fn the_serving_master_is_never_worked_on() {
        for master in [true, false] {
            for replica in [true, false] {
                let parts = ahead(Needs { master, replica }, true);
                assert!(!parts.contains(&Next::Work(Role::Master)), "{parts:?}");
                let failovers = parts.iter().filter(|part| **part == Next::Failover).count();
                assert_eq!(failovers, usize::from(master));
            }
        }
    }
}
