//! Bounds what a replica may not have of its master, by what it says of its link. Pure.

/// The replica's link to its master, as INFO shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    Up {
        /// The last byte of the master came so long ago.
        silent_s: u64,
    },
    /// The engine noticed so long ago that the link was down.
    Down { since_s: u64 },
}

/// A write that was answered reaches the replica within this, while the link is up.
const ON_ITS_WAY_S: u64 = 1;

/// Returns from how many seconds before the promotion on writes may be missing.
///
/// A link that is cut, and not closed, is noticed only after `timeout_s`: it may have brought nothing
/// for so long before. `first` is an earlier look, `apart_s` before the one at the promotion.
pub fn seconds_at_stake(first: Option<Link>, apart_s: u64, last: Link, timeout_s: u64) -> u64 {
    let by_last = match last {
        Link::Up { silent_s } => return silent_s + ON_ITS_WAY_S,
        Link::Down { since_s } => since_s + timeout_s + ON_ITS_WAY_S,
    };
    match first {
        Some(Link::Up { silent_s }) => by_last.min(apart_s + silent_s + ON_ITS_WAY_S),
        Some(Link::Down { .. }) | None => by_last,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_that_still_looks_up_is_as_old_as_its_last_byte() {
        let cut = Link::Up { silent_s: 40 };
        assert_eq!(seconds_at_stake(None, 0, cut, 60), 41);
        assert_eq!(seconds_at_stake(Some(Link::Up { silent_s: 0 }), 40, cut, 60), 41);
    }

    #[test]
    fn a_link_that_was_found_down_may_have_been_silent_for_its_timeout_before() {
        let down = Link::Down { since_s: 30 };
        assert_eq!(seconds_at_stake(None, 0, down, 60), 91);
        assert_eq!(seconds_at_stake(Some(Link::Down { since_s: 20 }), 10, down, 60), 91);
    }

    #[test]
    fn a_link_that_was_seen_to_be_up_bounds_what_came_after() {
        let first = Some(Link::Up { silent_s: 1 });
        assert_eq!(seconds_at_stake(first, 5, Link::Down { since_s: 4 }, 60), 7);
    }
}
