//! (front door of `cutover`)
