//! Tries the copy against real engines on loopback: what arrives, what goes, and what a source that
//! forbids much still lets through.

#![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

mod contents;
mod deletions;
mod effects;
mod faults;
mod hot;
mod interruptions;
mod large;
mod random;
mod relay;
mod rig;
mod streams;
mod strings;
mod templates;
mod values;
mod watching;
