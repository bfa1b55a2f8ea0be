//! (teardown)
