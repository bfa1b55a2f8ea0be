//! Carries the Python plugin, and writes it to the cache folder: the program needs no checkout.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use crate::paths::Paths;

/// The Python packages that it needs.
pub const REQUIREMENTS: &str = include_str!("../../aws/requirements.txt");

macro_rules! files {
    ($($name:literal)*) => {
        const FILES: &[(&str, &str)] = &[$(($name, include_str!(concat!("../../aws/", $name)))),*];
    };
}

files! {
    "localcloud.py"
    "localcloud/__init__.py"
    "localcloud/checksums.py"
    "localcloud/chunks.py"
    "localcloud/cloudwatch.py"
    "localcloud/door.py"
    "localcloud/ec2_needs.py"
    "localcloud/errors.py"
    "localcloud/faults.py"
    "localcloud/front.py"
    "localcloud/images.py"
    "localcloud/key_pairs.py"
    "localcloud/knobs.py"
    "localcloud/launch.py"
    "localcloud/lifecycle.py"
    "localcloud/needs.py"
    "localcloud/network.py"
    "localcloud/network_acls.py"
    "localcloud/offerings.py"
    "localcloud/permissions.py"
    "localcloud/policy.py"
    "localcloud/pools.py"
    "localcloud/principals.py"
    "localcloud/request.py"
    "localcloud/resize.py"
    "localcloud/s3.py"
    "localcloud/s3_operations.py"
    "localcloud/security_groups.py"
    "localcloud/server.py"
    "localcloud/signature.py"
    "localcloud/ssm.py"
    "localcloud/world.py"
}

/// Writes the files into a folder named by their digest, and removes other versions' folders.
pub fn lay_out(paths: &Paths) -> Result<PathBuf> {
    let digest = FILES.iter().fold(Sha256::new(), |digest, (name, text)| {
        digest
            .chain_update(name)
            .chain_update([0])
            .chain_update(text)
            .chain_update([0])
    });
    let name = hex::encode(&digest.finalize()[..8]);
    let all = paths.cache().join("aws-plugin");
    let folder = all.join(&name);
    if folder.exists() {
        return Ok(folder);
    }
    crate::files::remove_tree(&all)?;
    let unfinished = all.join("unfinished");
    for (name, text) in FILES {
        let path = unfinished.join(name);
        let lay = || {
            fs::create_dir_all(path.parent().unwrap_or(&unfinished))?;
            fs::write(&path, text)
        };
        lay().with_context(|| format!("write {}", path.display()))?;
    }
    fs::rename(&unfinished, &folder).with_context(|| format!("make {}", folder.display()))?;
    Ok(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_the_plugin_is_carried() {
        let source = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").unwrap()).join("aws");
        let modules = fs::read_dir(source.join("localcloud")).unwrap();
        let mut there: Vec<String> = modules
            .filter_map(|entry| entry.unwrap().file_name().into_string().ok())
            .filter(|name| name.ends_with(".py"))
            .map(|name| format!("localcloud/{name}"))
            .chain(["localcloud.py".to_owned()])
            .collect();
        there.sort();
        let mut carried: Vec<&str> = FILES.iter().map(|(name, _)| *name).collect();
        carried.sort_unstable();
        assert_eq!(carried, there);
    }

    #[test]
    fn another_version_replaces_the_one_before() {
        let folder = tempfile::tempdir().unwrap();
        let paths = Paths::new(folder.path().join("state"), folder.path().join("cache")).unwrap();
        let first = lay_out(&paths).unwrap();
        assert!(first.join("localcloud/s3.py").is_file());
        assert_eq!(lay_out(&paths).unwrap(), first);
        let older = first.with_file_name("0000000000000000");
        fs::rename(&first, &older).unwrap();
        assert_eq!(lay_out(&paths).unwrap(), first);
        assert!(!older.exists());
    }
}
