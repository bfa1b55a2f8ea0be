//! Chooses the points at which the program is killed: all of them, those that were named, or a
//! sample.

use testkit::points;
pub use testkit::points::read;

/// Says if everything is to be tried, or the named points, and not a sample.
pub fn is_full() -> bool {
    std::env::var("RECOVERY").is_ok_and(|word| word == "all") || std::env::var_os("RECOVERY_POINTS").is_some()
}

/// Numbers from 1 on, of `count` points; `sample` of them where not all are to be tried.
pub fn choose(count: usize, sample: usize) -> Vec<usize> {
    if let Some(named) = points::named("RECOVERY_POINTS", count) {
        return named;
    }
    if is_full() {
        return (1..=count).collect();
    }
    points::sample("RECOVERY_SEED", count, sample)
}
