//! What is wanted, what was found, what to do: decisions from values to values. No I/O, no clock.

pub mod preflight;
