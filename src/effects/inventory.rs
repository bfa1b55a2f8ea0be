//! Reads and writes `inventory/<env>.yml`, which serves Ansible too.
//!
//! It never holds a secret. The roles in it are a cache: only Redis knows the present ones.

use crate::effects::fault;
use crate::model::error::{Doing, Result};
use crate::model::files;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Two hosts need a hundredth of this.
const MAX_BYTES: u64 = 32 * 1024;

#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
pub struct Inventory {
    pub all: Group,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
pub struct Group {
    #[serde(default)]
    pub vars: BTreeMap<String, String>,
    #[serde(default)]
    pub children: BTreeMap<String, Hosts>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
pub struct Hosts {
    #[serde(default)]
    pub hosts: BTreeMap<String, Host>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
pub struct Host {
    pub ansible_host: String,
    pub ansible_user: String,
    pub infra_instance_id: String,
    pub infra_private_ip: String,
    pub infra_role: String,
    /// The pinned host key, as a line of known_hosts without its host name.
    pub infra_host_key: String,
}

impl Inventory {
    pub fn path(folder: &Path, env: &str) -> PathBuf {
        folder.join(format!("{env}.yml"))
    }

    /// Returns the stored inventory; `None` if none was written yet.
    pub fn load(path: &Path) -> Result<Option<Self>> {
        let text = match files::read_text(path, MAX_BYTES) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).doing(|| format!("read {}", path.display())),
        };
        Self::parse(&text)
            .map(Some)
            .doing(|| format!("understand {}", path.display()))
    }

    pub fn parse(text: &str) -> std::result::Result<Self, serde_yaml::Error> {
        serde_yaml::from_str(text)
    }

    pub fn to_yaml(&self) -> Result<String> {
        let yaml = serde_yaml::to_string(self).doing(|| "write the inventory as YAML".into())?;
        Ok(format!(
            "# Written by `infra up`; changes made here are lost. Roles are a cache: `infra status` asks Redis.\n{yaml}"
        ))
    }

    /// Writes the file whole or not at all. Returns true if the content changed.
    pub fn save(&self, path: &Path) -> Result<bool> {
        let text = self.to_yaml()?;
        if std::fs::read_to_string(path).is_ok_and(|there| there == text) {
            return Ok(false);
        }
        let folder = path.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder).doing(|| format!("make the folder {}", folder.display()))?;
        fault::point(format_args!("before write the inventory"));
        files::replace(path, &text).doing(|| format!("write {}", path.display()))?;
        fault::point(format_args!("after write the inventory"));
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_saved_inventory_loads_unchanged_and_saving_it_again_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = Inventory::path(folder.path(), "production");
        let mut inventory = Inventory::default();
        let host = Host {
            ansible_host: "192.0.2.1".into(),
            infra_role: "master".into(),
            ..Host::default()
        };
        inventory
            .all
            .children
            .entry("redis".into())
            .or_default()
            .hosts
            .insert("master".into(), host);
        assert!(inventory.save(&path).unwrap());
        assert!(!inventory.save(&path).unwrap());
        assert_eq!(Inventory::load(&path).unwrap(), Some(inventory));
    }
}
