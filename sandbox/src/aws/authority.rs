//! The certificate of the AWS API for https, the authority behind it, and who trusts it.
//!
//! Both are made anew at every `up`, so that no old key stays trusted.

use std::fs;
use std::io::Write;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rcgen::{CertificateParams, DnType, Issuer, KeyPair};

use crate::addon::{self, Authority};
use crate::files::write_private;
use crate::network::BRIDGE_ADDRESS;
use crate::paths::Paths;

/// The authorities that this computer trusts already, and those of a machine.
const SYSTEM_BUNDLE: &str = "etc/ssl/certs/ca-certificates.crt";
/// Where `update-ca-certificates` looks for more.
const ADDED: &str = "usr/local/share/ca-certificates/infra-sandbox.crt";

/// Certificate and key of the API, and the bundle by which clients trust it.
pub struct Files {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// Makes authority and certificate, and writes the bundle for clients on this computer.
pub fn make(paths: &Paths) -> Result<Files> {
    let folder = paths.tls();
    fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
    let made = addon::authority("infra sandbox").context("make the sandbox's authority")?;
    let authority = KeyPair::from_pem(&made.key)
        .and_then(|key| Issuer::from_ca_cert_pem(&made.certificate, key))
        .context("use the sandbox's authority")?;
    let address: Ipv4Addr = BRIDGE_ADDRESS.parse().context("read the bridge's address")?;
    let mut server = named("infra sandbox AWS API");
    server.subject_alt_names = vec![rcgen::SanType::IpAddress(address.into())];
    let key = KeyPair::generate().context("make the AWS API's key")?;
    let certificate = server
        .signed_by(&key, &authority)
        .context("sign the AWS API's certificate")?;

    let files = Files {
        certificate: folder.join("server.crt"),
        key: folder.join("server.key"),
    };
    fs::write(&files.certificate, certificate.pem()).context("write the AWS API's certificate")?;
    write_private(&files.key, &key.serialize_pem())?;
    fs::write(paths.authority(), &made.certificate).context("write the sandbox's authority")?;
    write_private(&paths.authority_key(), &made.key)?;
    let system = fs::read_to_string(Path::new("/").join(SYSTEM_BUNDLE)).unwrap_or_default();
    fs::write(paths.trusted(), format!("{system}\n{}", made.certificate)).context("write who is trusted")?;
    Ok(files)
}

/// Returns the authority that `make` has made, to issue more.
pub fn issuer(paths: &Paths) -> Result<Authority> {
    let read = |path: &Path| fs::read_to_string(path).with_context(|| format!("read {}", path.display()));
    Ok(Authority {
        certificate: read(&paths.authority())?,
        key: read(&paths.authority_key())?,
    })
}

fn named(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

/// Lets a machine trust the authority, as `update-ca-certificates` would. `root`: its mounted disk.
pub fn trust(paths: &Paths, root: &Path) -> Result<()> {
    let added = root.join(ADDED);
    if added.exists() {
        return Ok(());
    }
    let authority = fs::read_to_string(paths.authority()).context("read the sandbox's authority")?;
    let write = || -> std::io::Result<()> {
        if let Some(folder) = added.parent() {
            fs::create_dir_all(folder)?;
        }
        let mut bundle = fs::File::options()
            .append(true)
            .create(true)
            .open(root.join(SYSTEM_BUNDLE))?;
        bundle.write_all(authority.as_bytes())?;
        fs::write(&added, &authority)
    };
    write().context("let the machine trust the sandbox's authority")
}
