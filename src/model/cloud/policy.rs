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
