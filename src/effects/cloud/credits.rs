//! Asks CloudWatch for the CPU credits of instances.
//!
//! It is one request, signed and sent here: the client of CloudWatch would bring ten more crates, and another form of
//! those that all clients of AWS share.

use super::Cloud;
use super::failure::{is_denied, refused};
use crate::effects::http;
use crate::model::cloud::{Balance, Permission};
use crate::model::error::{Doing, Error, Result};
use aws_sdk_s3::config::ProvideCredentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use aws_smithy_runtime_api::client::identity::Identity;
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

const TARGET: &str = "GraniteServiceVersion20100801.GetMetricData";
const CONTENT_TYPE: &str = "application/x-amz-json-1.0";
/// The name by which requests to CloudWatch are signed.
const SIGNING_NAME: &str = "monitoring";
/// EC2 reports credits once in five minutes.
const PERIOD_S: u64 = 300;
const PATIENCE: Duration = Duration::from_secs(10);
/// Two hosts have some kilobytes.
const LONGEST_ANSWER: usize = 1 << 20;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    #[serde(default)]
    metric_data_results: Vec<Series>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Series {
    id: String,
    /// Seconds since 1970.
    #[serde(default)]
    timestamps: Vec<f64>,
    #[serde(default)]
    values: Vec<f64>,
}

/// Returns the balances of these instances within the time before `now`, by instance. An instance of which CloudWatch
/// knows none has no entry. `None` if these credentials may not ask.
pub async fn cpu_credits(
    cloud: &Cloud,
    instances: &[String],
    now: Timestamp,
    before: SignedDuration,
) -> Result<Option<BTreeMap<String, Vec<Balance>>>> {
    let doing = || "ask CloudWatch for the CPU credits of the hosts".to_string();
    let body = question(instances, now, before).to_string();
    let (status, answer) = send(cloud, body).await.map_err(|error| error.while_doing(doing()))?;
    if status != 200 {
        let (code, message) = refusal(&answer);
        if is_denied(&code) {
            return Ok(None);
        }
        return Err(refused(Permission::GetMetricData, status, &code, &message, doing()));
    }
    let answer: Answer = serde_json::from_slice(&answer).doing(doing)?;
    Ok(Some(balances(instances, answer)))
}

fn question(instances: &[String], now: Timestamp, before: SignedDuration) -> Value {
    let query = |(number, instance): (usize, &String)| {
        json!({
            "Id": id(number),
            "MetricStat": {
                "Metric": {
                    "Namespace": "AWS/EC2",
                    "MetricName": "CPUCreditBalance",
                    "Dimensions": [{"Name": "InstanceId", "Value": instance}],
                },
                "Period": PERIOD_S,
                "Stat": "Average",
            },
        })
    };
    json!({
        "StartTime": (now - before).as_second(),
        "EndTime": now.as_second(),
        "MetricDataQueries": instances.iter().enumerate().map(query).collect::<Vec<_>>(),
    })
}

/// CloudWatch takes lower-case letters, digits and underscores.
fn id(number: usize) -> String {
    format!("host_{number}")
}

/// Returns status and body of the answer.
async fn send(cloud: &Cloud, body: String) -> Result<(u16, Vec<u8>)> {
    let doing = || "send the request".to_string();
    let endpoint = cloud.cloudwatch_endpoint();
    let credentials = cloud.credentials.provide_credentials().await.doing(doing)?;
    let identity: Identity = credentials.into();
    let parameters = v4::SigningParams::builder()
        .identity(&identity)
        .region(cloud.region())
        .name(SIGNING_NAME)
        .time(SystemTime::now())
        .settings(SigningSettings::default())
        .build()
        .doing(doing)?
        .into();
    let headers = [("content-type", CONTENT_TYPE), ("x-amz-target", TARGET)];
    let signable = SignableRequest::new(
        "POST",
        endpoint,
        headers.into_iter(),
        SignableBody::Bytes(body.as_bytes()),
    );
    let (signed, _) = sign(signable.doing(doing)?, &parameters).doing(doing)?.into_parts();
    let client = http::client(PATIENCE, PATIENCE, !cloud.is_emulated())?;
    let mut request = client.post(endpoint);
    for (name, value) in headers.into_iter().chain(signed.headers()) {
        request = request.header(name, value);
    }
    let sent = request.body(body).send().await;
    let response = sent.map_err(|error| {
        Error::failed(doing())
            .because(error)
            .hint(format!("check the network between this computer and {endpoint}"))
    })?;
    let status = response.status().as_u16();
    Ok((status, http::body(response, LONGEST_ANSWER).await?.to_vec()))
}

/// Returns AWS's code, without the namespace before it, and its message.
fn refusal(answer: &[u8]) -> (String, String) {
    let answer: Value = serde_json::from_slice(answer).unwrap_or_default();
    let text = |names: [&str; 2]| names.iter().find_map(|name| answer[*name].as_str()).unwrap_or_default();
    let code = text(["__type", "code"]);
    let code = code.rsplit('#').next().unwrap_or_default();
    (code.into(), text(["message", "Message"]).into())
}

fn balances(instances: &[String], answer: Answer) -> BTreeMap<String, Vec<Balance>> {
    let mut by_instance: BTreeMap<String, Vec<Balance>> = BTreeMap::new();
    for (number, instance) in instances.iter().enumerate() {
        let ours = answer
            .metric_data_results
            .iter()
            .filter(|series| series.id == id(number));
        let points = ours.flat_map(|series| series.timestamps.iter().zip(&series.values));
        let balances: Vec<Balance> = points
            .filter_map(|(at, credits)| {
                let at = Timestamp::from_second(*at as i64).ok()?;
                Some(Balance { at, credits: *credits })
            })
            .collect();
        if !balances.is_empty() {
            by_instance.insert(instance.clone(), balances);
        }
    }
    by_instance
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_instance_gets_its_own_balances_and_an_unknown_one_has_none() {
        let answer = json!({"MetricDataResults": [
            {"Id": "host_1", "Label": "x", "Timestamps": [1772366700.0, 1772366400.0], "Values": [12.5, 13.0]},
            {"Id": "host_0", "Label": "x", "Timestamps": [], "Values": []},
        ]});
        let instances = ["i-1".to_string(), "i-2".to_string()];
        let found = balances(&instances, serde_json::from_value(answer).unwrap());
        assert_eq!(found.keys().collect::<Vec<_>>(), ["i-2"]);
        let newest = found["i-2"][0];
        assert_eq!((newest.at.as_second(), newest.credits), (1_772_366_700, 12.5));
    }

    #[test]
    fn the_code_of_a_refusal_stands_behind_its_namespace() {
        let answer = br#"{"__type":"com.amazon.coral.service#ThrottlingException","message":"Rate exceeded"}"#;
        assert_eq!(refusal(answer), ("ThrottlingException".into(), "Rate exceeded".into()));
        assert_eq!(refusal(b"<html>"), (String::new(), String::new()));
    }
}
