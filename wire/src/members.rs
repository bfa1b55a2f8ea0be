//! The members of a key that a request may change: fields of a hash, members of a set or of a sorted
//! set. Pure.
//!
//! A large key that is written all the time is copied member by member. A request that is not
//! listed here may have changed any member of its keys.

use crate::resp;
use crate::stream::Argument;

/// Where a command has the members that it may write. Places are counted from the name, which is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// The argument at this place.
    One(usize),
    /// All arguments from this place on.
    From(usize),
    /// Every second argument from this place on.
    EverySecond(usize),
    /// Behind some options, the last of so many arguments each.
    Behind(&'static [&'static str], usize),
    /// Behind the word FIELDS and their number, each of so many arguments.
    Fields(usize),
}

const ROWS: &[(&str, Place)] = &[
    ("GEOADD", Place::Behind(&["NX", "XX", "CH"], 3)),
    ("HDEL", Place::From(2)),
    ("HEXPIRE", Place::Fields(1)),
    ("HEXPIREAT", Place::Fields(1)),
    ("HGETDEL", Place::Fields(1)),
    ("HGETEX", Place::Fields(1)),
    ("HINCRBY", Place::One(2)),
    ("HINCRBYFLOAT", Place::One(2)),
    ("HMSET", Place::EverySecond(2)),
    ("HPERSIST", Place::Fields(1)),
    ("HPEXPIRE", Place::Fields(1)),
    ("HPEXPIREAT", Place::Fields(1)),
    ("HSET", Place::EverySecond(2)),
    ("HSETEX", Place::Fields(2)),
    ("HSETNX", Place::One(2)),
    ("SADD", Place::From(2)),
    ("SREM", Place::From(2)),
    ("ZADD", Place::Behind(&["NX", "XX", "GT", "LT", "CH", "INCR"], 2)),
    ("ZINCRBY", Place::One(3)),
    ("ZREM", Place::From(2)),
];

/// Returns the key and the members of it that a request may change; `None` if they may be any.
pub fn of(arguments: &[Argument]) -> Option<(&[u8], Vec<&[u8]>)> {
    let name = arguments.first()?.bytes()?;
    let (_, place) = ROWS.iter().find(|(row, _)| name.eq_ignore_ascii_case(row.as_bytes()))?;
    let key = arguments.get(1)?.bytes()?;
    let members = match *place {
        Place::One(at) => kept(arguments.get(at..=at)?, 1, 1)?,
        Place::From(at) => kept(arguments.get(at..)?, 1, 1)?,
        Place::EverySecond(at) => kept(arguments.get(at..)?, 2, 1)?,
        Place::Behind(options, size) => {
            let mut rest = arguments.get(2..)?;
            while let Some((first, behind)) = rest.split_first()
                && is_one(first.bytes()?, options)
            {
                rest = behind;
            }
            kept(rest, size, size)?
        }
        Place::Fields(size) => {
            let mut words = arguments.iter();
            // Keys and values may be too long to keep; the word and what follows it may not.
            words.position(|word| word.bytes().is_some_and(|word| word.eq_ignore_ascii_case(b"FIELDS")))?;
            let rest = words.as_slice();
            let count: usize = resp::number(rest.first()?.bytes()?)?;
            kept(rest.get(1..count.checked_mul(size)?.checked_add(1)?)?, size, 1)?
        }
    };
    (!members.is_empty()).then_some((key, members))
}

fn is_one(word: &[u8], options: &[&str]) -> bool {
    options
        .iter()
        .any(|option| word.eq_ignore_ascii_case(option.as_bytes()))
}

/// Returns the argument at `place`, counted from 1, of each group of `size`.
fn kept(arguments: &[Argument], size: usize, place: usize) -> Option<Vec<&[u8]>> {
    arguments
        .chunks(size)
        .map(|group| group.get(place - 1).and_then(Argument::bytes))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_words(words: &str) -> Option<String> {
        let arguments: Vec<Argument> = words.split(' ').map(|word| Argument::Kept(word.into())).collect();
        let (key, members) = of(&arguments)?;
        assert_eq!(key, b"key");
        let members = members.into_iter().map(String::from_utf8_lossy);
        Some(members.collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn members_are_found_where_each_command_has_them() {
        for (words, members) in [
            ("hset key a 1 b 2", "a b"),
            ("HMSET key a 1", "a"),
            ("HSETNX key a 1", "a"),
            ("HINCRBY key a 5", "a"),
            ("HINCRBYFLOAT key a 5", "a"),
            ("HDEL key a b", "a b"),
            ("HEXPIRE key 10 NX FIELDS 2 a b", "a b"),
            ("HPEXPIREAT key 10 FIELDS 1 a", "a"),
            ("HPERSIST key FIELDS 1 a", "a"),
            ("HGETDEL key FIELDS 1 a", "a"),
            ("HGETEX key EX 5 FIELDS 1 a", "a"),
            ("HSETEX key FNX EX 5 FIELDS 2 a 1 b FIELDS", "a b"),
            ("SADD key a b", "a b"),
            ("SREM key a", "a"),
            ("ZADD key 1 a 2 b", "a b"),
            ("ZADD key NX CH 1 a", "a"),
            ("ZINCRBY key 1 a", "a"),
            ("ZREM key a b", "a b"),
            ("GEOADD key XX 1 2 a 3 4 b", "a b"),
        ] {
            assert_eq!(of_words(words).as_deref(), Some(members), "{words}");
        }
    }

    #[test]
    fn members_that_a_request_does_not_name_may_be_any() {
        for words in [
            "SPOP key",
            "ZPOPMIN key",
            "DEL key",
            "SDIFFSTORE key a b",
            "EXPIRE key 5",
            "HSET key",
            "HEXPIRE key 10 FIELDS 3 a b",
            "HEXPIRE key 10 FIELDS x a",
            "ZADD key NX",
            "HGETDEL key",
        ] {
            assert_eq!(of_words(words), None, "{words}");
        }
        let kept = |word: &str| Argument::Kept(word.into());
        let long = [kept("HSET"), kept("key"), Argument::Skipped(1 << 20), kept("1")];
        assert_eq!(of(&long), None);
        let value = [kept("HSET"), kept("key"), kept("a"), Argument::Skipped(1 << 20)];
        assert_eq!(of(&value).map(|(_, members)| members), Some(vec![&b"a"[..]]));
    }
}
