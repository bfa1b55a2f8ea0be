//! Reads replies of a known form. Another form means that the key changed its type, or a refusal.

use super::super::Connection;
use crate::model::error::{Error, Result};
use ::redis::{Pipeline, Value};

/// The reason why a value could not be compared.
pub(super) enum Trouble {
    /// The key is not what it was a moment ago.
    Moved,
    Failed(Error),
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Trouble::Failed(error)
    }
}

/// Sends commands about keys. Errors of type or absence are trouble with the key; others end it.
pub(super) async fn ask(connection: &mut Connection, commands: &Pipeline) -> Result<Vec<Value>, Trouble> {
    let answers = connection.ask_all(commands).await?;
    for answer in &answers {
        if let Value::ServerError(error) = answer {
            if moved(error) {
                return Err(Trouble::Moved);
            }
            return Err(Trouble::Failed(
                connection.explain("a command of the comparison", error.clone().into()),
            ));
        }
    }
    Ok(answers)
}

/// Returns true for WRONGTYPE, and for errors of XINFO and XPENDING about a vanished key or group.
pub(super) fn moved(error: &::redis::ServerError) -> bool {
    matches!(error.code(), "WRONGTYPE" | "NOGROUP") || error.details().is_some_and(|text| text.contains("no such key"))
}

pub(super) fn integer(value: &Value) -> Option<i64> {
    match value {
        Value::Int(number) => Some(*number),
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok()?.parse().ok(),
        Value::SimpleString(text) => text.parse().ok(),
        _ => None,
    }
}

pub(super) fn text(value: &Value) -> Option<String> {
    match value {
        Value::BulkString(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
        Value::SimpleString(text) => Some(text.clone()),
        Value::Int(number) => Some(number.to_string()),
        Value::Okay => Some("OK".into()),
        _ => None,
    }
}

pub(super) fn bytes(value: Value) -> Option<Vec<u8>> {
    match value {
        Value::BulkString(bytes) => Some(bytes),
        Value::SimpleString(text) => Some(text.into_bytes()),
        Value::Int(number) => Some(number.to_string().into_bytes()),
        _ => None,
    }
}

pub(super) fn array(value: Value) -> Option<Vec<Value>> {
    match value {
        Value::Array(values) => Some(values),
        _ => None,
    }
}

/// Reads a reply to a SCAN command: the next cursor and the elements.
pub(super) fn scanned(value: Value) -> Option<(u64, Vec<Vec<u8>>)> {
    let [cursor, found] = <[Value; 2]>::try_from(array(value)?).ok()?;
    // A cursor uses all 64 bits.
    let cursor = text(&cursor)?.parse().ok()?;
    Some((cursor, array(found)?.into_iter().map(bytes).collect::<Option<_>>()?))
}
