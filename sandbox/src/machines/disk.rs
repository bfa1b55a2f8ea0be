//! A machine's disk: the image below, a lasting folder above, joined by overlayfs.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::paths::Paths;

/// The disk of one instance; its content lasts until `remove`.
#[derive(Debug)]
pub struct Disk {
    folder: PathBuf,
    image: PathBuf,
}

impl Disk {
    /// Returns the disk of an instance; makes nothing yet.
    pub fn of(paths: &Paths, instance: &str) -> Self {
        Self {
            folder: paths.machines().join(instance),
            image: crate::image::folder(paths),
        }
    }

    /// Returns the mounted root file system.
    pub fn root(&self) -> PathBuf {
        self.folder.join("root")
    }

    /// Returns the folder of what belongs to the machine beside its disk.
    pub fn folder(&self) -> &PathBuf {
        &self.folder
    }

    pub fn mount(&self) -> Result<()> {
        let root = self.root();
        for part in ["upper", "work", "root"] {
            let part = self.folder.join(part);
            fs::create_dir_all(&part).with_context(|| format!("make {}", part.display()))?;
        }
        // The root of a system must be open to its users, whatever this process's umask.
        let permissions = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(self.folder.join("upper"), permissions).context("open the disk's root folder")?;
        if root.join("usr").is_dir() {
            return Ok(());
        }
        let options = format!(
            "lowerdir={},upperdir={},workdir={}",
            self.image.display(),
            self.folder.join("upper").display(),
            self.folder.join("work").display()
        );
        mount(
            Some("overlay"),
            &root,
            Some("overlay"),
            MsFlags::empty(),
            Some(options.as_str()),
        )
        .with_context(|| {
            format!(
                "mount the disk {} (overlayfs needs a file system such as ext4 or xfs below the state folder)",
                root.display()
            )
        })
    }

    /// Unmounts it and keeps the content.
    pub fn unmount(&self) -> Result<()> {
        let root = self.root();
        if !root.join("usr").is_dir() {
            return Ok(());
        }
        umount2(&root, MntFlags::MNT_DETACH).with_context(|| format!("unmount the disk {}", root.display()))
    }

    pub fn remove(&self) -> Result<()> {
        self.unmount()?;
        crate::files::remove_tree(&self.folder)
    }
}
