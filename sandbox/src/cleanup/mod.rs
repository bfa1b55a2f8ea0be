//! Finds and removes whatever a sandbox left: processes, control groups, mounts, network, files.
//!
//! It does not rely on a list of what was made. It knows the sandbox's own by the id and the state
//! folder in a process's environment, by names that begin with `infra-sb`, and by mounts below the
//! state folder. So it serves `down`, and `up` after a supervisor was killed.

mod links;
mod processes;

use crate::files::remove_tree;
use crate::machines::control_group;
use crate::paths::Paths;
use crate::record::Record;
use crate::{mounts, network};

pub use processes::{carries_id, is_running};

/// The fate of the state folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Files {
    Keep,
    Remove,
}

/// Removes everything, looks again, and returns the names of what is still there.
pub async fn sweep(paths: &Paths, files: Files) -> Vec<String> {
    let owner = Owner {
        state: paths.state().to_string_lossy().into_owned(),
        id: Record::read(paths).map(|record| record.id),
        // Names of bridge and namespaces do not contain the run: another sandbox may own them.
        has_network: network::owner().is_none_or(|owner| owner == paths.state().to_string_lossy()),
    };
    processes::kill_all(&owner).await;
    if owner.has_network {
        control_group::remove(None);
    }
    mounts::unmount_below(paths.state());
    if owner.has_network {
        links::remove_all().await;
    }
    if files == Files::Remove
        && paths.state_mark().exists()
        && let Err(error) = remove_tree(paths.state())
    {
        return vec![format!("{error:#}")];
    }
    left_over(paths, &owner, files).await
}

/// The run whose things are looked for.
struct Owner {
    state: String,
    id: Option<String>,
    has_network: bool,
}

async fn left_over(paths: &Paths, owner: &Owner, files: Files) -> Vec<String> {
    let mut left = Vec::new();
    left.extend(
        processes::of(owner)
            .into_iter()
            .map(|pid| format!("process {pid} ({})", processes::command_of(pid))),
    );
    left.extend(
        mounts::below(paths.state())
            .into_iter()
            .map(|mount| format!("mount {}", mount.display())),
    );
    if owner.has_network {
        left.extend(links::left_over().await);
        left.extend(
            control_group::left_over()
                .into_iter()
                .map(|group| format!("control group {}", group.display())),
        );
    }
    if files == Files::Remove && paths.state_mark().exists() {
        left.push(format!("files in {}", paths.state().display()));
    }
    left
}

impl Record {
    /// Returns whether its supervisor runs. The process id may belong to another process by now.
    pub fn supervisor_lives(&self) -> bool {
        self.supervisor.is_some_and(|pid| carries_id(pid, &self.id))
    }
}
