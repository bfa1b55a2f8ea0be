//! One row of PostgreSQL, and the part of Redis that it stands for.

/// A value in PostgreSQL's text form, as COPY and pgoutput give it; `None` is NULL.
pub type Text = Option<String>;

/// The values of one row, in the order of the columns that were asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Row {
    pub values: Vec<Text>,
}

/// The key of one row, and what the row contributes to it.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    pub database: u32,
    pub key: Vec<u8>,
    pub part: Part,
    /// When the key ends, in milliseconds since 1970.
    pub expires_at: Option<i64>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Part {
    String(Vec<u8>),
    /// Fields with their values.
    Hash(Vec<(Vec<u8>, Vec<u8>)>),
    List(Vec<Vec<u8>>),
    /// Members: one of a scalar column, all of an array.
    Set(Vec<Vec<u8>>),
    /// Members with their scores.
    SortedSet(Vec<(Vec<u8>, f64)>),
}

impl Part {
    /// Returns the bytes of keys, fields, members and values.
    pub fn bytes(&self) -> usize {
        match self {
            Part::String(value) => value.len(),
            Part::Hash(fields) => fields.iter().map(|(field, value)| field.len() + value.len()).sum(),
            Part::List(items) | Part::Set(items) => items.iter().map(Vec::len).sum(),
            Part::SortedSet(members) => members.iter().map(|(member, _)| member.len() + 8).sum(),
        }
    }

    /// Returns true if the row says nothing: a list, a set or a hash that would be empty.
    pub fn is_empty(&self) -> bool {
        match self {
            Part::String(_) => false,
            Part::Hash(fields) => fields.is_empty(),
            Part::List(items) | Part::Set(items) => items.is_empty(),
            Part::SortedSet(members) => members.is_empty(),
        }
    }
}

/// The value of a key in Redis, as far as it was asked for.
#[derive(Clone, Debug, PartialEq)]
pub enum Held {
    Nothing,
    /// A value of the type that was asked for, and when it ends in milliseconds since 1970.
    Part(Part, Option<i64>),
    OtherType(String),
}
