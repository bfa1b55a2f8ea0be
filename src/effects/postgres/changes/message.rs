//! The messages of the log of changes, as values.

use std::fmt;
use std::sync::Arc;

/// A place in the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Lsn(pub u64);

impl fmt::Display for Lsn {
    /// Writes it as PostgreSQL does: `16/B374D848`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xffff_ffff)
    }
}

impl Lsn {
    /// Reads PostgreSQL's text of a place; `None` if it is none.
    pub fn parse(text: &str) -> Option<Self> {
        let (high, low) = text.split_once('/')?;
        let part = |digits: &str| u32::from_str_radix(digits, 16).ok();
        Some(Lsn(u64::from(part(high)?) << 32 | u64::from(part(low)?)))
    }
}

/// A table as it was when the changes after it were made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relation {
    pub id: u32,
    pub schema: String,
    pub name: String,
    pub columns: Vec<RelationColumn>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelationColumn {
    pub name: String,
    /// The type's number in the catalogue.
    pub type_id: u32,
    /// True if a change names the old row by it.
    pub identifies: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    Null,
    /// A large value that the change left as it was, and that the log therefore does not have.
    Unchanged,
    /// The text that PostgreSQL prints.
    Text(String),
}

/// The values of a row, in the order of the relation's columns.
pub type Tuple = Vec<Value>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    Insert {
        relation: Arc<Relation>,
        new: Tuple,
    },
    /// `old` is there if the columns that identify the row changed, or if the table logs whole rows.
    Update {
        relation: Arc<Relation>,
        old: Option<Tuple>,
        new: Tuple,
    },
    /// `old` has NULL in columns that do not identify the row, unless the table logs whole rows.
    Delete {
        relation: Arc<Relation>,
        old: Tuple,
    },
    Truncate {
        relations: Vec<Arc<Relation>>,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    Change(Change),
    /// The transaction of the changes before is complete: all up to this place can be confirmed.
    Committed(Lsn),
}
