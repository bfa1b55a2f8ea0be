//! Collects all secrets of a run and all places where somebody might read them, and searches the
//! places.
//!
//! Deliberately not here: the arguments of processes, which can only be caught in passing.

use crate::access;
use base64::Engine;
use infra::effects::cloud::s3::Bucket;
use std::collections::BTreeMap;
use tokio::runtime::Runtime;

/// The one secret that travels by user-data, until first contact.
const BOOTSTRAP: &str = "/bootstrap-host-key/";
const USER_DATA: &str = "user-data of ";
/// A search proves nothing unless it knew these secrets.
pub const MUST_BE_KNOWN: [&str; 6] = [
    "/infra/demo/production/ssh-key",
    "/infra/demo/production/ca-key",
    "/infra/demo/production/password/app",
    "/infra/demo/production/password/admin",
    "HEROKU_API_KEY",
    "AWS_SECRET_ACCESS_KEY",
];

/// The environment's own, by parameter; the operator's, by variable; those of every Redis that the app has a URL of, by var.
pub fn known(vars: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut known = Runtime::new().unwrap().block_on(secure_strings());
    let variables = access::variables();
    for name in ["HEROKU_API_KEY", "AWS_SECRET_ACCESS_KEY"] {
        known.insert(name.into(), variables[name].clone());
    }
    let urls = vars.iter().filter(|(_, value)| value.contains("://"));
    let passwords: Vec<_> = urls
        .map(|(var, url)| (format!("password in {var}"), password(url)))
        .collect();
    assert!(!passwords.is_empty(), "the app has no URL with a password");
    known.extend(passwords);
    known
}

fn password(url: &str) -> String {
    let login = url.split("://").nth(1).and_then(|rest| rest.split('@').next());
    login.and_then(|login| login.split(':').nth(1)).unwrap().to_string()
}

async fn secure_strings() -> BTreeMap<String, String> {
    let client = aws_sdk_ssm::Client::new(&access::config().await);
    let pages = client.get_parameters_by_path().path("/infra/demo/").recursive(true);
    let mut pages = pages.with_decryption(true).into_paginator().send();
    let mut found = BTreeMap::new();
    while let Some(page) = pages.next().await {
        let parameters = page.unwrap().parameters.unwrap_or_default();
        let secure = parameters
            .into_iter()
            .filter(|parameter| parameter.r#type == Some(aws_sdk_ssm::types::ParameterType::SecureString));
        found.extend(secure.map(|parameter| (parameter.name.unwrap(), parameter.value.unwrap())));
    }
    found
}

/// Returns what others may read beside the printed lines: every version of every object below `state/`, and what each machine was told.
pub fn places() -> BTreeMap<String, String> {
    let mut places = Runtime::new().unwrap().block_on(state_objects());
    let instances = access::instances();
    assert!(!instances.is_empty(), "there never was a machine");
    for instance in instances {
        let sent = instance["user_data"].as_str().unwrap();
        let told = base64::engine::general_purpose::STANDARD.decode(sent).unwrap();
        places.insert(
            format!("{USER_DATA}{}", instance["id"].as_str().unwrap()),
            String::from_utf8(told).unwrap(),
        );
    }
    places
}

async fn state_objects() -> BTreeMap<String, String> {
    let (config, (cloud, names)) = (access::config().await, access::environment().await);
    let s3 = aws_sdk_s3::config::Builder::from(&config)
        .force_path_style(true)
        .build();
    let client = aws_sdk_s3::Client::from_conf(s3);
    let bucket = Bucket::new(&cloud, names.bucket());
    let mut objects = BTreeMap::new();
    for version in bucket.versions("state/").await.unwrap() {
        let get = client
            .get_object()
            .bucket(bucket.name())
            .key(&version.key)
            .version_id(&version.id);
        // A delete marker has no content.
        let Ok(object) = get.send().await else { continue };
        let body = object.body.collect().await.unwrap().into_bytes();
        objects.insert(
            format!("{} (version {})", version.key, version.id),
            String::from_utf8(body.to_vec()).unwrap(),
        );
    }
    objects
}

/// Returns the secrets that were found, each with its place.
pub fn shown(known: &BTreeMap<String, String>, places: &BTreeMap<String, String>) -> Vec<String> {
    let mut shown = Vec::new();
    for (place, text) in places {
        let is_user_data = place.starts_with(USER_DATA);
        for (name, secret) in known {
            let is_exempt = is_user_data && name.contains(BOOTSTRAP);
            if !is_exempt && traces(secret).iter().any(|trace| text.contains(trace)) {
                shown.push(format!("{name} stands in {place}"));
            }
        }
        if !is_user_data && text.contains("PRIVATE KEY") {
            shown.push(format!("a private key stands in {place}"));
        }
    }
    shown
}

/// Returns the parts that give a secret away, however it is indented, quoted or broken into lines. Of a key these are its full lines, but for those that are the same in
/// every key: the armour, and the beginning of OpenSSH's form.
pub fn traces(secret: &str) -> Vec<&str> {
    let lines: Vec<&str> = secret.lines().map(str::trim).collect();
    let shortest = if lines.len() > 1 { 48 } else { 8 };
    let telling =
        |line: &&str| line.len() >= shortest && !line.starts_with("-----") && !line.starts_with("b3BlbnNzaC1rZXktdjE");
    let traces: Vec<&str> = lines.into_iter().filter(telling).collect();
    assert!(!traces.is_empty(), "a secret that nothing would give away");
    traces
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tests the search: it finds a secret in every form that it may take, and nothing else.
    #[test]
    fn a_secret_is_found_in_every_form_and_the_bootstrap_key_only_excused_where_it_belongs() {
        let key = |comment| {
            infra::effects::remote::KeyPair::generate(comment)
                .unwrap()
                .private
                .expose()
                .to_string()
        };
        let (operator, bootstrap) = (key("infra"), key("infra-bootstrap"));
        let known = BTreeMap::from([
            ("/infra/demo/production/ssh-key".to_string(), operator.clone()),
            (format!("/infra/demo/production{BOOTSTRAP}master"), bootstrap.clone()),
            ("HEROKU_API_KEY".to_string(), "0123456789abcdef".to_string()),
        ]);
        let in_place = |place: &str, text: String| shown(&known, &BTreeMap::from([(place.to_string(), text)]));
        let indented = |key: &str| key.replace('\n', "\n    ");

        assert_eq!(in_place("what was printed", "all is well".into()), [] as [&str; 0]);
        assert_eq!(in_place("user-data of i-1", indented(&bootstrap)), [] as [&str; 0]);
        assert_eq!(in_place("user-data of i-1", indented(&operator)).len(), 1);
        // The key is found by its own lines, and by its header.
        assert_eq!(in_place("what was printed", indented(&bootstrap)).len(), 2);
        assert_eq!(
            in_place("state.json", serde_json::json!({ "key": operator }).to_string()).len(),
            2
        );
        assert_eq!(
            in_place("the inventory", "bearer 0123456789abcdef".into()),
            ["HEROKU_API_KEY stands in the inventory"]
        );
    }
}
