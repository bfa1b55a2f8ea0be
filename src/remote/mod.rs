//! (front door of `remote`)
