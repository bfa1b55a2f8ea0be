//! The effect of a command of a replication stream on keys. Pure.
//!
//! Servers send effects, not requests: an expiry is a DEL, SPOP an SREM, a script what it wrote. Commands are listed with where their keys stand;
//! any other is looked up in the table of an engine, and what that does not know either may have changed anything.

use crate::commands::CommandTable;
use crate::rows::{self, Keys, Rows};
use crate::stream::Argument;
use crate::touched::{Effect, Place};
use std::sync::LazyLock;

/// Returns the effect of a command, by its name and arguments; `table` is asked for those that are not listed here. The error says what could not be
/// understood.
pub fn effect(arguments: &[Argument], table: &CommandTable) -> Result<Effect, String> {
    let Some(name) = arguments.first().and_then(Argument::bytes) else {
        return Ok(Effect::Everything);
    };
    let name = String::from_utf8_lossy(name).to_ascii_uppercase();
    match name.as_str() {
        // OPINFO is a provider's: it stands in the streams of Alibaba Cloud's servers and names no key.
        "PING" | "REPLCONF" | "MULTI" | "EXEC" | "OPINFO" => return Ok(Effect::Nothing),
        "SELECT" => {
            let number = arguments.get(1).and_then(rows::number);
            return number
                .map(Effect::Select)
                .ok_or_else(|| "a SELECT without a number".to_owned());
        }
        "HDEL" => return Ok(fields_removed(arguments).unwrap_or(Effect::Everything)),
        _ => {}
    }
    let Some(row) = ROWS.find(&name) else {
        return Ok(table.effect(&name, arguments).unwrap_or(Effect::Everything));
    };
    if matches!(row, Keys::Message | Keys::Functions) {
        return Ok(Effect::Message);
    }
    // A command that seems to write no key stands in no stream, so it was not understood.
    let keys = rows::keys(row, arguments).filter(|keys| !keys.is_empty());
    Ok(match (name.as_str(), keys) {
        (_, None) => Effect::Everything,
        ("DEL" | "UNLINK", Some(keys)) => Effect::Removal(keys),
        (_, Some(keys)) => Effect::Write(keys),
    })
}

static ROWS: LazyLock<Rows> = LazyLock::new(Rows::default);

/// HDEL key field [field …]. Fields that were too long to keep make it a write.
fn fields_removed(arguments: &[Argument]) -> Option<Effect> {
    let key = rows::touched(Place::Selected, arguments.get(1))?;
    let fields = arguments.get(2..).unwrap_or_default().iter();
    let fields: Option<Vec<Vec<u8>>> = fields.map(|field| Some(field.bytes()?.to_vec())).collect();
    Some(match fields {
        Some(fields) if !fields.is_empty() => Effect::FieldRemoval(key, fields),
        _ => Effect::Write(vec![key]),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::Decoder;
    use crate::touched::Touched;

    fn of(words: &str) -> Effect {
        let arguments: Vec<Argument> = words.split(' ').map(|word| Argument::Kept(word.into())).collect();
        effect(&arguments, &CommandTable::default()).unwrap()
    }

    fn here(names: &[&str]) -> Vec<Touched> {
        names
            .iter()
            .map(|name| Touched {
                place: Place::Selected,
                name: (*name).into(),
            })
            .collect()
    }

    fn there(database: u32, name: &str) -> Touched {
        Touched {
            place: Place::Database(database),
            name: name.into(),
        }
    }

    #[test]
    fn keys_are_found_where_each_command_has_them() {
        for (command, keys) in [
            ("set a 1 PXAT 5", here(&["a"])),
            ("MSET a 1 b 2", here(&["a", "b"])),
            ("RENAME a b", here(&["a", "b"])),
            ("SMOVE a b member", here(&["a", "b"])),
            ("LMOVE a b LEFT RIGHT", here(&["a", "b"])),
            ("BITOP AND to a b", here(&["to"])),
            ("ZUNIONSTORE to 2 a b", here(&["to"])),
            ("XGROUP CREATE a group 0", here(&["a"])),
            ("COPY a b", here(&["b"])),
            ("COPY a b REPLACE DB 3", vec![there(3, "b")]),
            ("MOVE a 2", vec![here(&["a"]).remove(0), there(2, "a")]),
            ("SORT a BY w STORE to", here(&["to"])),
            ("SORT a BY store STORE to", here(&["STORE", "to"])),
            ("GEORADIUS a 1 1 5 km STOREDIST to", here(&["to"])),
        ] {
            assert_eq!(of(command), Effect::Write(keys), "{command}");
        }
        assert_eq!(of("UNLINK a b"), Effect::Removal(here(&["a", "b"])));
        let fields = vec![b"f".to_vec(), b"g".to_vec()];
        assert_eq!(of("HDEL a f g"), Effect::FieldRemoval(here(&["a"]).remove(0), fields));
    }

    #[test]
    fn what_is_not_known_may_have_changed_anything() {
        for command in [
            "FLUSHALL",
            "FLUSHDB async",
            "SWAPDB 0 1",
            "EVAL script 1 a",
            "JSON.SET a $ 1",
            "SORT a",
            "MOVE a x",
            "SET",
            "COPY a b DB",
        ] {
            assert_eq!(of(command), Effect::Everything, "{command}");
        }
        let skipped = [Argument::Kept(b"SET".to_vec()), Argument::Skipped(1 << 20)];
        assert_eq!(effect(&skipped, &CommandTable::default()), Ok(Effect::Everything));
        let long_field = [
            Argument::Kept(b"HDEL".to_vec()),
            Argument::Kept(b"a".to_vec()),
            Argument::Skipped(1 << 20),
        ];
        assert_eq!(
            effect(&long_field, &CommandTable::default()),
            Ok(Effect::Write(here(&["a"])))
        );
    }

    #[test]
    fn pings_and_wrappers_change_nothing_and_a_wrong_select_is_an_error() {
        for command in ["ping", "REPLCONF GETACK *", "MULTI", "EXEC", "opinfo {}"] {
            assert_eq!(of(command), Effect::Nothing);
        }
        assert_eq!(of("SELECT 12"), Effect::Select(12));
        assert_eq!(of("PUBLISH a b"), Effect::Message);
        let select = [Argument::Kept(b"SELECT".to_vec()), Argument::Kept(b"x".to_vec())];
        assert!(effect(&select, &CommandTable::default()).is_err());
    }

    #[test]
    fn streams_of_commands_are_fuzzed() {
        let stream = "*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\nb\r\n*1\r\n$4\r\nPING\r\n*4\r\n$4\r\nEVAL\r\n$1\r\nx\r\n$1\r\n1\r\n$1\r\nk\r\n";
        let words = [
            "*1\r\n",
            "*2147483647\r\n",
            "$4\r\n",
            "$999999999999\r\n",
            "COPY",
            "ZUNIONSTORE",
            "XREADGROUP",
            "EVAL",
            "MOVE",
        ];
        crate::fuzz::bytes(&[stream], &words, |input| {
            let mut decoder = Decoder::at(1 << 61);
            let read = decoder.feed(input, |command| {
                effect(&command.arguments, &CommandTable::default()).map(drop)
            });
            if read.is_err() {
                assert!(decoder.feed(b"x", |_| Ok(())).is_err());
            }
        });
    }
}
