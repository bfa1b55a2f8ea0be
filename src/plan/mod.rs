//! (front door of `plan`)
