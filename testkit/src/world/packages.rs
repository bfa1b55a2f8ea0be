//! Newer packages on the machines, as a distribution brings them.

use super::World;

const SCRIPT: &str = include_str!("newer-packages.sh");

impl World {
    /// Puts packages of a higher version into a host's own repository. They differ in nothing but their version.
    pub fn offer_newer(&self, host: &str, ending: &str, packages: &[&str]) {
        assert!(!SCRIPT.contains('\''), "the script would end early");
        let command = format!("sudo bash -c '{SCRIPT}' newer {ending} {}", packages.join(" "));
        self.infra(&["ssh", host, "--", &command]).exits(0);
    }

    /// Returns the installed version of a package.
    pub fn version_of(&self, host: &str, package: &str) -> String {
        let ask = format!("dpkg-query -W -f '${{Version}}' {package}");
        let answer = self.infra(&["ssh", host, "--", &ask]).exits(0);
        answer.output().trim().to_string()
    }
}
