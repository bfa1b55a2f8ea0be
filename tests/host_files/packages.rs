//! Packages, by a real apt with folders and a mirror of its own: locked, without lists, half reachable.

use super::host::templates;
use nix::fcntl::{FcntlArg, fcntl};
use sha2::{Digest, Sha256};
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// A package that holds one file.
const PACKAGE: &str = "infra-test-package";

struct Apt {
    root: tempfile::TempDir,
    /// How many more requests the mirror refuses.
    refusals: Arc<AtomicU32>,
}

impl Apt {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let refusals = Arc::new(AtomicU32::new(0));
        let apt = Apt {
            root,
            refusals: refusals.clone(),
        };
        for folder in [
            "mirror",
            "etc/apt.conf.d",
            "etc/preferences.d",
            "etc/sources.list.d",
            "lists/partial",
            "archives/partial",
            "system/var/lib/dpkg/info",
            "system/var/lib/dpkg/updates",
            "log",
        ] {
            std::fs::create_dir_all(apt.path(folder)).unwrap();
        }
        std::fs::write(apt.path("system/var/lib/dpkg/status"), "").unwrap();
        apt.make_package();
        let source = format!("deb [trusted=yes] http://127.0.0.1:{port} ./\n");
        std::fs::write(apt.path("etc/sources.list"), source).unwrap();
        let root = apt.path("").display().to_string();
        let settings = format!(
            "Dir::Etc \"{root}etc\"; Dir::State::lists \"{root}lists\"; Dir::Cache \"{root}\"; Dir::Log \"{root}log\";\n\
             Dir::State::status \"{root}system/var/lib/dpkg/status\"; Dir::State \"{root}\";\n\
             Dpkg::Options {{ \"--root={root}system\"; \"--force-all\"; }}; APT::Sandbox::User \"root\";\n\
             Acquire::http::Proxy \"DIRECT\"; Acquire::Retries \"0\"; Acquire::Languages \"none\";\n"
        );
        std::fs::write(apt.path("apt.conf"), settings).unwrap();
        let mirror = apt.path("mirror");
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                serve(stream, &mirror, &refusals);
            }
        });
        apt
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn make_package(&self) {
        let control = format!(
            "Package: {PACKAGE}\nVersion: 1\nArchitecture: all\nMaintainer: test <test@sandbox.invalid>\nDescription: test\n"
        );
        std::fs::create_dir_all(self.path("package/DEBIAN")).unwrap();
        std::fs::create_dir_all(self.path("package/etc")).unwrap();
        std::fs::write(self.path("package/DEBIAN/control"), &control).unwrap();
        std::fs::write(self.path("package/etc/infra-test"), "there").unwrap();
        let built = Command::new("dpkg-deb")
            .arg("--build")
            .args([self.path("package"), self.path("mirror/package.deb")])
            .output()
            .unwrap();
        assert!(built.status.success(), "{built:?}");
        let bytes = std::fs::read(self.path("mirror/package.deb")).unwrap();
        let sum: String = Sha256::digest(&bytes)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let list = format!(
            "{control}Filename: ./package.deb\nSize: {}\nSHA256: {sum}\n",
            bytes.len()
        );
        std::fs::write(self.path("mirror/Packages"), list).unwrap();
    }

    /// Lets the host's script install the package.
    fn install(&self) -> Output {
        let script = std::fs::read_to_string(templates().join("apply.sh")).unwrap();
        let functions = script.split("# One line, since the shell").next().unwrap();
        let functions = functions.replace("/usr/sbin/policy-rc.d", &self.path("policy").display().to_string());
        let lock = self.path("lock").display().to_string();
        let script =
            format!("{functions}\nset -u\nexport LC_ALL=C\nexec 9>{lock}\ninstall_packages {PACKAGE}\necho done\n");
        Command::new("bash")
            .args(["-c", &script])
            .env("APT_CONFIG", self.path("apt.conf"))
            .output()
            .unwrap()
    }

    #[track_caller]
    fn installs(&self, saying: &str) {
        let output = self.install();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success() && text.ends_with("done\n"),
            "{text}\n{output:?}"
        );
        assert!(text.contains(saying), "{text}");
        assert_eq!(
            std::fs::read_to_string(self.path("system/etc/infra-test")).unwrap(),
            "there"
        );
    }
}

/// Answers one request with a file of the mirror, or with 503.
fn serve(stream: TcpStream, mirror: &std::path::Path, refusals: &AtomicU32) {
    let mut reader = BufReader::new(stream);
    let mut request = String::new();
    let _ = reader.read_line(&mut request);
    let mut line = String::new();
    while reader.read_line(&mut line).is_ok_and(|read| read > 2) {
        line.clear();
    }
    let name = request
        .split(' ')
        .nth(1)
        .unwrap_or_default()
        .trim_start_matches(['/', '.']);
    let refuses = refusals
        .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1))
        .is_ok();
    let (status, body) = match std::fs::read(mirror.join(name)) {
        _ if refuses => ("503 Service Unavailable", Vec::new()),
        Ok(body) => ("200 OK", body),
        Err(_) => ("404 Not Found", Vec::new()),
    };
    let mut stream = reader.into_inner();
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body));
}

#[test]
fn a_host_without_lists_gets_them() {
    Apt::new().installs("done");
}

#[test]
fn a_mirror_that_fails_at_first_is_asked_again_and_the_reason_is_shown() {
    let apt = Apt::new();
    apt.refusals.store(9, Ordering::SeqCst);
    apt.installs("503");
}

#[test]
fn lists_that_another_apt_holds_are_waited_for_and_the_reason_is_shown() {
    let apt = Apt::new();
    let lock = std::fs::File::create(apt.path("lists/lock")).unwrap();
    // SAFETY of the test: the lock is of this process, and apt-get is another one.
    let whole = nix::libc::flock {
        l_type: nix::libc::F_WRLCK as i16,
        l_whence: 0,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    fcntl(&lock, FcntlArg::F_SETLK(&whole)).unwrap();
    let held = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_secs(5));
        drop(lock);
    });
    apt.installs("lock");
    held.join().unwrap();
}

#[test]
fn a_package_that_no_mirror_has_is_not_waited_for() {
    let apt = Apt::new();
    std::fs::write(apt.path("mirror/Packages"), "").unwrap();
    let begun = std::time::Instant::now();
    let output = apt.install();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        text.contains("failed apt-get install") && text.contains(PACKAGE),
        "{text}"
    );
    assert!(begun.elapsed() < Duration::from_secs(30));
}
