//! What everything in the cloud is called.

use crate::error::{Error, Result};
use crate::state::Role;

/// AWS's limit for names of buckets.
const LONGEST_BUCKET: usize = 63;
/// AWS's limit for names of roles and instance profiles.
const LONGEST_ROLE: usize = 64;

/// The names of one environment in one account and region.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    pub name: String,
    pub env: String,
    pub account: String,
    pub region: String,
    bucket: String,
}

impl Names {
    /// Refuses names that AWS would not take, before anything is made.
    pub fn new(name: &str, env: &str, account: &str, region: &str) -> Result<Self> {
        let bucket = format!("infra-{name}-{account}-{region}");
        if bucket.len() > LONGEST_BUCKET {
            return Err(Error::usage(format!(
                "name the bucket: {bucket} has {} characters, and S3 allows {LONGEST_BUCKET}",
                bucket.len()
            ))
            .hint(format!(
                "shorten `name` in infra.yml to {} characters",
                (name.len() + LONGEST_BUCKET).saturating_sub(bucket.len())
            )));
        }
        let names = Names {
            name: name.to_string(),
            env: env.to_string(),
            account: account.to_string(),
            region: region.to_string(),
            bucket,
        };
        let resource = names.resource();
        if resource.len() > LONGEST_ROLE {
            return Err(Error::usage(format!(
                "name the IAM role: {resource} has {} characters, and IAM allows {LONGEST_ROLE}",
                resource.len()
            ))
            .hint("shorten `name` in infra.yml or the environment's name"));
        }
        Ok(names)
    }

    /// The key pair, security group, role and instance profile.
    pub fn resource(&self) -> String {
        format!("infra-{}-{}", self.name, self.env)
    }

    /// The Name tag of a host.
    pub fn host(&self, role: Role) -> String {
        format!("{}-{role}", self.resource())
    }

    pub fn bucket(&self) -> &str {
        &self.bucket
    }

    /// Where SSM parameters are kept, with a slash at the end.
    pub fn parameters(&self) -> String {
        format!("/infra/{}/{}/", self.name, self.env)
    }

    /// The folder of the environment's backups in the bucket, with a slash at the end.
    pub fn backups(&self) -> String {
        format!("backups/{}/", self.env)
    }

    /// The folder of the environment's state in the bucket, with a slash at the end.
    pub fn state(&self) -> String {
        format!("state/{}/", self.env)
    }

    /// The part of an ARN that differs between AWS proper, China and GovCloud.
    pub fn partition(&self) -> &'static str {
        if self.region.starts_with("cn-") {
            "aws-cn"
        } else if self.region.starts_with("us-gov-") {
            "aws-us-gov"
        } else {
            "aws"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_name_that_s3_would_refuse_is_refused_with_the_length_that_fits() {
        let name = "a".repeat(32);
        let error = Names::new(&name, "production", "123456789012", "ap-southeast-1").unwrap_err();
        assert_eq!(error.kind(), crate::error::Kind::Usage);
        assert_eq!(error.next_step(), Some("shorten `name` in infra.yml to 29 characters"));
        assert!(Names::new(&name[..29], "production", "123456789012", "ap-southeast-1").is_ok());
    }
}
