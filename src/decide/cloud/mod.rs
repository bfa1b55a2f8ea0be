//! Decides what to change in the cloud, and which permissions that needs.

mod decide;
mod grant;
mod subnets;

#[cfg(test)]
mod tests;

pub use decide::plan;
pub use grant::{LONGEST_POLICY, Who, policy as operator_policy};
