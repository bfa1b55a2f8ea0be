//! Chooses the points at which the program is killed: all of them, those that were named, or a
//! sample.

use std::collections::BTreeSet;
use std::path::Path;

/// The names of the points that a run has passed, in their order.
pub fn read(log: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    text.lines().map(String::from).collect()
}

/// Says if everything is to be tried, or the named points, and not a sample.
pub fn is_full() -> bool {
    std::env::var("RECOVERY").is_ok_and(|word| word == "all") || std::env::var_os("RECOVERY_POINTS").is_some()
}

/// Numbers from 1 on, of `count` points; `sample` of them where not all are to be tried.
pub fn choose(count: usize, sample: usize) -> Vec<usize> {
    let number = |text: &str| {
        text.trim()
            .parse::<usize>()
            .expect("RECOVERY_POINTS is a list of numbers and ranges")
    };
    if let Ok(named) = std::env::var("RECOVERY_POINTS") {
        return named
            .split(',')
            .flat_map(|part| match part.split_once('-') {
                Some((first, last)) => number(first)..=number(last).min(count),
                None => number(part)..=number(part),
            })
            .collect();
    }
    if is_full() {
        return (1..=count).collect();
    }
    let seed = std::env::var("RECOVERY_SEED").ok().and_then(|text| text.parse().ok());
    let seed: u64 =
        seed.unwrap_or_else(|| u64::from(std::process::id()) ^ jiff::Timestamp::now().as_second().cast_unsigned());
    println!("a sample of the {count} points by RECOVERY_SEED={seed}");
    let mut state = seed;
    let mut chosen = BTreeSet::new();
    while chosen.len() < sample.min(count) {
        // splitmix64
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        chosen.insert(usize::try_from((mixed ^ (mixed >> 31)) % count as u64).unwrap() + 1);
    }
    chosen.into_iter().collect()
}
