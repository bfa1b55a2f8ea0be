//! Which keys a command of the replication stream touches. Pure.
//!
//! A stream holds effects, so this need not know every command: what it does not know has its key first, as almost all have. Where in doubt it names more.

/// What one command of the stream means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// What a server says by itself, or to subscribers: no data.
    Nothing,
    Select(u32),
    /// Keys that may be gone or were removed; an expired key's end looks the same.
    Deleted(Vec<Touched>),
    Wrote(Vec<Touched>),
    /// More than can be listed; which command.
    Everything(String),
}

/// A key, in the database that is selected or in another that the command names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Touched {
    pub database: Option<u32>,
    pub name: Vec<u8>,
}

/// One argument as it was kept: those that are too long to be keys are not.
pub type Argument = Option<Vec<u8>>;

/// Whether the keys are all over the arguments, so that all must be kept.
pub fn keys_are_scattered(name: &str) -> bool {
    matches!(
        name,
        "DEL"
            | "UNLINK"
            | "MSET"
            | "MSETNX"
            | "PFMERGE"
            | "BITOP"
            | "EVAL"
            | "EVALSHA"
            | "FCALL"
            | "SORT"
            | "GEORADIUS"
            | "GEORADIUSBYMEMBER"
            | "LMPOP"
            | "ZMPOP"
            | "BLMPOP"
            | "BZMPOP"
            | "COPY"
    )
}

pub fn effect(name: &str, arguments: &[Argument]) -> Effect {
    let number = |at: usize| -> Option<usize> {
        let text = arguments.get(at)?.as_deref()?;
        std::str::from_utf8(text).ok()?.parse().ok()
    };
    let is = |at: usize, word: &str| {
        arguments
            .get(at)
            .and_then(Option::as_deref)
            .is_some_and(|text| text.eq_ignore_ascii_case(word.as_bytes()))
    };
    let positions: Vec<usize> = match name {
        "PING" | "REPLCONF" | "MULTI" | "EXEC" | "PUBLISH" | "SPUBLISH" | "SCRIPT" => return Effect::Nothing,
        "SELECT" => {
            return match number(0) {
                Some(database) => Effect::Select(database as u32),
                None => Effect::Everything(name.into()),
            };
        }
        "FLUSHALL" | "FLUSHDB" | "SWAPDB" => return Effect::Everything(name.into()),
        "FUNCTION" => return Effect::Wrote(Vec::new()),
        "DEL" | "UNLINK" => {
            return match touched(arguments, 0..arguments.len(), None) {
                Some(keys) => Effect::Deleted(keys),
                None => Effect::Everything(name.into()),
            };
        }
        "PFMERGE" => (0..arguments.len()).collect(),
        "MSET" | "MSETNX" => (0..arguments.len()).step_by(2).collect(),
        "RENAME" | "RENAMENX" | "SMOVE" | "RPOPLPUSH" | "BRPOPLPUSH" | "LMOVE" | "BLMOVE" => vec![0, 1],
        "BITOP" => (1..arguments.len()).collect(),
        "XGROUP" => vec![1],
        "EVAL" | "EVALSHA" | "FCALL" | "BLMPOP" | "BZMPOP" => match number(1) {
            Some(count) => (2..arguments.len().min(2 + count)).collect(),
            None => return Effect::Everything(name.into()),
        },
        "LMPOP" | "ZMPOP" => match number(0) {
            Some(count) => (1..arguments.len().min(1 + count)).collect(),
            None => return Effect::Everything(name.into()),
        },
        "SORT" | "GEORADIUS" | "GEORADIUSBYMEMBER" => {
            let stores = (1..arguments.len()).filter(|at| is(at - 1, "STORE") || is(at - 1, "STOREDIST"));
            std::iter::once(0).chain(stores).collect()
        }
        "MOVE" => {
            let (Some(target), Some(mut keys)) = (number(1), touched(arguments, 0..1, None)) else {
                return Effect::Everything(name.into());
            };
            keys.extend(touched(arguments, 0..1, Some(target as u32)).unwrap_or_default());
            return Effect::Wrote(keys);
        }
        "COPY" => {
            let database = (2..arguments.len())
                .find(|at| is(*at, "DB"))
                .and_then(|at| number(at + 1));
            return match touched(arguments, 1..2, database.map(|database| database as u32)) {
                Some(keys) => Effect::Wrote(keys),
                None => Effect::Everything(name.into()),
            };
        }
        _ => (0..arguments.len().min(1)).collect(),
    };
    match touched(arguments, positions, None) {
        Some(keys) => Effect::Wrote(keys),
        None => Effect::Everything(name.into()),
    }
}

/// The arguments at these places as keys; nothing when one is not known.
fn touched(
    arguments: &[Argument],
    positions: impl IntoIterator<Item = usize>,
    database: Option<u32>,
) -> Option<Vec<Touched>> {
    positions
        .into_iter()
        .map(|at| {
            Some(Touched {
                database,
                name: arguments.get(at)?.clone()?,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(words: &str) -> Vec<String> {
        let mut split = words.split(' ');
        let name = split.next().unwrap();
        let arguments: Vec<Argument> = split.map(|word| Some(word.as_bytes().to_vec())).collect();
        match effect(name, &arguments) {
            Effect::Wrote(keys) | Effect::Deleted(keys) => keys
                .into_iter()
                .map(|key| {
                    let database = key.database.map(|n| format!("{n}:")).unwrap_or_default();
                    format!("{database}{}", String::from_utf8(key.name).unwrap())
                })
                .collect(),
            other => panic!("{words:?} is {other:?}"),
        }
    }

    #[test]
    fn every_key_of_a_command_is_found() {
        for (command, expected) in [
            ("SET a 1", vec!["a"]),
            ("DEL a b c", vec!["a", "b", "c"]),
            ("MSET a 1 b 2", vec!["a", "b"]),
            ("RENAME a b", vec!["a", "b"]),
            ("LMOVE a b LEFT RIGHT", vec!["a", "b"]),
            ("BITOP AND dest a b", vec!["dest", "a", "b"]),
            ("XGROUP CREATE stream group $", vec!["stream"]),
            ("XADD stream 1-1 f v", vec!["stream"]),
            ("EVAL script 2 a b c", vec!["a", "b"]),
            ("SORT a BY nosort STORE b", vec!["a", "b"]),
            ("ZUNIONSTORE dest 2 a b", vec!["dest"]),
            ("COPY a b DB 3", vec!["3:b"]),
            ("MOVE a 4", vec!["a", "4:a"]),
            ("PEXPIREAT a 5", vec!["a"]),
            ("JSON.SET a $ 1", vec!["a"]),
        ] {
            assert_eq!(keys(command), expected, "{command}");
        }
    }

    #[test]
    fn what_a_server_says_by_itself_is_no_write() {
        for name in ["PING", "REPLCONF", "MULTI", "EXEC"] {
            assert_eq!(effect(name, &[]), Effect::Nothing);
        }
        assert_eq!(effect("SELECT", &[Some(b"3".to_vec())]), Effect::Select(3));
        assert!(matches!(effect("FLUSHDB", &[]), Effect::Everything(_)));
    }

    #[test]
    fn a_key_that_was_too_long_to_keep_makes_everything_suspect() {
        assert!(matches!(
            effect("SET", &[None, Some(b"1".to_vec())]),
            Effect::Everything(_)
        ));
    }
}
