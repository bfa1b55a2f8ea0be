//! The files of the add-on: configuration, certificate and key, which only their owner may read.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use super::certificates::{self, Shown, Tls};
use super::{Options, Profile};
use crate::files::{private_folder, write_private};

pub(super) struct Prepared {
    pub configuration: PathBuf,
    pub certificate: Option<String>,
}

/// The provider's user for administration. The renter does not see it.
pub(super) const PROVIDER: &str = "provider";

/// Files in the add-on's folder.
pub(super) const PROVIDER_URL: &str = "provider.url";
/// Verifies the certificate, if anything does.
pub(super) const AUTHORITY: &str = "authority.crt";
pub(super) const CERTIFICATE: &str = "tls.crt";
pub(super) const KEY: &str = "tls.key";
const CONFIGURATION: &str = "redis.conf";

/// `version` is that of the server: the rules are written as it understands them.
pub(super) fn write(
    folder: &Path,
    port: u16,
    options: &Options,
    version: (u32, u32),
    provider_password: &str,
) -> Result<Prepared> {
    let data = folder.join("data");
    private_folder(&data)?;

    let addresses = options.listen.iter().map(ToString::to_string);
    let names: Vec<String> = options.host.iter().cloned().chain(addresses).collect();
    let shown = certificates::make(options.tls, &names, options.authority.as_ref())?;
    if let Some(shown) = &shown {
        write_shown(folder, shown)?;
    }
    let certificate = shown.and_then(|shown| shown.authority);
    let configuration = folder.join(CONFIGURATION);
    let text = configuration_text(folder, port, options, version, provider_password);
    write_private(&configuration, &text)?;
    Ok(Prepared {
        configuration,
        certificate,
    })
}

/// Writes certificate and key, and what verifies them.
pub(super) fn write_shown(folder: &Path, shown: &Shown) -> Result<()> {
    write_private(&folder.join(CERTIFICATE), &shown.chain)?;
    write_private(&folder.join(KEY), &shown.key)?;
    match &shown.authority {
        Some(authority) => write_private(&folder.join(AUTHORITY), authority),
        None => Ok(()),
    }
}

fn configuration_text(
    folder: &Path,
    port: u16,
    options: &Options,
    version: (u32, u32),
    provider_password: &str,
) -> String {
    let folder = folder.display();
    let addresses: Vec<String> = options.listen.iter().map(ToString::to_string).collect();
    let ports = if options.tls == Tls::Off {
        format!("port {port}\n")
    } else {
        let plain = options.plain_port.unwrap_or(0);
        format!(
            "port {plain}\ntls-port {port}\ntls-auth-clients no\ntls-cert-file \"{folder}/{CERTIFICATE}\"\n\
             tls-key-file \"{folder}/{KEY}\"\n"
        )
    };
    let channels = if version >= CHANNEL_RULES { "&*" } else { "" };
    let persistence = if options.persistent {
        "appendonly yes\nappendfsync everysec\n"
    } else {
        "appendonly no\n"
    };
    let maxmemory = options
        .maxmemory
        .map(|bytes| format!("maxmemory {bytes}\n"))
        .unwrap_or_default();
    let connections = options
        .connections
        .map(|most| format!("maxclients {most}\n"))
        .unwrap_or_default();
    let databases = options.databases;
    format!(
        "bind {}\n{ports}databases {databases}\n{connections}dir \"{folder}/data\"\ndaemonize no\nsave \"\"\n{persistence}{maxmemory}\
         maxmemory-policy noeviction\ntimeout 300\nrepl-diskless-sync yes\nrepl-diskless-sync-delay 0\n\
         repl-backlog-size 16mb\n{RENTER}{} ~* {channels} {}\n\
         user {PROVIDER} on #{} ~* {channels} +@all\n",
        addresses.join(" "),
        password_hash(&options.password),
        rules(options.profile, version),
        password_hash(provider_password),
    )
}

/// The version that brought rules for channels, and the failover command.
const CHANNEL_RULES: (u32, u32) = (6, 2);
/// The version that can deny a single subcommand.
const SUBCOMMAND_RULES: (u32, u32) = (7, 0);
const WITHOUT_REPLICATION: &str = " -psync -sync -replconf";
const WITHOUT_PAUSE: &str = " -client|pause -client|unpause";
const THIN: &str = " -monitor -role -client|list -client|kill -info +info|server +info|memory +info|keyspace";
/// The subcommands of CLIENT without its pauses, for versions that cannot deny a subcommand.
const CLIENT_WITHOUT_PAUSE: [&str; 13] = [
    "caching",
    "getname",
    "getredir",
    "help",
    "id",
    "info",
    "kill",
    "list",
    "reply",
    "setname",
    "tracking",
    "trackinginfo",
    "unblock",
];

/// Returns what the renter may run, as ACL rules of a server of this version.
fn rules(profile: Profile, version: (u32, u32)) -> String {
    let mut rules = "+@all -config -debug -shutdown -replicaof -slaveof -acl -module".to_owned();
    if version >= CHANNEL_RULES {
        rules += " -failover";
    }
    match profile {
        Profile::Default => {}
        Profile::NoPause if version >= SUBCOMMAND_RULES => rules += WITHOUT_PAUSE,
        Profile::NoPause => {
            rules += " -client";
            for subcommand in CLIENT_WITHOUT_PAUSE {
                rules += &format!(" +client|{subcommand}");
            }
        }
        Profile::NoReplication => rules += WITHOUT_REPLICATION,
        // Only engines that can deny a subcommand are rented so.
        Profile::Cloud => rules = [&rules, WITHOUT_REPLICATION, WITHOUT_PAUSE].concat(),
        Profile::Thin => rules = [&rules, WITHOUT_REPLICATION, WITHOUT_PAUSE, THIN].concat(),
    }
    rules
}

/// Writes the provider's own URL.
pub(super) fn write_provider_url(folder: &Path, url: &str) -> Result<()> {
    write_private(&folder.join(PROVIDER_URL), url)
}

/// Puts a new password of the renter into the configuration, for the next start.
pub(super) fn replace_password(folder: &Path, password: &str) -> Result<()> {
    let path = folder.join(CONFIGURATION);
    let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    let lines = text.lines().map(|line| match line.split_once(RENTER) {
        Some(("", rules)) => {
            let rules = rules.split_once(' ').map_or("", |(_, rules)| rules);
            format!("{RENTER}{} {rules}\n", password_hash(password))
        }
        _ => format!("{line}\n"),
    });
    write_private(&path, &lines.collect::<String>())
}

/// How the configuration's line about the renter begins, before the hash of the password.
const RENTER: &str = "user default on #";

/// Returns a password's SHA-256, which Redis takes in place of the password.
fn password_hash(password: &str) -> String {
    hex::encode(Sha256::digest(password.as_bytes()))
}
