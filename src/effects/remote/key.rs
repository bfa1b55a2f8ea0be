//! ssh keys: the public keys of hosts, and pairs that are made here.

use crate::model::error::{Doing, Error, Result};
use crate::model::secret::Secret;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// The public key that a host must show, written as in known_hosts without host name and comment.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HostKey {
    algorithm: String,
    blob: Vec<u8>,
}

impl HostKey {
    /// Returns the name of the algorithm, for example `ssh-ed25519`.
    pub fn algorithm(&self) -> &str {
        &self.algorithm
    }

    /// Returns the key in its form on the wire.
    pub fn blob(&self) -> &[u8] {
        &self.blob
    }

    /// Reads the key that a host showed; `None` if the bytes are no ssh key.
    pub fn from_blob(blob: &[u8]) -> Option<Self> {
        let length = u32::from_be_bytes(blob.get(..4)?.try_into().ok()?) as usize;
        let name = blob.get(4..4usize.checked_add(length)?)?;
        Some(HostKey {
            algorithm: std::str::from_utf8(name).ok()?.to_string(),
            blob: blob.to_vec(),
        })
    }

    /// Returns `SHA256:…` as ssh and ssh-keygen show it.
    pub fn fingerprint(&self) -> String {
        use sha2::{Digest, Sha256};
        let digest = base64::engine::general_purpose::STANDARD_NO_PAD.encode(Sha256::digest(&self.blob));
        format!("SHA256:{digest}")
    }
}

impl fmt::Display for HostKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.algorithm, STANDARD.encode(&self.blob))
    }
}

impl fmt::Debug for HostKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HostKey({} {})", self.algorithm, self.fingerprint())
    }
}

impl FromStr for HostKey {
    type Err = Error;

    fn from_str(line: &str) -> Result<Self> {
        let mut words = line.split_ascii_whitespace();
        let (Some(algorithm), Some(encoded)) = (words.next(), words.next()) else {
            return Err(Error::failed(format!(
                "read the host key {line:?}: it is not an algorithm and a key"
            )));
        };
        let blob = STANDARD
            .decode(encoded)
            .doing(|| format!("read the host key {line:?}"))?;
        let key = HostKey::from_blob(&blob)
            .ok_or_else(|| Error::failed(format!("read the host key {line:?}: its bytes are no ssh key")))?;
        if key.algorithm != algorithm {
            return Err(Error::failed(format!(
                "read the host key {line:?}: it holds a key of type {}",
                key.algorithm
            )));
        }
        Ok(key)
    }
}

impl TryFrom<String> for HostKey {
    type Error = Error;

    fn try_from(line: String) -> Result<Self> {
        line.parse()
    }
}

impl From<HostKey> for String {
    fn from(key: HostKey) -> String {
        key.to_string()
    }
}

/// An ed25519 pair: the operator's own, or the first one of a host.
#[derive(Clone, Debug)]
pub struct KeyPair {
    /// In OpenSSH's PEM form.
    pub private: Secret,
    /// One line as in authorized_keys.
    pub public: String,
}

impl KeyPair {
    /// Makes a new pair; `comment` stands behind the public key.
    pub fn generate(comment: &str) -> Result<Self> {
        let mut key = ssh_key::PrivateKey::random(&mut ssh_key::rand_core::OsRng, ssh_key::Algorithm::Ed25519)
            .doing(|| "make an ssh key".into())?;
        key.set_comment(comment);
        Self::describe(&key)
    }

    pub fn from_private(private: &Secret) -> Result<Self> {
        let key = ssh_key::PrivateKey::from_openssh(private.expose()).doing(|| "read the stored ssh key".into())?;
        Self::describe(&key)
    }

    /// Returns the host key of a host with this pair.
    pub fn host_key(&self) -> Result<HostKey> {
        self.public.parse()
    }

    fn describe(key: &ssh_key::PrivateKey) -> Result<Self> {
        let private = key
            .to_openssh(ssh_key::LineEnding::LF)
            .doing(|| "write an ssh key in OpenSSH's form".into())?;
        let public = key
            .public_key()
            .to_openssh()
            .doing(|| "write an ssh public key".into())?;
        Ok(KeyPair {
            private: Secret::new(private.as_str()),
            public,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGWxZ2vJ0V5u4g9hX0Xb0oPpMyZQqkqAe2d0n2gG8gHq";

    #[test]
    fn a_host_key_is_read_from_known_hosts_text_and_written_back() {
        let key: HostKey = format!("{LINE} root@somewhere\n").parse().unwrap();
        assert_eq!(key.to_string(), LINE);
        assert_eq!(key.algorithm(), "ssh-ed25519");
        assert_eq!(HostKey::from_blob(key.blob()), Some(key));
    }

    #[test]
    fn a_text_that_is_no_key_is_refused_and_shown() {
        for text in [
            "",
            "ssh-ed25519",
            "ssh-ed25519 AAAA",
            "ssh-rsa AAAAC3NzaC1lZDI1NTE5AAAAIGWx",
        ] {
            let error = text.parse::<HostKey>().unwrap_err();
            assert!(error.to_string().contains("host key"), "{error}");
        }
    }

    #[test]
    fn a_pair_is_made_again_from_its_private_key() {
        let pair = KeyPair::generate("infra-demo").unwrap();
        let again = KeyPair::from_private(&pair.private).unwrap();
        assert_eq!(pair.public, again.public);
        assert_eq!(pair.host_key().unwrap(), again.host_key().unwrap());
        assert!(pair.public.ends_with(" infra-demo"));
        assert!(!format!("{pair:?}").contains("PRIVATE"));
    }
}
