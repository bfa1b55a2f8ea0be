//! Everything that is asked of AWS: EC2, S3, IAM, SSM and STS, as narrow functions that give our own types and never an SDK's.
//!
//! [`find`] looks at what stands, `plan::cloud` (pure) says what to change, [`apply`] changes it; [`teardown`] does the same for `down`. Nothing
//! here knows `infra.yml`, hosts or Redis, and nothing is kept on this computer: what exists is found by tag.

pub mod apply;
mod bucket;
mod connect;
pub mod describe;
pub mod ec2;
pub mod failure;
pub mod find;
pub mod iam;
pub mod own_address;
mod retention;
pub mod s3;
pub mod ssm;
pub mod teardown;
mod versions;

pub use connect::{Cloud, http_client};
