//! Reads replies of a known form. Another form means that the key changed its type, or a refusal.

use super::super::Connection;
use crate::model::error::{Error, Result};
use ::redis::{Pipeline, Value};
use wire::reply::{array, bytes, text_lossy};

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

/// The reply to a SCAN of any kind: the next cursor, and what was found.
pub(super) fn scanned(value: Value) -> Option<(u64, Vec<Vec<u8>>)> {
    let [cursor, found] = <[Value; 2]>::try_from(array(value)?).ok()?;
    // A cursor has all 64 bits.
    let cursor = text_lossy(&cursor)?.parse().ok()?;
    Some((cursor, array(found)?.into_iter().map(bytes).collect::<Option<_>>()?))
}
