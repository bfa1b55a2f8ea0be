//! Finds where this computer's apt gets Debian, so that the image comes from the same place.

use std::fs;
use std::path::Path;
use std::process::Command;

/// Where to get packages from, and how apt gets there.
pub struct AptSources {
    /// The Debian mirror, if this computer's apt has one.
    pub mirror: Option<String>,
    /// apt.conf lines about proxies, retries and certificates.
    pub settings: String,
}

/// Reads /etc/apt and asks `apt-config`.
pub fn of_this_computer() -> AptSources {
    AptSources {
        mirror: debian_mirror(&source_texts(Path::new("/etc/apt"))),
        settings: connection_settings(),
    }
}

fn source_texts(folder: &Path) -> Vec<String> {
    let mut files = vec![folder.join("sources.list")];
    let mut parts: Vec<_> = fs::read_dir(folder.join("sources.list.d"))
        .map(|entries| entries.flatten().map(|entry| entry.path()).collect())
        .unwrap_or_default();
    parts.sort();
    files.extend(parts);
    files.iter().filter_map(|file| fs::read_to_string(file).ok()).collect()
}

/// Returns the first mirror of Debian's main archive: by convention its path ends in `/debian`.
fn debian_mirror(texts: &[String]) -> Option<String> {
    let words = texts
        .iter()
        .flat_map(|text| text.lines())
        .filter(|line| !line.trim_start().starts_with('#'));
    words
        .flat_map(str::split_whitespace)
        .find(|word| {
            let path = word.trim_end_matches('/');
            (path.starts_with("http://") || path.starts_with("https://")) && path.ends_with("/debian")
        })
        .map(|word| word.trim_end_matches('/').to_owned())
}

fn connection_settings() -> String {
    let Ok(output) = Command::new("apt-config").args(["dump", "Acquire"]).output() else {
        return String::new();
    };
    kept_settings(&String::from_utf8_lossy(&output.stdout))
}

/// Returns the settings that the connection to the mirror may need.
fn kept_settings(dump: &str) -> String {
    let kept = dump.lines().filter(|line| {
        [
            "Acquire::http",
            "Acquire::https",
            "Acquire::Retries",
            "Acquire::Check-",
            "Acquire::ForceIPv4",
        ]
        .iter()
        .any(|start| line.starts_with(start))
    });
    kept.map(|line| format!("{line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mirror_is_found_in_both_formats() {
        let one_line = "# deb http://old.invalid/debian trixie main\ndeb [arch=amd64] http://mirror.invalid/debian/ bookworm main\n";
        assert_eq!(
            debian_mirror(&[one_line.into()]).as_deref(),
            Some("http://mirror.invalid/debian")
        );
        let stanza = "Types: deb\nURIs: https://mirror.invalid/debian\nSuites: bookworm\n";
        assert_eq!(
            debian_mirror(&[stanza.into()]).as_deref(),
            Some("https://mirror.invalid/debian")
        );
    }

    #[test]
    fn other_archives_are_not_taken_for_debian() {
        let texts = [
            "deb http://mirror.invalid/ubuntu noble main\ndeb http://mirror.invalid/debian-security trixie main".into(),
        ];
        assert_eq!(debian_mirror(&texts), None);
    }

    #[test]
    fn only_settings_of_the_connection_are_taken_over() {
        let dump = "Acquire \"\";\nAcquire::http::Proxy \"http://proxy.invalid:3128\";\nAcquire::Languages \"\";\n";
        assert_eq!(
            kept_settings(dump),
            "Acquire::http::Proxy \"http://proxy.invalid:3128\";\n"
        );
    }
}
