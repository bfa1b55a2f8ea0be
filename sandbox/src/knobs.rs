//! The knobs that `--knobs` turns: AWS, platform and machines as they answer now and then.
//!
//! Even with all knobs turned, a run ends as well as without them, only later.

use serde_json::{Value, json};

/// Knobs of the AWS API. S3 is throttled for less than the five seconds in which a lock is confirmed.
pub fn of_aws() -> Value {
    json!({
        "policies_reordered": true,
        "unseen_s": 5,
        "versions_settle_s": 120,
        "throttled": {"ec2": [25, 4], "iam": [25, 4], "ssm": [25, 4], "s3": [40, 2]},
    })
}

/// Knobs of the demo app. Its formation gets a type for each that sleeps or crashes.
pub fn of_platform() -> Value {
    json!({
        "asleep": [ASLEEP],
        "crashing": [CRASHING],
        "logs": {"late_seconds": 3, "endless": true},
    })
}

pub const ASLEEP: &str = "reports";
pub const CRASHING: &str = "legacy";
