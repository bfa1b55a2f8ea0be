//! The files of the add-on: configuration, certificate and key, for its owner's eyes only.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use super::{Options, Profile};

pub(super) struct Prepared {
    pub configuration: PathBuf,
    pub certificate: Option<String>,
}

pub(super) fn write(folder: &Path, port: u16, options: &Options) -> Result<Prepared> {
    let data = folder.join("data");
    let mut builder = fs::DirBuilder::new();
    builder
        .recursive(true)
        .mode(0o700)
        .create(&data)
        .with_context(|| format!("create {}", data.display()))?;

    let certificate = if options.tls {
        let names: Vec<String> = options.listen.iter().map(ToString::to_string).collect();
        let own = rcgen::generate_simple_self_signed(names).context("make the hosted Redis's certificate")?;
        write_secretly(&folder.join("tls.crt"), &own.cert.pem())?;
        write_secretly(&folder.join("tls.key"), &own.signing_key.serialize_pem())?;
        Some(own.cert.pem())
    } else {
        None
    };
    let configuration = folder.join("redis.conf");
    write_secretly(&configuration, &configuration_text(folder, port, options))?;
    Ok(Prepared {
        configuration,
        certificate,
    })
}

fn configuration_text(folder: &Path, port: u16, options: &Options) -> String {
    let folder = folder.display();
    let addresses: Vec<String> = options.listen.iter().map(ToString::to_string).collect();
    let doors = if options.tls {
        format!(
            "port 0\ntls-port {port}\ntls-auth-clients no\ntls-cert-file \"{folder}/tls.crt\"\n\
             tls-key-file \"{folder}/tls.key\"\n"
        )
    } else {
        format!("port {port}\n")
    };
    let persistence = if options.persistent {
        "appendonly yes\nappendfsync everysec\n"
    } else {
        "appendonly no\n"
    };
    let maxmemory = options
        .maxmemory
        .map(|bytes| format!("maxmemory {bytes}\n"))
        .unwrap_or_default();
    format!(
        "bind {}\n{doors}dir \"{folder}/data\"\ndaemonize no\nsave \"\"\n{persistence}{maxmemory}\
         maxmemory-policy noeviction\ntimeout 300\nrepl-diskless-sync yes\nrepl-diskless-sync-delay 0\n\
         repl-backlog-size 16mb\nuser default on #{} ~* &* {}\n",
        addresses.join(" "),
        password_hash(&options.password),
        rules(options.profile),
    )
}

/// What the renter may run, as Redis's ACL rules.
fn rules(profile: Profile) -> String {
    let kept_by_the_host = "+@all -config -debug -shutdown -replicaof -slaveof -failover -acl -module";
    match profile {
        Profile::Default => kept_by_the_host.to_owned(),
        Profile::NoPause => format!("{kept_by_the_host} -client|pause -client|unpause"),
        Profile::NoReplication => format!("{kept_by_the_host} -psync -sync -replconf"),
    }
}

/// Redis takes a password's SHA-256 in place of the password, so that the file need not hold it.
fn password_hash(password: &str) -> String {
    Sha256::digest(password.as_bytes())
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn write_secretly(path: &Path, text: &str) -> Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("create {}", path.display()))?;
    file.write_all(text.as_bytes())
        .with_context(|| format!("write {}", path.display()))
}
