//! (front door of `redis`)
