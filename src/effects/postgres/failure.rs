//! Explains errors of PostgreSQL, with what to try.

use crate::model::error::{Error, Kind};
use tokio_postgres::error::SqlState;

/// Explains an error of the server or of the connection. Details, which may quote values, are left
/// out.
pub(super) fn explain(doing: String, cause: tokio_postgres::Error) -> Error {
    let mut failed = Error::failed(doing);
    let Some(error) = cause.as_db_error() else {
        return failed
            .because(cause)
            .hint("the connection broke: see whether the server is up, and run the same command again, which goes on where it stopped");
    };
    let code = error.code();
    // Class 22: a text is no value of its type.
    if code.code().starts_with("22") {
        failed = failed.with_kind(Kind::Usage);
    }
    let hint = if *code == SqlState::INVALID_PASSWORD || *code == SqlState::INVALID_AUTHORIZATION_SPECIFICATION {
        "user name and password do not fit: see whether the provider changed them since"
    } else if *code == SqlState::INSUFFICIENT_PRIVILEGE {
        "the user of the URL may not read that: use one that may, or leave the table out of import.yml"
    } else if *code == SqlState::QUERY_CANCELED {
        "the statement took too long: raise `limits.statement_timeout` in import.yml"
    } else if *code == SqlState::TOO_MANY_CONNECTIONS {
        "the plan allows so many connections and no more: lower `limits.parallel` in import.yml"
    } else if *code == SqlState::LOCK_NOT_AVAILABLE {
        "somebody changes the schema of the table: run the same command again when that is done"
    } else if *code == SqlState::UNDEFINED_TABLE || *code == SqlState::UNDEFINED_COLUMN {
        "the schema is not the one that import.yml was checked against: run `infra import plan`"
    } else {
        "see what the server's log says"
    };
    failed
        .because(format!("{}: {} ({})", error.severity(), error.message(), code.code()))
        .hint(hint)
}
