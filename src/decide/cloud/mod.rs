//! The changes between the cloud that is wanted and the one that was found, and what may be done by whom.

mod decide;
mod grant;
mod subnets;

#[cfg(test)]
mod tests;

pub use decide::plan;
pub use grant::{LONGEST_POLICY, Who, policy as operator_policy};
