//! A column of a table or query, as PostgreSQL's catalogue describes it.

/// A column and the kind of its values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    pub name: String,
    /// The name of its type, for people.
    pub type_name: String,
    pub kind: ColumnKind,
}

/// Says how the text of a value is read. A domain is its base type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ColumnKind {
    Integer,
    Float,
    Numeric,
    Bool,
    Time(TimeKind),
    Bytes,
    Json,
    /// Elements are separated by the character, which is `,` for all types but `box`.
    Array(Box<ColumnKind>, char),
    /// An enum, with its words.
    Enum,
    Uuid,
    /// Any other type whose text is the whole value, such as `text`, `inet` or `tsvector`.
    Text,
    /// A row of several columns, or a type that no table stores.
    Unsupported,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeKind {
    Date,
    /// Without a time zone; it is taken as UTC.
    Timestamp,
    TimestampTz,
}

impl ColumnKind {
    /// Returns true if a value's text has only ASCII letters, digits, `-`, `+` and `.`.
    pub fn is_plain(&self) -> bool {
        matches!(
            self,
            ColumnKind::Integer | ColumnKind::Float | ColumnKind::Numeric | ColumnKind::Bool | ColumnKind::Uuid
        )
    }
}

/// A table or query as the server describes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Relation {
    pub columns: Vec<Column>,
    /// Empty if there is none, as for a query.
    pub primary_key: Vec<String>,
    /// The columns of each unique index whose columns are never NULL; the primary key is one.
    pub unique: Vec<Vec<String>>,
    /// How many rows the planner expects.
    pub rows: u64,
    /// Bytes on disk, without indexes.
    pub bytes: u64,
}
