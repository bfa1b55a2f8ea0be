//! Policy documents.

use crate::model::names::Names;
use serde_json::{Value, json};

/// The name of the only policy of the hosts' role.
pub const HOST_POLICY: &str = "backups";

/// Returns who may assume the hosts' role: EC2 for an instance.
pub fn trust_policy(names: &Names) -> Value {
    json!({
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Principal": {"Service": ec2_service(names)}, "Action": "sts:AssumeRole"}],
    })
}

/// Returns EC2's name as a service in policies.
pub fn ec2_service(names: &Names) -> &'static str {
    match names.partition() {
        "aws-cn" => "ec2.amazonaws.com.cn",
        _ => "ec2.amazonaws.com",
    }
}

/// Returns all rights of a host in AWS: it may put backups, not read them, and only in a bucket of
/// this account. Otherwise somebody could take the name of a removed bucket and get the backups.
pub fn backup_policy(names: &Names) -> Value {
    json!({
        "Version": "2012-10-17",
        "Statement": [{
            "Effect": "Allow",
            "Action": "s3:PutObject",
            "Resource": format!("arn:{}:s3:::{}/{}*", names.partition(), names.bucket(), names.backups()),
            "Condition": {"StringEquals": {"aws:ResourceAccount": names.account}},
        }],
    })
}

/// Returns our statements of the bucket's policy; with `tls_only` they refuse plain http.
pub fn bucket_statements(names: &Names, tls_only: bool) -> Vec<Value> {
    let tls_only = tls_only.then(|| tls_only_policy(names));
    tls_only.into_iter().chain([create_only_policy(names)]).collect()
}

/// Returns true if a statement of a bucket's policy is ours, also if somebody changed it.
pub fn is_bucket_statement(statement: &Value) -> bool {
    [TLS_ONLY, CREATE_ONLY].iter().any(|sid| statement["Sid"] == *sid)
}

const TLS_ONLY: &str = "InfraTlsOnly";
const CREATE_ONLY: &str = "InfraCreateOnly";

/// Refuses any call that could replace a backup's object. Parts of an upload are no objects yet, so
/// only its completion needs the condition. Source: S3 User Guide, on conditional writes.
fn create_only_policy(names: &Names) -> Value {
    json!({
        "Sid": CREATE_ONLY,
        "Effect": "Deny",
        "Principal": "*",
        "Action": "s3:PutObject",
        "Resource": format!("arn:{}:s3:::{}/backups/*", names.partition(), names.bucket()),
        "Condition": {"Null": {"s3:if-none-match": "true"}, "Bool": {"s3:ObjectCreationOperation": "true"}},
    })
}

/// Refuses everything but https.
fn tls_only_policy(names: &Names) -> Value {
    let bucket = format!("arn:{}:s3:::{}", names.partition(), names.bucket());
    json!({
        "Sid": TLS_ONLY,
        "Effect": "Deny",
        "Principal": "*",
        "Action": "s3:*",
        "Resource": [&bucket, format!("{bucket}/*")],
        "Condition": {"Bool": {"aws:SecureTransport": "false"}},
    })
}

/// Returns true if two policies, or parts of them, mean the same. AWS gives them back in another order, and a list of one as its element.
pub fn mean_the_same(one: &Value, other: &Value) -> bool {
    normal(one) == normal(other)
}

fn normal(value: &Value) -> Value {
    match value {
        Value::Array(elements) => {
            let mut elements: Vec<Value> = elements.iter().map(normal).collect();
            elements.sort_by_key(Value::to_string);
            elements.dedup();
            match <[Value; 1]>::try_from(elements) {
                Ok([only]) => only,
                Err(elements) => Value::Array(elements),
            }
        }
        Value::Object(fields) => fields
            .iter()
            .map(|(name, value)| (name.clone(), normal(value)))
            .collect(),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_are_compared_by_what_they_mean() {
        let ours = json!({"Statement": [{"Action": ["s3:Put", "s3:Get"], "Resource": "a"}, {"Action": "x"}]});
        let same = json!({"Statement": [{"Action": ["x"]}, {"Resource": ["a"], "Action": ["s3:Get", "s3:Put"]}]});
        let more = json!({"Statement": [{"Action": ["x"]}, {"Resource": ["a"], "Action": ["s3:Get"]}]});
        assert!(mean_the_same(&ours, &same));
        assert!(!mean_the_same(&ours, &more));
    }
}
