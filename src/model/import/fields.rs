//! The fields of `import.yml`; `docs/import.md` describes each.

use crate::model::values::{Bytes, Pin, Span};
use serde::de::{self, Deserialize, Deserializer, Unexpected, Visitor};
use std::collections::BTreeMap;
use std::fmt;

#[derive(Clone, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mapping {
    pub source: Origin,
    pub target: Target,
    #[serde(default)]
    pub limits: Limits,
    /// How values are written where a table or column does not say it.
    #[serde(default)]
    pub encode: Encodings,
    #[serde(default)]
    pub tolerate: Tolerances,
    #[serde(default)]
    pub follow: Follow,
    pub tables: Vec<Table>,
}

/// The database that is read.
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Origin {
    /// The app's config var that holds the URL.
    pub config_var: Option<String>,
    /// Instead: the environment variable of `infra` itself that holds the URL.
    pub url_env: Option<String>,
    /// Instead of an authority of the system's store: the digest of the server's certificate.
    pub tls_pin: Option<Pin>,
}

/// The Redis that is written.
#[derive(Clone, Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Target {
    pub redis: Option<Which>,
    /// Instead: the environment variable of `infra` itself that holds the URL.
    pub url_env: Option<String>,
    pub tls_pin: Option<Pin>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Which {
    /// The source of `infra.yml`: the Redis that the app uses before it moves.
    Hosted,
    /// The master of the pair.
    Master,
}

/// Limits on what an import may cost the database.
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Ranges that are read at the same time; each needs two connections.
    pub parallel: u32,
    pub statement_timeout: Span,
    /// At most so many rows a second are read, over all ranges.
    pub rows_per_s: RowRate,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            parallel: 2,
            statement_timeout: Span(std::time::Duration::from_secs(60)),
            rows_per_s: RowRate::default(),
        }
    }
}

/// A number of rows a second, or `unlimited`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowRate(pub Option<u32>);

/// A small part of what a database does for it, so that the app does not notice.
impl Default for RowRate {
    fn default() -> Self {
        RowRate(Some(50_000))
    }
}

impl<'de> Deserialize<'de> for RowRate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;
        impl Visitor<'_> for Read {
            type Value = RowRate;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of rows a second, or `unlimited`")
            }

            fn visit_u64<E: de::Error>(self, rows: u64) -> Result<RowRate, E> {
                let known = u32::try_from(rows).ok().filter(|rows| *rows > 0);
                let wrong = || E::invalid_value(Unexpected::Unsigned(rows), &self);
                known.map(|rows| RowRate(Some(rows))).ok_or_else(wrong)
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<RowRate, E> {
                match text {
                    "unlimited" => Ok(RowRate(None)),
                    _ => Err(E::invalid_value(Unexpected::Str(text), &self)),
                }
            }
        }
        deserializer.deserialize_any(Read)
    }
}

/// How changes are followed after the import.
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Follow {
    /// How long a transaction may be open that sets a column that grows, before it commits.
    pub lookback: Span,
    /// The slot is dropped before the source keeps more of its log for it.
    pub max_log: Bytes,
}

impl Default for Follow {
    fn default() -> Self {
        Follow {
            lookback: Span(std::time::Duration::from_secs(300)),
            max_log: Bytes(1 << 30),
        }
    }
}

/// A table or query, and the keys that its rows become.
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Table {
    /// A table or view, with its schema if that is not `public`.
    pub table: Option<String>,
    /// Instead: a SELECT.
    pub query: Option<String>,
    /// A name for a query in output.
    pub name: Option<String>,
    /// The columns that tell one row from the others.
    ///
    /// Default: the primary key.
    #[serde(default)]
    pub key_columns: Vec<String>,
    /// The template of the key, such as `marker:{{ user_id }}`.
    pub key: String,
    /// The pattern of its keys, if the template is calculated: `verify` finds keys without a row by
    /// it.
    pub keys: Option<String>,
    #[serde(rename = "type")]
    pub kind: KeyType,
    /// The column of the value, of the member, or of the list's or set's elements if it is an
    /// array.
    pub value: Option<String>,
    /// The fields of a hash or of a JSON object: columns, or names with their columns.
    ///
    /// Default: all columns.
    pub fields: Option<Fields>,
    /// The column of a sorted set's score.
    pub score: Option<String>,
    /// The column that says when the key ends.
    pub expires_at: Option<String>,
    /// The column that grows with each change, such as `updated_at`, by which the table is followed.
    ///
    /// Default: the log of changes, where the server allows it.
    pub grows: Option<String>,
    /// Read it in ranges of its key columns, which an index makes cheap; needed for a query or view.
    ///
    /// Default: a table is, if a unique index has these columns.
    #[serde(default)]
    pub ranges: bool,
    #[serde(default)]
    pub database: u32,
    #[serde(default)]
    pub encode: Encodings,
    /// Encodings of single columns.
    #[serde(default)]
    pub columns: BTreeMap<String, Encodings>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyType {
    String,
    Hash,
    List,
    Set,
    SortedSet,
    /// A JSON object in a string.
    Json,
}

#[derive(Clone, Debug, serde::Deserialize)]
#[serde(untagged)]
pub enum Fields {
    Columns(Vec<String>),
    Named(BTreeMap<String, String>),
}

/// How values are written. What is not given is as in the next outer place.
#[derive(Clone, Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Encodings {
    pub null: Option<NullForm>,
    /// The word for NULL with `null: word`.
    pub null_word: Option<String>,
    pub time: Option<TimeForm>,
    pub bytes: Option<BytesForm>,
    pub bool: Option<BoolForm>,
}

impl Encodings {
    /// Returns these, completed by those of the next outer place.
    #[must_use]
    pub fn or(&self, outer: &Encodings) -> Encodings {
        Encodings {
            null: self.null.or(outer.null),
            null_word: self.null_word.clone().or_else(|| outer.null_word.clone()),
            time: self.time.or(outer.time),
            bytes: self.bytes.or(outer.bytes),
            bool: self.bool.or(outer.bool),
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NullForm {
    /// No field, no member or no key.
    #[default]
    Absent,
    Empty,
    Word,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TimeForm {
    /// Such as `2026-01-31T10:15:00.5Z`.
    #[default]
    Iso8601,
    /// As PostgreSQL prints it, such as `2026-01-31 10:15:00.5+00`.
    Postgres,
    /// Since 1970, rounded down.
    Seconds,
    /// Since 1970, rounded down.
    Milliseconds,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BytesForm {
    /// The bytes themselves; in JSON, Base64.
    #[default]
    Raw,
    Hex,
    Base64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BoolForm {
    /// `true` and `false`.
    #[default]
    Words,
    /// `1` and `0`.
    Digits,
    /// `t` and `f`.
    Letters,
}

/// Differences that `verify` takes for equal. Without a value nothing is tolerated.
#[derive(Clone, Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Tolerances {
    /// The largest difference of a score, and of a value of a float column.
    pub float: Option<f64>,
    /// The largest difference of an expiry.
    pub time: Option<Span>,
}

/// Where a table's rows come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    Table { schema: String, name: String },
    Query(String),
}

impl Table {
    pub fn place(&self) -> Place {
        match (&self.table, &self.query) {
            (Some(table), _) => {
                let (schema, name) = table.split_once('.').unwrap_or(("public", table));
                Place::Table {
                    schema: schema.into(),
                    name: name.into(),
                }
            }
            (None, query) => Place::Query(query.clone().unwrap_or_default()),
        }
    }

    /// Returns the name for people.
    pub fn label(&self) -> &str {
        let named = self.name.as_deref().or(self.table.as_deref());
        named.unwrap_or("query")
    }

    /// Returns the encodings of a column.
    pub fn encodings(&self, column: &str, outer: &Encodings) -> Encodings {
        let inner = self.encode.or(outer);
        match self.columns.get(column) {
            Some(own) => own.or(&inner),
            None => inner,
        }
    }
}
