//! The server's files: data, settings, who may log in, certificate and key.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result};

use super::process::server_user;
use super::{Options, SUPERUSER, run};
use crate::addon::{Tls, make_certificate};

/// Makes the data folder if there is none and writes the settings; returns the authority's certificate.
pub(super) fn write(options: &Options, port: u16) -> Result<Option<String>> {
    let folder = &options.folder;
    fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o700))
        .with_context(|| format!("close {}", folder.display()))?;
    own(folder)?;
    let data = folder.join("data");
    if !data.exists() {
        let shown = data.display().to_string();
        let encoding = ["--encoding", "UTF8", "--locale", "C.UTF-8"];
        let rest = ["--no-sync", "--auth", "trust", "-U", SUPERUSER, "-D", &shown];
        run("initdb", &[encoding.as_slice(), rest.as_slice()].concat(), folder)?;
    }
    let names: Vec<String> = options.listen.iter().map(ToString::to_string).collect();
    let shown = make_certificate(options.tls, &names, options.authority.as_ref())?;
    if let Some(shown) = &shown {
        write_owned(&data.join("tls.crt"), &shown.chain)?;
        write_owned(&data.join("tls.key"), &shown.key)?;
    }
    write_owned(&data.join("postgresql.conf"), &settings(options, port, &names))?;
    write_owned(&data.join("pg_hba.conf"), &logins(options))?;
    Ok(shown.and_then(|shown| shown.authority))
}

fn settings(options: &Options, port: u16, addresses: &[String]) -> String {
    let tls = if options.tls == Tls::Off {
        ""
    } else {
        "ssl = on\nssl_cert_file = 'tls.crt'\nssl_key_file = 'tls.key'\n"
    };
    let mut text = format!(
        "listen_addresses = '{}'\nport = {port}\nunix_socket_directories = '{}'\n{tls}\
         password_encryption = 'scram-sha-256'\nwal_level = logical\nmax_replication_slots = 8\n\
         shared_buffers = 32MB\nmax_connections = 60\nlog_min_messages = warning\nfsync = off\n",
        addresses.join(","),
        options.folder.display(),
    );
    for line in &options.settings {
        text += line;
        text.push('\n');
    }
    text
}

/// The superuser logs in on the socket in the folder alone, which only its owner and root can reach.
fn logins(options: &Options) -> String {
    let network = if options.tls == Tls::Off { "host" } else { "hostssl" };
    let user = &options.user;
    format!(
        "local all all trust\n{network} all \"{user}\" all scram-sha-256\n{network} replication \"{user}\" all scram-sha-256\n"
    )
}

/// Writes a file that only the server's user may read.
fn write_owned(path: &Path, text: &str) -> Result<()> {
    crate::files::write_private(path, text)?;
    own(path)
}

/// Gives a path to the user that the server runs as.
fn own(path: &Path) -> Result<()> {
    match server_user()? {
        Some(user) => nix::unistd::chown(path, Some(user.uid), Some(user.gid))
            .with_context(|| format!("give {} to PostgreSQL's user", path.display())),
        None => Ok(()),
    }
}
