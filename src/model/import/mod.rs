//! `import.yml`: which tables and queries of PostgreSQL become which keys of Redis, and the values
//! of both.

mod check;
mod column;
mod entry;
mod fields;
mod history;
mod read;

pub use column::{Column, ColumnKind, Relation, TimeKind};
pub use entry::{Entry, Held, Part, Row, Text};
pub use fields::{
    BoolForm, BytesForm, Encodings, Fields, Follow, KeyType, Limits, Mapping, NullForm, Origin, Place, Table, Target,
    TimeForm, Tolerances, Which,
};
pub use history::{History, Look, Watch};
