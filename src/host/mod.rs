//! (front door of `host`)
