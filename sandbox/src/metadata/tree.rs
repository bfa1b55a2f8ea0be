//! An instance's metadata as a tree of paths. Pure.
//!
//! Source of the names: the EC2 user guide's list of instance metadata categories.

use std::collections::BTreeMap;

use base64::Engine;

use crate::aws::Instance;

#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    Text(String),
    Bytes(Vec<u8>),
    /// The credentials of the instance's role, fresh at each question.
    RoleCredentials,
    NotFound,
}

/// Versions that may stand in front of a path; all answer alike.
const VERSIONS: [&str; 8] = [
    "1.0",
    "2009-04-04",
    "2014-11-05",
    "2016-09-02",
    "2018-09-24",
    "2020-10-27",
    "2021-03-23",
    "latest",
];

/// Looks a path up. The answer to a folder lists its entries, folders with a slash at the end.
pub fn lookup(path: &str, instance: &Instance, launched: jiff::Timestamp) -> Answer {
    let path = path.trim_start_matches('/');
    if path.is_empty() {
        return Answer::Text(VERSIONS.join("\n"));
    }
    let (version, rest) = path.split_once('/').unwrap_or((path, ""));
    if !VERSIONS.contains(&version) {
        return Answer::NotFound;
    }
    let name = rest.trim_end_matches('/');
    if name == "user-data" {
        return user_data(instance);
    }
    if let Some(role) = name.strip_prefix("meta-data/iam/security-credentials/") {
        return if instance.role.as_deref() == Some(role) {
            Answer::RoleCredentials
        } else {
            Answer::NotFound
        };
    }
    let leaves = leaves(instance, launched);
    if name == "meta-data/public-keys" && instance.public_key.is_some() {
        return Answer::Text(format!("0={}", instance.key_name.as_deref().unwrap_or("key")));
    }
    leaves
        .get(name)
        .map_or_else(|| listing(name, &leaves), |text| Answer::Text(text.clone()))
}

fn user_data(instance: &Instance) -> Answer {
    let encoded: String = instance
        .user_data
        .as_deref()
        .unwrap_or_default()
        .split_whitespace()
        .collect();
    if encoded.is_empty() {
        return Answer::NotFound;
    }
    match base64::engine::general_purpose::STANDARD.decode(&encoded) {
        Ok(bytes) => Answer::Bytes(bytes),
        Err(_) => Answer::NotFound,
    }
}

/// Returns every path with a value, without the version in front.
fn leaves(instance: &Instance, launched: jiff::Timestamp) -> BTreeMap<String, String> {
    let private = instance.private_ip.clone().unwrap_or_default();
    let host = format!("ip-{}.ec2.internal", private.replace('.', "-"));
    let mac = instance.mac.clone().unwrap_or_default();
    let interface = format!("network/interfaces/macs/{mac}");
    let metadata = [
        ("ami-id", Some(instance.image.clone())),
        ("ami-launch-index", Some("0".into())),
        ("ami-manifest-path", Some("(unknown)".into())),
        ("hostname", Some(host.clone())),
        ("iam/info", iam_info(instance, launched)),
        ("iam/security-credentials/", instance.role.clone()),
        ("instance-action", Some("none".into())),
        ("instance-id", Some(instance.id.clone())),
        ("instance-life-cycle", Some("on-demand".into())),
        ("instance-type", Some(instance.instance_type.clone())),
        ("local-hostname", Some(host.clone())),
        ("local-ipv4", instance.private_ip.clone()),
        ("mac", instance.mac.clone()),
        ("placement/availability-zone", Some(instance.zone.clone())),
        ("placement/region", Some(instance.region.clone())),
        ("public-ipv4", instance.public_ip.clone()),
        ("public-keys/0/openssh-key", instance.public_key.clone()),
        ("reservation-id", Some(instance.id.replacen("i-", "r-", 1))),
        ("services/domain", Some("amazonaws.com".into())),
        ("services/partition", Some("aws".into())),
    ];
    let of_interface = [
        ("device-number", Some("0".into())),
        ("local-hostname", Some(host)),
        ("local-ipv4s", instance.private_ip.clone()),
        ("mac", instance.mac.clone()),
        ("owner-id", Some(instance.account.clone())),
        ("public-ipv4s", instance.public_ip.clone()),
        ("vpc-ipv4-cidr-block", Some(crate::network::NETWORK.to_owned())),
    ];
    let metadata = metadata
        .into_iter()
        .map(|(name, value)| (format!("meta-data/{name}"), value));
    let of_interface = of_interface
        .into_iter()
        .map(|(name, value)| (format!("meta-data/{interface}/{name}"), value));
    let document = (
        "dynamic/instance-identity/document".to_owned(),
        Some(identity_document(instance, launched)),
    );
    metadata
        .chain(of_interface)
        .chain([document])
        .filter_map(|(name, value)| Some((name.trim_end_matches('/').to_owned(), value?)))
        .collect()
}

fn iam_info(instance: &Instance, launched: jiff::Timestamp) -> Option<String> {
    let arn = instance.profile_arn.as_deref()?;
    let info = serde_json::json!({
        "Code": "Success", "LastUpdated": whole_seconds(launched), "InstanceProfileArn": arn,
        "InstanceProfileId": "AIPASANDBOX",
    });
    serde_json::to_string_pretty(&info).ok()
}

fn identity_document(instance: &Instance, launched: jiff::Timestamp) -> String {
    let architecture = if std::env::consts::ARCH == "aarch64" {
        "arm64"
    } else {
        std::env::consts::ARCH
    };
    let document = serde_json::json!({
        "accountId": instance.account, "architecture": architecture, "availabilityZone": instance.zone,
        "billingProducts": null, "devpayProductCodes": null, "marketplaceProductCodes": null, "imageId": instance.image,
        "instanceId": instance.id, "instanceType": instance.instance_type, "kernelId": null,
        "pendingTime": whole_seconds(launched), "privateIp": instance.private_ip, "ramdiskId": null,
        "region": instance.region, "version": "2017-09-30",
    });
    serde_json::to_string_pretty(&document).unwrap_or_default()
}

fn whole_seconds(time: jiff::Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Returns what is directly below `folder`, each once.
fn listing(folder: &str, leaves: &BTreeMap<String, String>) -> Answer {
    let prefix = if folder.is_empty() {
        String::new()
    } else {
        format!("{folder}/")
    };
    let mut names: Vec<String> = Vec::new();
    for rest in leaves.keys().filter_map(|path| path.strip_prefix(&prefix)) {
        let name = match rest.split_once('/') {
            Some((first, _)) => format!("{first}/"),
            // The role's name is a value, and a folder for clients that walk the tree.
            None if rest == "security-credentials" => format!("{rest}/"),
            None => rest.to_owned(),
        };
        if names.last() != Some(&name) {
            names.push(name);
        }
    }
    if names.is_empty() {
        Answer::NotFound
    } else {
        Answer::Text(names.join("\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instance() -> Instance {
        serde_json::from_value(serde_json::json!({
            "id": "i-0123456789abcdef0", "state": "pending", "boot_count_wanted": 1, "region": "us-east-1",
            "zone": "us-east-1a", "type": "t3.micro", "image": "ami-1", "mac": "0a:00:00:00:00:01",
            "private_ip": "10.77.16.4", "addresses": [], "public_ip": null, "user_data": "I2Nsb3VkLWNvbmZpZwo=",
            "key_name": "pair", "public_key": "ssh-ed25519 AAAA", "role": "backup", "profile_arn": "arn:aws:iam::1:x",
            "ingress": [], "tags": {}, "account": "123456789012",
        }))
        .unwrap()
    }

    fn ask(path: &str) -> Answer {
        lookup(path, &instance(), jiff::Timestamp::UNIX_EPOCH)
    }

    fn text(path: &str) -> String {
        match ask(path) {
            Answer::Text(text) => text,
            other => panic!("{path}: {other:?}"),
        }
    }

    #[test]
    fn folders_list_what_is_in_them() {
        assert_eq!(text("/latest/meta-data/placement/"), "availability-zone\nregion");
        assert!(text("/latest/meta-data/").lines().any(|line| line == "iam/"));
        assert_eq!(text("/latest/meta-data/iam/"), "info\nsecurity-credentials/");
        assert_eq!(text("/latest/meta-data/public-keys/"), "0=pair");
        assert_eq!(text("/latest/meta-data/network/interfaces/macs/"), "0a:00:00:00:00:01/");
    }

    #[test]
    fn a_path_has_a_value_or_is_not_found() {
        assert_eq!(text("/2021-03-23/meta-data/instance-id"), "i-0123456789abcdef0");
        assert_eq!(text("/latest/meta-data/iam/security-credentials/"), "backup");
        assert_eq!(
            ask("/latest/meta-data/iam/security-credentials/backup"),
            Answer::RoleCredentials
        );
        assert_eq!(
            ask("/latest/meta-data/iam/security-credentials/other"),
            Answer::NotFound
        );
        assert_eq!(ask("/latest/user-data"), Answer::Bytes(b"#cloud-config\n".to_vec()));
        assert_eq!(ask("/latest/meta-data/public-ipv4"), Answer::NotFound);
        assert_eq!(ask("/1999-01-01/meta-data/"), Answer::NotFound);
        assert_eq!(ask("/latest/meta-data/no-such"), Answer::NotFound);
    }

    #[test]
    fn without_user_data_there_is_no_such_path() {
        let instance = Instance {
            user_data: Some(String::new()),
            ..instance()
        };
        assert_eq!(
            lookup("/latest/user-data", &instance, jiff::Timestamp::UNIX_EPOCH),
            Answer::NotFound
        );
    }

    #[test]
    fn the_identity_document_names_the_region() {
        let document: serde_json::Value =
            serde_json::from_str(&text("/latest/dynamic/instance-identity/document")).unwrap();
        assert_eq!(document["region"], "us-east-1");
        assert_eq!(document["pendingTime"], "1970-01-01T00:00:00Z");
    }
}
