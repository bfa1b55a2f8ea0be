//! (front door of `cloud`)
