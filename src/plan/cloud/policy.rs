//! Policy documents.

use crate::plan::names::Names;
use serde_json::{Value, json};

/// The name of the only policy that the hosts' role has.
pub const HOST_POLICY: &str = "backups";

/// Who may take the hosts' role: EC2 on behalf of an instance.
pub fn trust_policy(names: &Names) -> Value {
    let service = match names.partition() {
        "aws-cn" => "ec2.amazonaws.com.cn",
        _ => "ec2.amazonaws.com",
    };
    json!({
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Principal": {"Service": service}, "Action": "sts:AssumeRole"}],
    })
}

/// All that a host may do in AWS: put objects where its backups go. Not even read them.
pub fn backup_policy(names: &Names) -> Value {
    json!({
        "Version": "2012-10-17",
        "Statement": [{
            "Effect": "Allow",
            "Action": "s3:PutObject",
            "Resource": format!("arn:{}:s3:::{}/{}*", names.partition(), names.bucket(), names.backups()),
        }],
    })
}

/// The statement of the bucket's policy that refuses everything but https.
pub fn tls_only_policy(names: &Names) -> Value {
    let bucket = format!("arn:{}:s3:::{}", names.partition(), names.bucket());
    json!({
        "Sid": "InfraTlsOnly",
        "Effect": "Deny",
        "Principal": "*",
        "Action": "s3:*",
        "Resource": [&bucket, format!("{bucket}/*")],
        "Condition": {"Bool": {"aws:SecureTransport": "false"}},
    })
}
