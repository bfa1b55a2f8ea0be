//! The image of every machine: Debian 13 with cloud-init and a package repository of its own.
//!
//! A build happens once, beside the image's final place in the cache folder, and is renamed when
//! complete. So an interrupted build is never taken for an image. The name holds the hash of
//! everything that the image is made from, so different versions of this program keep their own.

pub(crate) mod apt_sources;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use crate::paths::Paths;

const SUITE: &str = "trixie";
const PROVISION: &str = include_str!("../../image/provision.sh");
const ENTER: &str = include_str!("../../image/enter.sh");
const PACKAGES: &str = include_str!("../../image/packages.txt");
const CLOUD_CONFIGURATION: &str = include_str!("../../image/cloud.cfg");
const DATA_SOURCE: &str = include_str!("../../image/ds-identify.cfg");

/// The packages that debootstrap puts in; cloud-init follows by apt, since debootstrap leaves it unconfigured.
const BASE_PACKAGES: &str = "systemd,systemd-sysv,dbus,openssh-server,iproute2,ca-certificates,sudo,nftables,kmod,udev";

/// Where the image keeps what the sandbox put into it.
const OWN_FOLDER: &str = "usr/share/infra-sandbox";
/// How long an image of another recipe is kept for a program that may still use it.
const KEPT: Duration = Duration::from_secs(3 * 24 * 3600);
/// Stands in for /sys/hypervisor/uuid, by which cloud-init knows EC2.
const HYPERVISOR_UUID: &str = "/usr/share/infra-sandbox/hypervisor-uuid";

/// Builds the image unless it is there and complete. `say` gets one line for each step.
pub fn ensure(paths: &Paths, say: &dyn Fn(&str)) -> Result<PathBuf> {
    let image = folder(paths);
    if image.exists() {
        return Ok(image);
    }
    let started = Instant::now();
    say("building the machines' image: Debian 13 with cloud-init and packages for hosts; about two minutes, once");
    fs::create_dir_all(paths.cache()).with_context(|| format!("make {}", paths.cache().display()))?;
    remove_leftovers(paths)?;
    let unfinished = paths.cache().join(format!("image.unfinished.{}", std::process::id()));
    build(&unfinished, paths, say)
        .with_context(|| format!("build the machines' image (details in {})", log_file(paths).display()))?;
    nix::unistd::sync();
    fs::rename(&unfinished, &image).context("put the image in its place")?;
    say(&format!(
        "image ready after {} s: {}",
        started.elapsed().as_secs(),
        image.display()
    ));
    Ok(image)
}

/// Returns the image's root file system, which is complete or absent.
pub fn folder(paths: &Paths) -> PathBuf {
    paths.cache().join(format!("image-{}", &recipe_hash()[..12]))
}

/// Returns the hash of everything that the image is made from.
fn recipe_hash() -> String {
    let mut hash = Sha256::new();
    for part in [
        SUITE,
        BASE_PACKAGES,
        PROVISION,
        ENTER,
        PACKAGES,
        CLOUD_CONFIGURATION,
        DATA_SOURCE,
        std::env::consts::ARCH,
    ] {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hex::encode(hash.finalize())
}

fn log_file(paths: &Paths) -> PathBuf {
    paths.cache().join("image.log")
}

/// Removes what killed builds left, and images that nobody has used for long.
fn remove_leftovers(paths: &Paths) -> Result<()> {
    for entry in fs::read_dir(paths.cache()).context("list the cache folder")? {
        let entry = entry.context("list the cache folder")?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_old = || {
            entry
                .metadata()
                .and_then(|data| data.modified())
                .is_ok_and(|time| time.elapsed().is_ok_and(|age| age > KEPT))
        };
        if name.starts_with("image.unfinished.") || (name.starts_with("image-") && is_old()) {
            crate::files::remove_tree(&entry.path())?;
        }
    }
    Ok(())
}

fn build(root: &Path, paths: &Paths, say: &dyn Fn(&str)) -> Result<()> {
    let sources = apt_sources::of_this_computer();
    fs::create_dir_all(root).context("make the image's folder")?;

    say("image: base system (debootstrap)");
    let mut debootstrap = inside_own_mounts();
    debootstrap
        .arg("debootstrap")
        .arg("--variant=minbase")
        .arg(format!("--include={BASE_PACKAGES}"))
        .arg(SUITE)
        .arg(root);
    // Without a Debian source on this computer, debootstrap uses its own.
    debootstrap.args(&sources.mirror);
    run_logged(debootstrap, paths, &|line| {
        if let Some(step) = line.strip_prefix("I: ").filter(|step| is_milestone(step)) {
            say(&format!("image: {step}"));
        }
    })?;

    let own = root.join(OWN_FOLDER);
    fs::create_dir_all(&own).context("make the image's own folder")?;
    for (path, content) in [
        (own.join("packages.txt"), PACKAGES),
        (own.join("provision.sh"), PROVISION),
        (
            root.join(HYPERVISOR_UUID.trim_start_matches('/')),
            "ec2d1f3a-0000-4000-8000-000000000000\n",
        ),
        (
            root.join("etc/cloud/cloud.cfg.d/99-infra-sandbox.cfg"),
            CLOUD_CONFIGURATION,
        ),
        (root.join("etc/cloud/ds-identify.cfg"), DATA_SOURCE),
        (root.join("etc/apt/apt.conf.d/00infra-sandbox-build"), &sources.settings),
    ] {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
        }
        fs::write(&path, content).with_context(|| format!("write {}", path.display()))?;
    }
    fs::copy("/etc/resolv.conf", root.join("etc/resolv.conf")).context("copy /etc/resolv.conf for the build")?;

    let mut provision = inside_own_mounts();
    provision
        .args(["sh", "-c", ENTER, "enter.sh"])
        .arg(root)
        .args(["/usr/share/infra-sandbox/provision.sh", HYPERVISOR_UUID]);
    run_logged(provision, paths, &|line| {
        if let Some(step) = line.strip_prefix("# step: ") {
            say(&format!("image: {step}"));
        }
    })
}

fn is_milestone(step: &str) -> bool {
    [
        "Extracting packages",
        "Installing core packages",
        "Installing base system",
        "Configuring systemd...",
    ]
    .iter()
    .any(|start| step.starts_with(start.trim_end_matches("...")))
}

/// Returns a command whose mounts and children end with it, and which ends with this process.
fn inside_own_mounts() -> Command {
    let mut command = Command::new("setpriv");
    command.args([
        "--pdeathsig",
        "KILL",
        "unshare",
        "--mount",
        "--pid",
        "--fork",
        "--kill-child",
        "--",
    ]);
    command.env("PATH", crate::tools::search_path()).env("LC_ALL", "C");
    command
}

/// Runs a command with its output in the image's log; `watch` gets each line.
fn run_logged(mut command: Command, paths: &Paths, watch: &dyn Fn(&str)) -> Result<()> {
    use std::io::Write;
    let (mut log, errors) = crate::files::log(&log_file(paths))?;
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(errors)
        .spawn()
        .context("start setpriv and unshare")?;
    let output = child.stdout.take().context("read the build's output")?;
    let mut last = Vec::new();
    for line in BufReader::new(output).lines() {
        let line = line.context("read the build's output")?;
        watch(&line);
        writeln!(log, "{line}").context("write the image's log")?;
        last.push(line);
        if last.len() > 5 {
            last.remove(0);
        }
    }
    let status = child.wait().context("wait for the build")?;
    if !status.success() {
        bail!(
            "the build ended with {status}; its last lines:\n  {}",
            last.join("\n  ")
        );
    }
    Ok(())
}
