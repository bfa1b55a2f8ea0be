//! (front door of `platform`)
