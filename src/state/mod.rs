//! (front door of `state`)
