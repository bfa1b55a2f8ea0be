//! Chooses the fault points at which a command is killed: those that a variable names, or a sample
//! by a seed that is printed.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::SystemTime;

/// The names of the points that a run has passed, in their order.
pub fn read(log: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    text.lines().map(String::from).collect()
}

/// Numbers from 1 to `count` that a variable such as `RECOVERY_POINTS=3,17-20` names; `None` without it.
pub fn named(variable: &str, count: usize) -> Option<Vec<usize>> {
    let text = std::env::var(variable).ok()?;
    Some(parse(variable, &text, count))
}

fn parse(variable: &str, text: &str, count: usize) -> Vec<usize> {
    let number = |text: &str| match text.trim().parse::<usize>() {
        Ok(number) => number,
        Err(_) => panic!("{variable}={text}: want numbers and ranges, such as 3,17-20"),
    };
    let parts = text.split(',').flat_map(|part| match part.split_once('-') {
        Some((first, last)) => number(first)..=number(last),
        None => number(part)..=number(part),
    });
    parts.filter(|number| (1..=count).contains(number)).collect()
}

/// Returns some of the numbers from 1 to `count`, by the seed in the variable, else by one of this run.
pub fn sample(variable: &str, count: usize, size: usize) -> Vec<usize> {
    let given = std::env::var(variable).ok().and_then(|text| text.parse().ok());
    let seed: u64 = given.unwrap_or_else(|| {
        let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        u64::from(std::process::id()) ^ now.as_secs()
    });
    println!("a sample of the {count} points by {variable}={seed}");
    let mut state = seed;
    let mut chosen = BTreeSet::new();
    while chosen.len() < size.min(count) {
        // splitmix64
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        chosen.insert(usize::try_from((mixed ^ (mixed >> 31)) % count as u64).unwrap_or(0) + 1);
    }
    chosen.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_ranges_are_named_within_the_count() {
        assert_eq!(parse("POINTS", "3, 17-20", 18), [3, 17, 18]);
        assert_eq!(parse("POINTS", "2-9", 4), [2, 3, 4]);
        assert_eq!(sample("NO_SEED", 5, 9), [1, 2, 3, 4, 5]);
    }
}
