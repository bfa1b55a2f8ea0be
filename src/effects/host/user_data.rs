//! Renders user-data of a new instance: the host key for first contact, and little else. Pure.

use super::lockdown::SSH_SETTINGS;
use super::templates;
use crate::effects::remote::KeyPair;
use crate::model::error::Result;
use crate::model::secret::Secret;
use serde::Serialize;

/// Returns cloud-config with the host key `bootstrap` and logins by key only. That key is the only
/// secret in user-data, and is used once; see [`super::first_contact`].
pub fn render(hostname: &str, bootstrap: &KeyPair) -> Result<Secret> {
    #[derive(Serialize)]
    struct Values<'a> {
        hostname: &'a str,
        private_key: String,
        public_key: &'a str,
        ssh_settings_file: &'a str,
        ssh_settings: String,
    }
    let indented = |text: &str, by: &str| -> String {
        let lines: Vec<String> = text.lines().map(|line| format!("{by}{line}")).collect();
        lines.join("\n")
    };
    let values = Values {
        hostname,
        private_key: indented(bootstrap.private.expose(), "    "),
        public_key: bootstrap.public.trim(),
        ssh_settings_file: SSH_SETTINGS,
        ssh_settings: indented(templates::SSH, "      "),
    };
    templates::render("user-data", templates::CLOUD_CONFIG, &values).map(Secret::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bootstrap_key_is_read_back_from_the_yaml_unchanged() {
        let pair = KeyPair::generate("infra-bootstrap").unwrap();
        let text = render("infra-demo-production-master", &pair).unwrap();
        assert!(text.expose().starts_with("#cloud-config\n"));
        let yaml: serde_yaml::Value = serde_yaml::from_str(text.expose()).unwrap();
        assert_eq!(
            yaml["ssh_keys"]["ed25519_private"].as_str(),
            Some(pair.private.expose())
        );
        assert_eq!(yaml["ssh_keys"]["ed25519_public"].as_str(), Some(pair.public.as_str()));
        // The file is in force before sshd first starts, and is the same that `up` writes.
        assert_eq!(yaml["write_files"][0]["path"].as_str(), Some(SSH_SETTINGS));
        assert_eq!(yaml["write_files"][0]["content"].as_str(), Some(templates::SSH));
        assert_eq!(yaml["hostname"].as_str(), Some("infra-demo-production-master"));
    }
}
