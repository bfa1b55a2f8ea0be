//! Who is still connected to the source, and which of them could write.

use crate::error::{Error, Result};
use crate::redis::clients::Baseline;
use crate::redis::connection::{Connection, own_name};
use crate::redis::control::{self, Client};
use crate::ui::Step;
use crate::wait::{Instant, Look, Wait};
use std::time::Duration;

/// How often severed clients may come back before it is said that they do not go.
const SEVERING: Duration = Duration::from_secs(20);

/// How long nobody may be there and nothing be written, on a source that cannot hold anybody back.
const AWAY: Duration = Duration::from_secs(1);

/// What only looks: a provider's own agents, and people. An idle connection of an app shows its last command, so one of these is none of an app's.
const LOOKING: [&str; 14] = [
    "info", "client", "config", "slowlog", "memory", "latency", "dbsize", "role", "command", "acl", "monitor",
    "lastsave", "cluster", "replconf",
];

/// Clients that are neither ours, nor part of replication, nor only looking, nor of the baseline. They may write, now or when a pause ends. Pure.
pub fn may_write<'a>(clients: &'a [Client], own: u64, baseline: &Baseline) -> Vec<&'a Client> {
    let writers = clients
        .iter()
        .filter(|client| is_strange(client, own) && !only_looks(client));
    baseline.strangers(writers)
}

/// The provider's own agents and people who look: whoever does only that while the app still runs. They never leave, and nobody waits for them.
pub fn baseline(clients: &[Client], own: u64) -> Baseline {
    Baseline::of(
        clients
            .iter()
            .filter(|client| is_strange(client, own) && only_looks(client)),
    )
}

fn is_strange(client: &Client, own: u64) -> bool {
    client.id != own && client.name != own_name() && !client.is_replication()
}

fn only_looks(client: &Client) -> bool {
    let command = client.cmd.split('|').next().unwrap_or_default();
    LOOKING.contains(&command) && !matches!(client.cmd.as_str(), "client|setname" | "client|setinfo" | "client|id")
}

/// Who is connected and may write, in words; empty for nobody.
pub async fn left(source: &mut Connection, baseline: &Baseline) -> Result<String> {
    let own = control::own_id(source).await?;
    let clients = control::clients(source).await?;
    let left = may_write(&clients, own, baseline);
    Ok(if left.is_empty() {
        String::new()
    } else {
        describe(&left)
    })
}

/// Waits until whoever may write has gone and stays away, for a source that cannot hold them back. Not before `end`, until when a process that was asked to stop
/// may still live unseen; then whoever is left is severed once, and that somebody comes back is an error that names him. `quiet` says for how long nothing was written.
pub async fn await_gone(
    source: &mut Connection,
    baseline: &Baseline,
    end: Instant,
    quiet: impl Fn() -> Result<Option<Duration>>,
    step: &Step,
) -> Result<usize> {
    let patience = end.remaining();
    await_none(source, baseline, patience, step).await?;
    while !end.has_passed() {
        step.update(format!(
            "processes that were stopped may live for {} s more",
            end.remaining().as_secs()
        ));
        tokio::time::sleep(end.remaining().min(Duration::from_secs(1))).await;
    }
    let own = control::own_id(source).await?;
    let clients = control::clients(source).await?;
    let ids: Vec<u64> = may_write(&clients, own, baseline)
        .iter()
        .map(|client| client.id)
        .collect();
    let severed = match ids.is_empty() {
        true => 0,
        false => control::kill_clients(source, &ids).await?,
    };
    // Who connects for a single command is seldom seen among the clients; what he writes is seen in the stream.
    let begun = Instant::now();
    loop {
        let left = left(source, baseline).await?;
        let silent = quiet()?.is_none_or(|quiet| quiet >= AWAY);
        if left.is_empty() && silent && begun.elapsed() >= AWAY {
            return Ok(severed);
        }
        if begun.elapsed() >= 3 * AWAY {
            let who = match left.is_empty() {
                true => "somebody who connects for single commands".to_string(),
                false => left,
            };
            return Err(Error::unproven(format!(
                "keep everybody from {}: the app is stopped, and there is still {who}",
                source.place()
            ))
            .hint("one-off and scheduled processes keep the old URL: stop them, or whatever else that is, then run the same command again"));
        }
        step.update("listening for anybody who is left");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Waits until nobody who may write is connected; gives how many are left at the deadline.
pub async fn await_none(
    source: &mut Connection,
    baseline: &Baseline,
    deadline: Duration,
    step: &Step,
) -> Result<usize> {
    let own = control::own_id(source).await?;
    let end = Instant::now().after(deadline);
    loop {
        let clients = control::clients(source).await?;
        let left = may_write(&clients, own, baseline);
        if left.is_empty() || end.has_passed() {
            return Ok(left.len());
        }
        step.update(format!("{} clients of the app are still on the source", left.len()));
        tokio::time::sleep(Duration::from_millis(200).min(end.remaining())).await;
    }
}

/// Severs whoever may write until nobody comes back. The pause must still run: whoever reconnects waits with its writes.
pub async fn sever(source: &mut Connection, baseline: &Baseline, step: &Step) -> Result<usize> {
    let own = control::own_id(source).await?;
    let severed = std::sync::atomic::AtomicUsize::new(0);
    let wait = Wait {
        what: "the app's last clients to leave the source",
        deadline: SEVERING,
        hint: "stop what still connects there (one-off and scheduled processes keep the old URL), then run the same command again; until then the source stays paused",
        first_pause: Duration::from_millis(300),
    };
    wait.until(step, || {
        let mut source = source.clone();
        let severed = &severed;
        async move {
            let clients = control::clients(&mut source).await?;
            let left = may_write(&clients, own, baseline);
            if left.is_empty() {
                return Ok(Look::Ready(()));
            }
            let ids: Vec<u64> = left.iter().map(|client| client.id).collect();
            let count = control::kill_clients(&mut source, &ids).await?;
            severed.fetch_add(count, std::sync::atomic::Ordering::Relaxed);
            Ok(Look::NotYet(describe(&left)))
        }
    })
    .await
    .map_err(|error: Error| error.with_kind(crate::error::Kind::Partial))?;
    Ok(severed.into_inner())
}

fn describe(clients: &[&Client]) -> String {
    let shown: Vec<String> = clients
        .iter()
        .take(3)
        .map(|client| format!("{} ({})", client.addr, client.cmd))
        .collect();
    format!("{} clients: {}", clients.len(), shown.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(id: u64, cmd: &str, flags: &str) -> Client {
        Client {
            id,
            addr: "192.0.2.1:1".into(),
            name: String::new(),
            user: "default".into(),
            cmd: cmd.into(),
            flags: flags.into(),
            lib: String::new(),
            db: 0,
            age_seconds: 1,
            idle_seconds: 1,
        }
    }

    #[test]
    fn agents_replicas_and_ourselves_do_not_count() {
        let clients = [
            client(1, "client|list", "N"),
            client(2, "info", "N"),
            client(3, "replconf", "S"),
            client(4, "set", "N"),
            client(5, "blpop", "b"),
            client(6, "NULL", "N"),
            client(7, "client|setname", "N"),
            client(8, "ping", "N"),
        ];
        let left: Vec<u64> = may_write(&clients, 1, &Baseline::default())
            .iter()
            .map(|client| client.id)
            .collect();
        assert_eq!(left, [4, 5, 6, 7, 8]);
    }

    #[test]
    fn an_agent_of_the_baseline_may_do_more_than_look_later() {
        let before = [client(2, "info", "N"), client(4, "set", "N")];
        let baseline = baseline(&before, 1);
        let later = [client(9, "get", "N")];
        assert!(may_write(&later, 1, &baseline).is_empty());
        let two = [client(9, "get", "N"), client(10, "set", "N")];
        assert_eq!(may_write(&two, 1, &baseline).len(), 1);
    }
}
