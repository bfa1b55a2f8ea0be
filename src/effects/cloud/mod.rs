//! Requests to AWS: EC2, S3, IAM, SSM and STS. Narrow functions return our own types, not an SDK's.
//!
//! [`find`] reads what exists, `plan::cloud` (pure) decides changes, [`apply`] makes them;
//! [`teardown`] does both for `down`. Nothing here knows Redis. Resources are found by tag.

pub mod apply;
mod bucket;
mod connect;
pub mod credits;
pub mod describe;
pub mod ec2;
pub mod failure;
pub mod find;
pub mod iam;
pub mod listing;
pub mod own_address;
mod patience;
mod retention;
pub mod s3;
mod signed;
pub mod ssm;
pub mod teardown;
mod versions;

pub use connect::{Cloud, http_client};
