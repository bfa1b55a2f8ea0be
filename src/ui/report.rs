//! The result of a command: one value, as JSON or as lines of text.

use super::{JSON_SCHEMA_VERSION, Ui};
use serde_json::Value;

/// Returns the fields with the version of the schema.
pub fn document(mut fields: Value) -> Value {
    fields["schema_version"] = JSON_SCHEMA_VERSION.into();
    fields
}

impl Ui {
    /// Prints a command's result on stdout: its fields as one JSON document, with the version of
    /// the schema, if `--json` was given; else the lines.
    pub fn report(&self, fields: Value, lines: impl IntoIterator<Item: AsRef<str>>) {
        if self.json() {
            self.data(document(fields).to_string());
            return;
        }
        for line in lines {
            self.data(line);
        }
    }
}
