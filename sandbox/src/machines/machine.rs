//! Carries one machine from state to state, as its instance wants.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::sync::watch;

use super::container::{Container, End, Start};
use super::disk::Disk;
use super::step::{Step, next};
use super::{MachineStatus, Site, addresses_of, control_group, first_boot};
use crate::aws::{Instance, authority};
use crate::delay::Delay;
use crate::metadata;
use crate::network::{self, Acl, Namespace, Rule};

/// An idle system shuts down in about a second; databases get their time to save.
const STOP_PATIENCE: Duration = Duration::from_secs(30);
/// Short, since the disk is removed anyway.
const TERMINATE_PATIENCE: Duration = Duration::from_secs(3);
/// After this a reboot that was asked for is forced, as EC2 does after minutes.
const REBOOT_PATIENCE: Duration = Duration::from_secs(30);
/// How often to look whether the machine's root has flushed its ingress rules.
const RULES_CHECK: Duration = Duration::from_secs(2);

/// The services of a machine beside its system while it is up.
struct Surroundings {
    namespace: Namespace,
    metadata: metadata::Server,
    addresses: Vec<String>,
    rules: Vec<Rule>,
    acl: Option<Acl>,
}

struct Machine {
    id: String,
    site: Arc<Site>,
    disk: Disk,
    surroundings: Option<Surroundings>,
    container: Option<Container>,
    boots_done: u64,
    problem: Option<String>,
}

/// Runs until the instance is terminated or forgotten.
pub async fn run(id: String, mut instance: watch::Receiver<Option<Instance>>, site: Arc<Site>) {
    let mut moved = site.moved.subscribe();
    let disk = Disk::of(&site.paths, &id);
    let mut machine = Machine {
        id,
        site,
        disk,
        surroundings: None,
        container: None,
        boots_done: 0,
        problem: None,
    };
    let mut rules_check = tokio::time::interval(RULES_CHECK);
    loop {
        let wanted = instance.borrow_and_update().clone();
        let finished = machine.advance(wanted.as_ref()).await;
        machine.publish(wanted.as_ref(), finished);
        if finished {
            return;
        }
        let up = machine.container.is_some();
        tokio::select! {
            changed = instance.changed() => if changed.is_err() { return },
            end = ended(&mut machine.container) => machine.after_end(end, wanted.as_ref()).await,
            _ = rules_check.tick(), if up => machine.keep_rules().await,
            _ = moved.changed(), if up => machine.forget_neighbours().await,
        }
    }
}

async fn ended(container: &mut Option<Container>) -> End {
    match container {
        Some(container) => container.ended().await,
        None => pending().await,
    }
}

/// Makes everybody forget which machine had an address before.
async fn announce_addresses(site: &Site) {
    network::forget_neighbours().await;
    Delay::forget_neighbours().await;
    site.moved.send_modify(|count| *count += 1);
}

impl Machine {
    /// Does what the instance asks for. Returns whether the machine is gone for good.
    async fn advance(&mut self, wanted: Option<&Instance>) -> bool {
        let state = wanted.map(|instance| instance.state.as_str());
        let boots_wanted = wanted.map_or(0, |instance| instance.boot_count_wanted);
        let step = next(state, self.container.is_some(), boots_wanted, self.boots_done);
        match (step, wanted) {
            (Step::Boot, Some(instance)) => {
                if let Err(error) = self.boot(instance).await {
                    self.give_up(&error).await;
                    return false;
                }
                self.acknowledge("running").await;
            }
            (Step::SayRunning, Some(instance)) => {
                self.update(instance).await;
                self.acknowledge("running").await;
            }
            (Step::Update, Some(instance)) => self.update(instance).await,
            (Step::Reboot, Some(instance)) => {
                self.update(instance).await;
                self.reboot(instance).await;
            }
            (Step::Stop, _) => {
                self.stop(STOP_PATIENCE).await;
                self.acknowledge("stopped").await;
            }
            (Step::Terminate, _) => {
                self.destroy().await;
                self.acknowledge("terminated").await;
                return true;
            }
            (Step::Forget, _) => {
                self.destroy().await;
                return true;
            }
            _ => {}
        }
        false
    }

    /// Prepares disk, network, metadata service and rules, and then starts the system.
    async fn boot(&mut self, instance: &Instance) -> Result<()> {
        let started = tokio::time::Instant::now();
        self.problem = None;
        self.boots_done = instance.boot_count_wanted;
        self.disk.mount()?;
        authority::trust(&self.site.paths, &self.disk.root())?;
        let resolver = self.disk.root().join("etc/resolv.conf");
        let server = format!("nameserver {}\n", network::BRIDGE_ADDRESS);
        std::fs::write(resolver, server).context("tell the machine its name server")?;
        if self.site.busy_apt {
            first_boot::keep_apt_busy(&self.disk.root())?;
        }
        if self.surroundings.is_none() {
            self.surroundings = Some(self.surround(instance).await?);
        }
        self.start_system(instance).await?;
        tracing::info!("{}: system started after {} ms", self.id, started.elapsed().as_millis());
        Ok(())
    }

    async fn surround(&self, instance: &Instance) -> Result<Surroundings> {
        let mac = instance
            .mac
            .as_deref()
            .context("the AWS part gave the instance no network interface")?;
        let private = instance
            .private_ip
            .as_deref()
            .context("the AWS part gave the instance no private address")?;
        let namespace = Namespace::create(&self.id, mac).await?;
        let made = async {
            namespace.set_addresses(private, &instance.addresses).await?;
            namespace.firewall(&instance.ingress, instance.acl.as_ref()).await?;
            announce_addresses(&self.site).await;
            metadata::serve(&namespace, instance.clone(), self.site.hypervisor.clone()).await
        };
        match made.await {
            Ok(metadata) => Ok(Surroundings {
                namespace,
                metadata,
                addresses: addresses_of(instance),
                rules: instance.ingress.clone(),
                acl: instance.acl.clone(),
            }),
            Err(error) => {
                let _ = namespace.remove().await;
                Err(error)
            }
        }
    }

    async fn start_system(&mut self, instance: &Instance) -> Result<()> {
        let surroundings = self.surroundings.as_ref().context("the machine has no network")?;
        let private = instance.private_ip.as_deref().unwrap_or_default();
        let start = Start {
            instance: &self.id,
            root: &self.disk.root(),
            folder: self.disk.folder(),
            log: &self.site.paths.logs().join(format!("{}.log", self.id)),
            namespace: &surroundings.namespace.path(),
            hostname: &format!("ip-{}", private.replace('.', "-")),
            sandbox: &self.site.id,
            memory_mib: instance.memory_mib,
            state_folder: self.site.paths.state(),
        };
        self.container = Some(Container::start(&start).await?);
        Ok(())
    }

    /// Logs a failure that the machine survives.
    fn survive(&self, result: Result<()>) {
        if let Err(error) = result {
            tracing::error!("{}: {error:#}", self.id);
        }
    }

    /// Makes addresses, rules and metadata follow the instance.
    async fn update(&mut self, instance: &Instance) {
        let Some(surroundings) = self.surroundings.as_mut() else {
            return;
        };
        surroundings.metadata.update(instance.clone());
        let addresses = addresses_of(instance);
        let changed = async {
            if surroundings.addresses != addresses {
                let private = instance
                    .private_ip
                    .as_deref()
                    .context("the instance has no private address")?;
                surroundings
                    .namespace
                    .set_addresses(private, &instance.addresses)
                    .await?;
                surroundings.addresses = addresses;
                announce_addresses(&self.site).await;
            }
            if surroundings.rules != instance.ingress || surroundings.acl != instance.acl {
                let (rules, acl) = (&instance.ingress, &instance.acl);
                surroundings.namespace.firewall(rules, acl.as_ref()).await?;
                (surroundings.rules, surroundings.acl) = (rules.clone(), acl.clone());
            }
            anyhow::Ok(())
        };
        self.problem = changed.await.err().map(|error| {
            tracing::error!("{}: {error:#}", self.id);
            format!("{error:#}")
        });
    }

    async fn reboot(&mut self, instance: &Instance) {
        self.boots_done = instance.boot_count_wanted;
        let Some(container) = self.container.as_mut() else {
            return;
        };
        container.ask_reboot();
        if tokio::time::timeout(REBOOT_PATIENCE, container.ended()).await.is_err() {
            tracing::warn!(
                "{}: not down {} s after it was asked to reboot: forced",
                self.id,
                REBOOT_PATIENCE.as_secs()
            );
        }
        self.after_end(End::Reboot, Some(instance)).await;
    }

    /// Handles a system that ended by itself: boots it after a reboot, else stops the instance.
    async fn after_end(&mut self, end: End, wanted: Option<&Instance>) {
        if let Some(mut container) = self.container.take() {
            container.kill().await;
        }
        match (end, wanted) {
            (End::Reboot, Some(instance)) => {
                if let Err(error) = self.start_system(instance).await {
                    self.give_up(&error).await;
                }
            }
            _ => {
                self.stop(STOP_PATIENCE).await;
                self.acknowledge("stopped").await;
            }
        }
    }

    async fn keep_rules(&mut self) {
        let Some(surroundings) = &self.surroundings else { return };
        if !surroundings.namespace.has_firewall().await {
            tracing::info!("{}: its ingress rules were flushed from inside: set again", self.id);
            let (rules, acl) = (&surroundings.rules, surroundings.acl.as_ref());
            self.survive(surroundings.namespace.firewall(rules, acl).await);
        }
    }

    async fn forget_neighbours(&self) {
        if let Some(surroundings) = &self.surroundings {
            surroundings.namespace.forget_neighbours().await;
        }
    }

    /// Removes system, network and mount; the disk's content stays.
    async fn stop(&mut self, patience: Duration) {
        if let Some(container) = self.container.take() {
            container.shut_down(patience).await;
        }
        if let Some(surroundings) = self.surroundings.take() {
            surroundings.metadata.stop().await;
            self.survive(surroundings.namespace.remove().await);
        }
        self.survive(self.disk.unmount());
    }

    async fn destroy(&mut self) {
        self.stop(TERMINATE_PATIENCE).await;
        control_group::remove(Some(&self.id));
        self.survive(self.disk.remove());
    }

    /// Terminates a machine that cannot be brought up, as EC2 does, and reports the reason.
    async fn give_up(&mut self, error: &anyhow::Error) {
        tracing::error!("{}: boot: {error:#}", self.id);
        self.problem = Some(format!("{error:#}"));
        self.destroy().await;
        self.acknowledge("terminated").await;
    }

    async fn acknowledge(&self, state: &str) {
        tracing::info!("{}: {state}", self.id);
        self.survive(self.site.hypervisor.acknowledge(&self.id, state).await);
    }

    fn publish(&self, wanted: Option<&Instance>, finished: bool) {
        let line = wanted
            .filter(|_| !finished || self.problem.is_some())
            .map(|instance| MachineStatus {
                name: ["infra:name", "Name"]
                    .iter()
                    .find_map(|key| instance.tags.get(*key))
                    .cloned(),
                state: if self.container.is_some() { "running" } else { "stopped" }.to_owned(),
                zone: instance.zone.clone(),
                addresses: addresses_of(instance),
                leader: self.container.as_ref().map(Container::leader),
                problem: self.problem.clone(),
            });
        self.site.board.set(&self.id, line);
    }
}
