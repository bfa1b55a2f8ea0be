//! The variables by which clients find the sandbox, for shells and for `sandbox run`.

use std::fs;

use anyhow::{Context, Result};

use crate::aws::{Operator, PORT, TLS_PORT};
use crate::files::write_private;
use crate::hosting::PLATFORM_PORT;
use crate::network::BRIDGE_ADDRESS;
use crate::paths::{Paths, STATE_VARIABLE};

/// The run's id, in the environment of every process that the sandbox starts.
pub const ID_VARIABLE: &str = "INFRA_SANDBOX_ID";
/// The region of the sandbox's app and machines.
const REGION: &str = "us-east-1";
/// Marks what people run against the sandbox as theirs: `down` spares it.
pub const OPERATOR_VARIABLE: &str = "INFRA_SANDBOX_OPERATOR";

/// The variable with the address of the platform, for its clients.
const PLATFORM_VARIABLE: &str = "HEROKU_API_URL";

/// Returns the platform's variable for a process in another network namespace.
pub fn platform_on_bridge() -> (String, String) {
    (
        PLATFORM_VARIABLE.to_owned(),
        format!("http://{BRIDGE_ADDRESS}:{PLATFORM_PORT}"),
    )
}

/// Writes the variables as lines for a shell.
pub fn write(paths: &Paths, id: &str, operator: &Operator, platform_key: &str) -> Result<()> {
    let state = paths.state().to_string_lossy();
    let endpoint = format!("http://{BRIDGE_ADDRESS}:{PORT}");
    // https, since policies that refuse plain http work here as on AWS.
    let s3_endpoint = format!("https://{BRIDGE_ADDRESS}:{TLS_PORT}");
    let trusted = paths.trusted();
    let trusted = trusted.to_string_lossy();
    let own_address = format!("{endpoint}/_hv/address");
    let variables = [
        ("AWS_ENDPOINT_URL", endpoint.as_str()),
        ("INFRA_CHECKIP_URL", own_address.as_str()),
        ("AWS_ENDPOINT_URL_S3", &s3_endpoint),
        ("SSL_CERT_FILE", trusted.as_ref()),
        // The name that clients built on botocore read.
        ("AWS_CA_BUNDLE", trusted.as_ref()),
        ("AWS_ACCESS_KEY_ID", &operator.access_key_id),
        ("AWS_SECRET_ACCESS_KEY", &operator.secret_access_key),
        ("AWS_REGION", REGION),
        // The name that clients built on botocore read.
        ("AWS_DEFAULT_REGION", REGION),
        ("AWS_EC2_METADATA_DISABLED", "true"),
        (PLATFORM_VARIABLE, "http://127.0.0.1:5000"),
        ("HEROKU_API_KEY", platform_key),
        (ID_VARIABLE, id),
        (STATE_VARIABLE, state.as_ref()),
        (OPERATOR_VARIABLE, "1"),
    ];
    let text: String = variables
        .iter()
        .map(|(name, value)| format!("export {name}='{value}'\n"))
        .collect();
    write_private(&paths.environment_file(), &text)
}

pub fn read(paths: &Paths) -> Result<Vec<(String, String)>> {
    let file = paths.environment_file();
    let text = fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
    Ok(parse(&text))
}

fn parse(text: &str) -> Vec<(String, String)> {
    let lines = text
        .lines()
        .filter_map(|line| line.strip_prefix("export ")?.split_once('='));
    lines
        .map(|(name, value)| (name.to_owned(), value.trim_matches('\'').to_owned()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_read_back_and_kept_private() {
        let folder = std::env::temp_dir().join(format!("sandbox-environment-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let paths = Paths::new(folder.clone(), folder.clone()).unwrap();
        let operator = Operator {
            access_key_id: "AKIA1".into(),
            secret_access_key: "a/b+c=d".into(),
        };
        write(&paths, "sb-1", &operator, "key").unwrap();
        let variables = read(&paths).unwrap();
        assert!(variables.contains(&("AWS_SECRET_ACCESS_KEY".into(), "a/b+c=d".into())));
        assert!(variables.contains(&(STATE_VARIABLE.into(), folder.to_string_lossy().into_owned())));
        let mode =
            std::os::unix::fs::PermissionsExt::mode(&fs::metadata(paths.environment_file()).unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600);
        fs::remove_dir_all(folder).unwrap();
    }
}
