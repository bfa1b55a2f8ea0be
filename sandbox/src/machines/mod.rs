//! The machines behind EC2's instances: real systems under systemd-nspawn, which follow the API.
//! One task per machine carries it from state to state, so that several boot at once. `step`
//! decides what is next, without effects; `disk`, `control_group` and `container` have one effect
//! each.

mod container;
pub mod control_group;
mod disk;
mod first_boot;
mod machine;
mod step;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::aws::{Hypervisor, Instance, World};
use crate::paths::Paths;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineStatus {
    /// The `infra:name` or `Name` tag, if any.
    pub name: Option<String>,
    /// EC2's name of the state that the machine is really in.
    pub state: String,
    pub zone: String,
    /// Private address first.
    pub addresses: Vec<String>,
    /// Process id of the machine's init on this computer.
    pub leader: Option<i32>,
    /// The reason why the machine is not as the API wants it.
    pub problem: Option<String>,
}

/// The reports of all machines; `changed` wakes the task that publishes them.
#[derive(Debug, Default)]
pub struct Board {
    lines: Mutex<BTreeMap<String, MachineStatus>>,
    pub changed: tokio::sync::Notify,
}

impl Board {
    pub fn lines(&self) -> BTreeMap<String, MachineStatus> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, instance: &str, line: Option<MachineStatus>) {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        match line {
            Some(line) => lines.insert(instance.to_owned(), line),
            None => lines.remove(instance),
        };
        drop(lines);
        self.changed.notify_one();
    }
}

/// The parts of the sandbox that every machine uses.
#[derive(Debug)]
pub struct Site {
    pub paths: Paths,
    /// This run's id, which every process carries in its environment.
    pub id: String,
    pub hypervisor: Hypervisor,
    pub board: Arc<Board>,
    /// Rises whenever a machine gets an address: all machines then forget who had it before.
    pub moved: watch::Sender<u64>,
    /// A machine's apt is busy with its own upkeep after the first boot.
    pub busy_apt: bool,
}

/// Follows the API's world until it is dropped; machines then end with the supervisor.
pub async fn follow(site: Arc<Site>) {
    let mut known: HashMap<String, watch::Sender<Option<Instance>>> = HashMap::new();
    let mut tasks = JoinSet::new();
    let mut version = 0;
    loop {
        let world = match site.hypervisor.world(version).await {
            Ok(world) => world,
            Err(error) => {
                tracing::warn!("{error:#}");
                tokio::time::sleep(Duration::from_millis(500)).await;
                continue;
            }
        };
        version = world.version;
        distribute(&site, &mut known, &mut tasks, world);
        while tasks.try_join_next().is_some() {}
    }
}

/// Hands each machine its instance, and starts a task for each new one.
fn distribute(
    site: &Arc<Site>,
    known: &mut HashMap<String, watch::Sender<Option<Instance>>>,
    tasks: &mut JoinSet<()>,
    world: World,
) {
    let mut wanted: HashMap<String, Instance> = world
        .instances
        .into_iter()
        .map(|instance| (instance.id.clone(), instance))
        .collect();
    known.retain(|id, sender| {
        let instance = wanted.remove(id);
        sender.send_if_modified(|current| {
            let different = *current != instance;
            if different {
                current.clone_from(&instance);
            }
            different
        });
        !sender.is_closed()
    });
    for (id, instance) in wanted {
        if instance.state == "terminated" {
            continue;
        }
        tracing::info!("{id}: new, {}", instance.state);
        let (sender, receiver) = watch::channel(Some(instance));
        tasks.spawn(machine::run(id.clone(), receiver, Arc::clone(site)));
        known.insert(id, sender);
    }
}

/// Returns the private address first, then public and elastic ones.
fn addresses_of(instance: &Instance) -> Vec<String> {
    instance.private_ip.iter().chain(&instance.addresses).cloned().collect()
}
