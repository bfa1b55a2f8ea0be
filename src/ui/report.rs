//! The result of a command: one value, as JSON or as lines of text.

use super::{JSON_SCHEMA_VERSION, Ui};
use serde_json::{Value, json};

/// Returns the fields behind the version of the schema.
pub fn document(fields: Value) -> Value {
    let mut document = json!({"schema_version": JSON_SCHEMA_VERSION});
    if let (Value::Object(document), Value::Object(fields)) = (&mut document, fields) {
        document.extend(fields);
    }
    document
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

    /// Says what a command would do without `--dry-run`: a phrase such as "end i-1".
    pub fn would(&self, what: impl Into<String>) {
        let what = what.into();
        self.report(json!({ "would": what }), [format!("would {what}")]);
    }

    /// Shows what a command is about to do, before its report. With `--json` it goes to stderr, since
    /// a command prints one document.
    pub fn announce(&self, lines: impl IntoIterator<Item: AsRef<str>>) {
        for line in lines {
            if self.json() {
                self.note(line);
            } else {
                self.data(line);
            }
        }
    }
}
