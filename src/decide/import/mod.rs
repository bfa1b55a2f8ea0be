//! Rows of PostgreSQL as parts of keys of Redis: the mapping that `run`, `verify` and `follow` share.
//!
//! [`shape`] holds a table of `import.yml` against the real schema, once. [`mapping`] then turns each row
//! into an entry; [`template`] renders its key, [`value`] its values, with [`array`] and [`time`].
//! [`follow`] says how a table's changes are learnt after that. [`compare`] says how an entry differs from what Redis holds; [`estimate`] says what it takes there.

pub mod array;
pub mod compare;
pub mod estimate;
pub mod follow;
pub mod history;
pub mod mapping;
pub mod shape;
pub mod template;
pub mod time;
pub mod value;
