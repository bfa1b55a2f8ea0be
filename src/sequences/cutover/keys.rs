//! Decides how many keys may go in the ordinary course of an app.

/// This many keys may always vanish: an emptied list is a deleted key, and queues become empty
/// often.
const FEW: u64 = 5;

/// Returns true if more keys are gone than an app removes by itself: over a tenth and over a few.
pub(super) fn too_many_gone(before: u64, now: u64) -> bool {
    before.saturating_sub(now) > (before / 10).max(FEW)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_keys_or_a_tenth_of_them_may_go() {
        for (before, now) in [(0, 0), (1, 0), (7, 6), (7, 2), (12, 7), (1_000, 900), (1_000, 2_000)] {
            assert!(!too_many_gone(before, now), "{before} {now}");
        }
        for (before, now) in [(12, 6), (12, 1), (60, 53), (1_000, 899), (1_000, 0)] {
            assert!(too_many_gone(before, now), "{before} {now}");
        }
    }
}
