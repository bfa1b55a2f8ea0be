//! Finds the programs for the hosts, beside this one or by name. The agent must be static.

use crate::model::error::{Error, Result};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Size limit of a program.
const LARGEST: u64 = 64 << 20;

/// A program as it is put on a host. Cheap to clone.
#[derive(Clone, PartialEq, Eq)]
pub struct Binary {
    bytes: Arc<[u8]>,
    sha256: Arc<str>,
}

impl Binary {
    pub fn new(bytes: Vec<u8>) -> Self {
        let sha256 = infra_agent::digest::of(&bytes);
        Binary {
            bytes: bytes.into(),
            sha256: sha256.into(),
        }
    }

    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns the digest in hexadecimal.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }
}

impl fmt::Debug for Binary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes, sha256 {}", self.bytes.len(), self.sha256)
    }
}

/// The programs for hosts, beside packages and scripts.
#[derive(Clone, Debug)]
pub struct Programs {
    /// Ships the log, makes bases and restores data.
    pub agent: Binary,
    /// The library that the engine loads.
    pub module: Binary,
}

/// Finds the programs for an architecture (`amd64` or `arm64`): the agent in the named file or
/// beside this program, and the module beside the agent. If the named agent is of another architecture, the one of this
/// architecture is looked for in its folder: a pair may have hosts of both.
pub fn find(named: Option<&Path>, architecture: &str) -> Result<Programs> {
    let name = format!("infra-agent-{}", machine(architecture));
    let neighbour = || {
        let own = std::env::current_exe().ok()?;
        Some(own.parent()?.join(&name))
    };
    let agent = match named {
        Some(path) => match path.with_file_name(&name) {
            other if other.exists() && read("agent", path, architecture).is_err() => other,
            _ => path.to_path_buf(),
        },
        None => neighbour().unwrap_or_else(|| PathBuf::from("infra-agent")),
    };
    let module = agent.with_file_name(format!("infra-module-{}.so", machine(architecture)));
    Ok(Programs {
        agent: read("agent", &agent, architecture)?,
        module: read("module", &module, architecture)?,
    })
}

fn read(what: &str, path: &Path, architecture: &str) -> Result<Binary> {
    let doing = format!("find the {what} for the hosts at {}", path.display());
    let hint = format!(
        "run `make install`, or `make build` if you run infra from the build folder: it puts the programs for {} beside `infra`. If they are elsewhere, \
         name the agent's file by `infra up --agent FILE`; the module must be in the same folder",
        machine(architecture)
    );
    let size = std::fs::metadata(path)
        .map_err(|error| Error::failed(doing.clone()).because(error).hint(hint.clone()))?
        .len();
    if size > LARGEST {
        return Err(Error::failed(doing).because(format!("it has {size} bytes")).hint(hint));
    }
    let bytes = std::fs::read(path).map_err(|error| Error::failed(doing.clone()).because(error).hint(hint.clone()))?;
    match unfit(&bytes, architecture) {
        Some(why) => Err(Error::failed(doing).because(why).hint(hint)),
        None => Ok(Binary::new(bytes)),
    }
}

/// Returns the kernel's name of an architecture.
fn machine(architecture: &str) -> &'static str {
    match architecture {
        "arm64" => "aarch64",
        _ => "x86_64",
    }
}

/// Returns why a program cannot run on an architecture; `None` if it can. Source: ELF-64.
fn unfit(bytes: &[u8], architecture: &str) -> Option<String> {
    let number = |at: usize, length: usize| -> Option<u64> {
        let field = bytes.get(at..at.checked_add(length)?)?;
        Some(
            field
                .iter()
                .rev()
                .fold(0, |number, byte| number << 8 | u64::from(*byte)),
        )
    };
    if !bytes.starts_with(b"\x7fELF\x02\x01") {
        return Some("it is no program for a 64-bit Linux".into());
    }
    let wanted = match machine(architecture) {
        "aarch64" => 183,
        _ => 62,
    };
    if number(18, 2) != Some(wanted) {
        return Some(format!("it is no program for {}", machine(architecture)));
    }
    let (Some(table), Some(entry), Some(entries)) = (number(32, 8), number(54, 2), number(56, 2)) else {
        return Some("it is cut off".into());
    };
    // A program with an interpreter needs the libraries of the machine that it was made on.
    let needs_libraries = (0..entries).any(|index| {
        let at = usize::try_from(table + index * entry).unwrap_or(usize::MAX);
        number(at, 4) == Some(3)
    });
    needs_libraries.then(|| "it is not linked statically: it may not run on the hosts".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the head of a program with one entry in its table.
    fn program(machine: u16, entry_kind: u32) -> Vec<u8> {
        let mut bytes = vec![0; 128];
        bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
        bytes[18..20].copy_from_slice(&machine.to_le_bytes());
        bytes[32..40].copy_from_slice(&64_u64.to_le_bytes());
        bytes[54..56].copy_from_slice(&56_u16.to_le_bytes());
        bytes[56..58].copy_from_slice(&1_u16.to_le_bytes());
        bytes[64..68].copy_from_slice(&entry_kind.to_le_bytes());
        bytes
    }

    #[test]
    fn only_a_static_program_of_the_right_kind_is_sent() {
        assert_eq!(unfit(&program(62, 1), "amd64"), None);
        assert_eq!(unfit(&program(183, 1), "arm64"), None);
        assert!(unfit(&program(62, 1), "arm64").unwrap().contains("aarch64"));
        assert!(unfit(&program(62, 3), "amd64").unwrap().contains("statically"));
        assert!(unfit(b"#!/bin/sh\n", "amd64").unwrap().contains("no program"));
        for cut in 0..64 {
            let _ = unfit(&program(62, 1)[..cut], "amd64");
        }
    }

    #[test]
    fn a_pair_with_hosts_of_two_architectures_gets_the_programs_of_each() {
        let folder = tempfile::tempdir().unwrap();
        let put = |name: &str, machine| std::fs::write(folder.path().join(name), program(machine, 1)).unwrap();
        put("infra-agent-x86_64", 62);
        put("infra-module-x86_64.so", 62);
        let named = folder.path().join("infra-agent-x86_64");
        let of = |architecture| find(Some(&named), architecture);
        assert!(of("amd64").is_ok());
        let error = of("arm64").unwrap_err();
        assert!(format!("{error:#}").contains("aarch64"), "{error:#}");
        put("infra-agent-aarch64", 183);
        let error = of("arm64").unwrap_err();
        assert!(error.to_string().contains("infra-module-aarch64.so"), "{error}");
        put("infra-module-aarch64.so", 183);
        let (one, other) = (of("amd64").unwrap(), of("arm64").unwrap());
        assert_eq!(one.agent.bytes(), program(62, 1));
        assert_eq!(other.agent.bytes(), program(183, 1));
        assert_eq!(other.module.bytes(), program(183, 1));
    }

    #[test]
    fn the_error_for_a_missing_agent_says_how_to_get_one() {
        let error = find(Some(Path::new("/nonexistent/agent")), "amd64").unwrap_err();
        assert!(error.to_string().contains("/nonexistent/agent"), "{error}");
        assert!(format!("{error:?}").contains("--agent FILE"), "{error:?}");
    }
}
