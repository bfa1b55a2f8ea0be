//! Fuzzes parsers with ten thousand inputs each, made of bytes, of words of their language, and of valid input that was damaged.
//!
//! Each has to come to an end, without a panic, and without memory beyond what its input explains. What is allocated is counted by thread, since tests run beside
//! each other.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::{Config, TestRunner};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::time::{Duration, Instant};

pub const CASES: u32 = 10_000;
/// The memory that a parser may hold at a time: something to begin with, and a multiple of its input.
const HELD: usize = 2 << 20;
const HELD_PER_BYTE: usize = 256;
/// Far more than any of them takes, on a computer that is busy with other tests.
const PATIENCE: Duration = Duration::from_secs(5);

thread_local! {
    static HELD_NOW: Cell<isize> = const { Cell::new(0) };
    static HELD_MOST: Cell<isize> = const { Cell::new(0) };
}

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn count(bytes: isize) {
    // A thread that ends allocates after its variables are gone.
    let _ = HELD_NOW.try_with(|now| {
        let held = now.get() + bytes;
        now.set(held);
        let _ = HELD_MOST.try_with(|most| most.set(most.get().max(held)));
    });
}

#[expect(
    unsafe_code,
    reason = "an allocator is made of nothing else; this one counts and asks the system's"
)]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size().cast_signed());
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size().cast_signed());
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-layout.size().cast_signed());
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // Both blocks exist while the data moves.
        count(size.cast_signed());
        count(-layout.size().cast_signed());
        unsafe { System.realloc(pointer, layout, size) }
    }
}

/// The most that this thread held at a time during the work, beyond what it held before.
pub fn held_by(work: impl FnOnce()) -> usize {
    let before = HELD_NOW.get();
    HELD_MOST.set(before);
    work();
    usize::try_from(HELD_MOST.get() - before).unwrap_or(0)
}

/// Tries a parser of bytes. `valid` are inputs as they should be, `words` what its language is made of beside the usual.
pub fn bytes(valid: &[&str], words: &[&str], parse: impl Fn(&[u8])) {
    trial(inputs(valid, words), |input| parse(input));
}

/// The same for a parser of text.
pub fn text(valid: &[&str], words: &[&str], parse: impl Fn(&str)) {
    trial(inputs(valid, words), |input| parse(&String::from_utf8_lossy(input)));
}

fn trial(inputs: impl Strategy<Value = Vec<u8>>, parse: impl Fn(&[u8])) {
    let config = Config {
        cases: CASES,
        failure_persistence: None,
        ..Config::default()
    };
    let tried = TestRunner::new(config).run(&inputs, |input| {
        let began = Instant::now();
        let held = held_by(|| parse(&input));
        prop_assert!(
            held <= HELD + HELD_PER_BYTE * input.len(),
            "held {held} bytes for an input of {}",
            input.len()
        );
        prop_assert!(began.elapsed() < PATIENCE, "took {:?}", began.elapsed());
        Ok(())
    });
    if let Err(error) = tried {
        panic!("{error}");
    }
}

/// Inputs of up to some kilobytes.
pub fn inputs(valid: &[&str], words: &[&str]) -> impl Strategy<Value = Vec<u8>> + use<> {
    const USUAL: [&str; 40] = [
        "{",
        "}",
        "[",
        "]",
        "\"",
        "'",
        ":",
        ",",
        "\n",
        "\r\n",
        " ",
        "\t",
        "\0",
        "-",
        "- ",
        ": ",
        "#",
        "*",
        "&a ",
        "*a",
        "$",
        "+",
        "%",
        "=",
        "null",
        "true",
        "0",
        "-1",
        "1e400",
        "2147483647",
        "4294967296",
        "999999999999",
        "9223372036854775807",
        "18446744073709551615",
        "99999999999999999999999",
        "NaN",
        "\u{feff}",
        "é",
        "\u{1f600}",
        "\\u0000",
    ];
    let words: Vec<Vec<u8>> = USUAL.iter().chain(words).map(|word| word.as_bytes().to_vec()).collect();
    let valid: Vec<Vec<u8>> = valid.iter().map(|text| text.as_bytes().to_vec()).collect();
    let word = || select(words.clone());
    let damage = (any::<u8>(), any::<Index>(), any::<Index>(), word());
    prop_oneof![
        1 => vec(any::<u8>(), 0..400),
        1 => ".{0,200}".prop_map(String::into_bytes),
        3 => vec(word(), 0..60).prop_map(|words| words.concat()),
        // Nesting without end, and long runs.
        1 => (vec(word(), 1..4), 1usize..3_000).prop_map(|(words, times)| words.concat().repeat(times)),
        6 => (select(valid), vec(damage, 1..6)).prop_map(|(mut bytes, damages)| {
            for (kind, one, other, word) in damages {
                damaged(&mut bytes, kind, one, other, &word);
            }
            bytes
        }),
    ]
}

fn damaged(bytes: &mut Vec<u8>, kind: u8, one: Index, other: Index, word: &[u8]) {
    let (one, other) = (one.index(bytes.len() + 1), other.index(bytes.len() + 1));
    let (from, to) = (one.min(other), one.max(other));
    match kind % 6 {
        0 => bytes.truncate(one),
        1 => drop(bytes.drain(from..to)),
        2 => drop(bytes.splice(one..one, word.iter().copied())),
        3 => {
            let again = bytes[from..to].to_vec();
            bytes.splice(to..to, again);
        }
        4 => bytes
            .iter_mut()
            .skip(one)
            .take(1)
            .for_each(|byte| *byte ^= word.first().copied().unwrap_or(1)),
        // A number becomes another.
        _ => {
            let digit = |byte: &u8| byte.is_ascii_digit();
            if let Some(begin) = bytes.iter().skip(one).position(digit).map(|at| at + one) {
                let end = bytes[begin..]
                    .iter()
                    .position(|byte| !digit(byte))
                    .map_or(bytes.len(), |at| begin + at);
                bytes.splice(begin..end, word.iter().copied());
            }
        }
    }
    // Doubled again and again it would be no test of a parser.
    bytes.truncate(64 << 10);
}

#[test]
fn what_is_held_is_seen() {
    assert!(held_by(|| drop(std::hint::black_box(vec![0_u8; 5 << 20]))) >= 5 << 20);
    assert!(held_by(|| drop(std::hint::black_box(vec![0_u8; 5]))) < 1 << 20);
}

#[test]
#[should_panic(expected = "held")]
fn a_parser_that_believes_lengths_is_found_out() {
    bytes(&["5 hello"], &[], |input| {
        let length = String::from_utf8_lossy(input)
            .split(' ')
            .next()
            .and_then(|word| word.parse::<u64>().ok());
        let length = usize::try_from(length.unwrap_or(0)).unwrap_or(0).min(1 << 30);
        drop(std::hint::black_box(Vec::<u8>::with_capacity(length)));
    });
}

#[test]
#[should_panic(expected = "out of bounds")]
fn a_parser_that_panics_is_found_out() {
    text(&["a b"], &[], |input| {
        std::hint::black_box(input.split(' ').collect::<Vec<_>>()[1].len());
    });
}
