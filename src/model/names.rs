//! The names of all resources in the cloud.

use crate::model::error::{Error, Result};
use crate::model::role::Role;

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
    /// Refuses names that AWS would not accept, before anything is made.
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

    /// Returns the name of the key pair, security group, role and instance profile.
    pub fn resource(&self) -> String {
        format!("infra-{}-{}", self.name, self.env)
    }

    /// Returns the Name tag of a host.
    pub fn host(&self, role: Role) -> String {
        format!("{}-{role}", self.resource())
    }

    /// Returns AWS's DNS name of a public IPv4 address. Source: EC2 User Guide.
    pub fn public_domain(&self, address: &str) -> Option<String> {
        let address: std::net::Ipv4Addr = address.parse().ok()?;
        let host = format!("ec2-{}", address.to_string().replace('.', "-"));
        Some(match (self.region.as_str(), self.partition()) {
            ("us-east-1", _) => format!("{host}.compute-1.amazonaws.com"),
            (region, "aws-cn") => format!("{host}.{region}.compute.amazonaws.com.cn"),
            (region, _) => format!("{host}.{region}.compute.amazonaws.com"),
        })
    }

    pub fn bucket(&self) -> &str {
        &self.bucket
    }

    /// Returns the path of the SSM parameters, with a slash at the end.
    pub fn parameters(&self) -> String {
        format!("/infra/{}/{}/", self.name, self.env)
    }

    /// Returns the folder of the environment's backups in the bucket, with a slash at the end.
    pub fn backups(&self) -> String {
        format!("backups/{}/", self.env)
    }

    /// Returns the folder of the environment's state in the bucket, with a slash at the end.
    pub fn state(&self) -> String {
        format!("state/{}/", self.env)
    }

    /// Returns the part of an ARN that differs between AWS proper, China and GovCloud.
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
    fn the_dns_name_of_an_address_is_the_one_that_aws_resolves() {
        let name = |region| {
            let names = Names::new("demo", "production", "123456789012", region).unwrap();
            names.public_domain("203.0.113.7").unwrap()
        };
        assert_eq!(name("us-east-1"), "ec2-203-0-113-7.compute-1.amazonaws.com");
        assert_eq!(name("eu-west-1"), "ec2-203-0-113-7.eu-west-1.compute.amazonaws.com");
        assert_eq!(
            name("cn-north-1"),
            "ec2-203-0-113-7.cn-north-1.compute.amazonaws.com.cn"
        );
    }

    #[test]
    fn a_bucket_name_that_s3_would_refuse_is_refused_with_the_length_that_fits() {
        let name = "a".repeat(32);
        let error = Names::new(&name, "production", "123456789012", "ap-southeast-1").unwrap_err();
        assert_eq!(error.kind(), crate::model::error::Kind::Usage);
        assert_eq!(error.next_step(), Some("shorten `name` in infra.yml to 29 characters"));
        assert!(Names::new(&name[..29], "production", "123456789012", "ap-southeast-1").is_ok());
    }
}
