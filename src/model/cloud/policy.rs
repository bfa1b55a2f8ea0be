//! Policy documents.

use crate::model::names::Names;
use serde_json::{Value, json};

/// The name of the only policy that the hosts' role has.
pub const HOST_POLICY: &str = "backups";

/// Who may take the hosts' role: EC2 on behalf of an instance.
pub fn trust_policy(names: &Names) -> Value {
    json!({
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Principal": {"Service": ec2_service(names)}, "Action": "sts:AssumeRole"}],
    })
}

/// EC2, as policies name services.
pub fn ec2_service(names: &Names) -> &'static str {
    match names.partition() {
        "aws-cn" => "ec2.amazonaws.com.cn",
        _ => "ec2.amazonaws.com",
    }
}

/// All that a host may do in AWS: put objects where its backups go. Not even read them. Only in a bucket of this account: were ours removed, whoever takes
/// its name would be sent the backups.
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

/// Our statements of the bucket's policy; they serve every environment of the bucket. `tls_only` where S3 is spoken over https.
pub fn bucket_statements(names: &Names, tls_only: bool) -> Vec<Value> {
    let tls_only = tls_only.then(|| tls_only_policy(names));
    tls_only.into_iter().chain([create_only_policy(names)]).collect()
}

/// Whether a statement of a bucket's policy is one of ours, as wanted or changed by somebody.
pub fn is_bucket_statement(statement: &Value) -> bool {
    [TLS_ONLY, CREATE_ONLY].iter().any(|sid| statement["Sid"] == *sid)
}

const TLS_ONLY: &str = "InfraTlsOnly";
const CREATE_ONLY: &str = "InfraCreateOnly";

/// Refuses to make a backup's object by any call that could put it in the place of another. The parts of an upload are no objects yet: what completes it must
/// carry the condition. After "Enforce conditional writes on Amazon S3 buckets" in the S3 User Guide.
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

/// Whether two policies, or parts of them, mean the same. AWS gives them back in another order, and a list of one as its element.
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
