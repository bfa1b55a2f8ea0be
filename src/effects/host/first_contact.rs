//! First contact: we log in by the host key that we gave, and the host makes its own instead.
//!
//! Three steps, so that the tool may die between them: [`prepare`] makes and reports the key, the
//! caller stores it beside the old pin, [`activate`] shows it and drops the old one. Connect with
//! both pins until then. Both do nothing on a host that already shows its own key.

use super::templates;
use crate::effects::fault;
use crate::effects::remote::{HostKey, Session};
use crate::model::error::{Error, Result};
use std::time::Duration;

/// Time limit for cloud-init on a slow small instance, and a little more.
const PATIENCE: Duration = Duration::from_secs(11 * 60);

/// Settings of sshd that name the only key that the host shows.
pub const OWN_KEY: &str = "/etc/ssh/sshd_config.d/00-infra-host-key.conf";

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prepared {
    /// The key that the host made for itself.
    pub own_key: HostKey,
    /// True if new connections already see that key.
    pub active: bool,
    /// Warnings of a cloud-init that ended well.
    pub warnings: Vec<String>,
}

/// Waits for cloud-init, then makes the host's own key if it has none. Changes nothing visible.
pub async fn prepare(session: &Session) -> Result<Prepared> {
    let text = ask(session, "prepare").await?;
    let warnings = match text.lines().find_map(|line| line.strip_prefix("cloud-init ")) {
        Some(status) => {
            judge_cloud_init(status).map_err(|error| error.while_doing(format!("set up {}", session.label())))?
        }
        None => Vec::new(),
    };
    let (own_key, active) = read(&text)?;
    Ok(Prepared {
        own_key,
        active,
        warnings,
    })
}

/// Makes the host show only its own key. Store its pin before: the old key is then worthless.
pub async fn activate(session: &Session, prepared: &Prepared) -> Result<()> {
    let text = ask(session, "activate").await?;
    let (key, active) = read(&text)?;
    if key == prepared.own_key && active {
        return Ok(());
    }
    Err(Error::failed(format!(
        "let {} show its own host key: {}",
        session.label(),
        if active {
            "it shows another one than it made"
        } else {
            "it does not say that it does"
        }
    )))
}

async fn ask(session: &Session, action: &str) -> Result<String> {
    let doing = format!("{action} the own host key of {}", session.label());
    let script = format!("{}{action}\n", templates::FIRST_CONTACT);
    let asking = session.run_within("sudo -n bash -s", Some(script.as_bytes()), PATIENCE, |_| ());
    let answer = fault::around(&format!("{action} the host key of {}", session.label()), asking).await?;
    let output = answer.expect_success(&doing)?;
    let text = output.text();
    match text.lines().find_map(|line| line.strip_prefix("failed ")) {
        Some(failure) => Err(Error::failed(doing).because(failure.to_string())),
        None => Ok(text),
    }
}

fn read(text: &str) -> Result<(HostKey, bool)> {
    let key = text.lines().find_map(|line| line.strip_prefix("key "));
    let key = key.ok_or_else(|| Error::failed("read the host's own key: its answer has none"))?;
    Ok((key.parse()?, text.lines().any(|line| line == "active yes")))
}

/// Returns cloud-init's warnings. Errors and an unfinished run fail: "degraded" may be harmless.
fn judge_cloud_init(status: &str) -> Result<Vec<String>> {
    let hint = "see /var/log/cloud-init.log on the host";
    let value: serde_json::Value = serde_json::from_str(status).map_err(|error| {
        Error::failed("understand cloud-init's status")
            .because(error)
            .hint(hint)
    })?;
    let texts = |value: &serde_json::Value| -> Vec<String> {
        let list = value.as_array().map(Vec::as_slice).unwrap_or_default();
        list.iter().filter_map(|text| text.as_str().map(String::from)).collect()
    };
    let errors = texts(&value["errors"]);
    if !errors.is_empty() {
        return Err(Error::failed(format!("let cloud-init end well: {}", errors.join("; "))).hint(hint));
    }
    match value["status"].as_str() {
        Some("done" | "disabled") => {}
        found => {
            return Err(Error::failed(format!(
                "let cloud-init end: its status is {}",
                found.unwrap_or("missing")
            ))
            .hint(hint));
        }
    }
    let recoverable = value["recoverable_errors"].as_object();
    Ok(recoverable
        .into_iter()
        .flat_map(|kinds| kinds.values())
        .flat_map(texts)
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_answer_of_a_new_host_does_harm() {
        let line = crate::effects::remote::KeyPair::generate("a").unwrap().public;
        let answer = format!("key {line}\nactive yes\n");
        crate::fuzz::text(&[&answer], &["key ", "ssh-ed25519 ", "AAAA"], |input| drop(read(input)));
        let status = r#"{"status":"done","errors":["a"],"recoverable_errors":{"WARNING":["b"]}}"#;
        crate::fuzz::text(&[status], &["\"errors\":", "\"recoverable_errors\":"], |input| {
            drop(judge_cloud_init(input))
        });
    }

    #[test]
    fn a_degraded_cloud_init_without_errors_is_accepted() {
        let status = r#"{"status":"done","extended_status":"degraded done","errors":[],"recoverable_errors":{"WARNING":["a route is missing"]}}"#;
        assert_eq!(judge_cloud_init(status).unwrap(), ["a route is missing"]);
    }

    #[test]
    fn errors_of_cloud_init_are_reported() {
        let error = judge_cloud_init(r#"{"status":"error","errors":["no keys"]}"#).unwrap_err();
        assert!(error.to_string().contains("no keys"), "{error}");
        assert!(judge_cloud_init(r#"{"status":"running","errors":[]}"#).is_err());
    }
}
