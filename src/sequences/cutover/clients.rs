//! Finds who is still connected to the source, and which of them could write.

use crate::effects::redis::clients::Baseline;
use crate::effects::redis::connection::{Connection, own_name};
use crate::effects::redis::control::{self, Client};
use crate::effects::wait::Pauses;
use crate::model::clock::Instant;
use crate::model::error::{Error, Result};
use crate::ui::Step;
use infra_agent::copy::CLIENT_NAME;
use std::time::Duration;

/// How long disconnected clients may come back before that is an error.
const DISCONNECTING: Duration = Duration::from_secs(20);

/// Commands of clients that only look: a provider's own agents, and people.
const LOOKING: [&str; 14] = [
    "info", "client", "config", "slowlog", "memory", "latency", "dbsize", "role", "command", "acl", "monitor",
    "lastsave", "cluster", "replconf",
];

/// Commands that every client sends before it does anything, or to keep a connection alive.
const GREETINGS: [&str; 12] = [
    "NULL",
    "auth",
    "hello",
    "ping",
    "echo",
    "select",
    "quit",
    "reset",
    "client|setname",
    "client|setinfo",
    "client|id",
    "client|getname",
];

/// Returns the clients that may write, now or when a pause ends: all but ours, those of
/// replication, and known onlookers that still only look. Pure.
pub fn may_write<'a>(clients: &'a [Client], own: u64, onlookers: &Baseline) -> Vec<&'a Client> {
    let strange = clients.iter().filter(|client| is_strange(client, own));
    let (quiet, mut left): (Vec<&Client>, Vec<&Client>) =
        strange.partition(|client| (only_looks(client) || does_nothing(client)) && !client.is_blocked());
    left.extend(onlookers.strangers(quiet));
    left.sort_by_key(|client| client.id);
    left
}

pub(super) fn is_strange(client: &Client, own: u64) -> bool {
    let is_ours = client.name == own_name() || client.name == CLIENT_NAME;
    client.id != own && !is_ours && !client.is_replication()
}

/// Returns true if the last command of a client was a look.
pub(super) fn only_looks(client: &Client) -> bool {
    let command = client.cmd.split('|').next().unwrap_or_default();
    LOOKING.contains(&command) && !does_nothing(client)
}

/// Returns true if the last command of a client says nothing about its purpose.
pub(super) fn does_nothing(client: &Client) -> bool {
    GREETINGS.contains(&client.cmd.as_str())
}

/// Describes who is connected and may write; `None` for nobody.
pub async fn left(source: &mut Connection, baseline: &Baseline) -> Result<Option<String>> {
    if baseline.is_hidden() {
        return Ok(None);
    }
    let own = control::own_id(source).await?;
    let clients = control::clients(source).await?;
    let left = may_write(&clients, own, baseline);
    Ok((!left.is_empty()).then(|| describe(&left)))
}

/// Waits until all who may write are gone and stay away, for a source without a pause. First it
/// waits until `end`: processes that were asked to stop may live until then. It disconnects once;
/// who comes back is named in an error. `quiet` says for how long nothing was written.
pub async fn await_gone(
    source: &mut Connection,
    baseline: &Baseline,
    end: Instant,
    quiet: impl Fn() -> Result<Option<Duration>>,
    away: Duration,
    step: &Step,
) -> Result<usize> {
    await_grace(source, baseline, end, step).await?;
    if baseline.is_hidden() {
        return Ok(0);
    }
    let own = control::own_id(source).await?;
    let clients = control::clients(source).await?;
    let ids: Vec<u64> = may_write(&clients, own, baseline)
        .iter()
        .map(|client| client.id)
        .collect();
    let ended = control::kill_clients(source, &ids).await?;
    // A client that connects for a single command is seldom listed; its writes are in the stream.
    let mut pauses = Pauses::even(3 * away.max(Duration::from_secs(1)), Duration::from_millis(100));
    let mut unseen = Unseen::begin();
    loop {
        let left = left(source, baseline).await?;
        let silent = quiet()?.is_none_or(|quiet| quiet >= away);
        if unseen.look(left.is_none()) >= away && silent {
            return Ok(ended);
        }
        step.update("listening for anybody who is left");
        if !pauses.again().await {
            let who = left.unwrap_or_else(|| "somebody who connects for single commands".into());
            return Err(Error::unproven(format!(
                "keep everybody from {}: the app is stopped, and there is still {who}",
                source.place()
            ))
            .hint("one-off and scheduled processes keep the old URL: stop them, or whatever else that is, then run the same command again"));
        }
    }
}

/// Counts for how long nobody was seen. Between two looks it counts half a second at most, since a
/// computer that stood still has seen nothing.
struct Unseen {
    counted: Duration,
    looked: Instant,
}

impl Unseen {
    fn begin() -> Self {
        Unseen {
            counted: Duration::ZERO,
            looked: Instant::now(),
        }
    }

    /// Notes a look, and returns for how long nobody was seen.
    fn look(&mut self, nobody: bool) -> Duration {
        let since = self.looked.elapsed().min(Duration::from_millis(500));
        self.counted = if nobody { self.counted + since } else { Duration::ZERO };
        self.looked = Instant::now();
        self.counted
    }
}

/// Waits until `end`: a process that was asked to stop may live, and come back, until then.
pub async fn await_grace(source: &mut Connection, onlookers: &Baseline, end: Instant, step: &Step) -> Result<()> {
    if onlookers.is_hidden() {
        step.update(format!(
            "the source does not show its clients; processes that were replaced may live for {} s more",
            end.remaining().as_secs()
        ));
        tokio::time::sleep(end.remaining()).await;
        return Ok(());
    }
    let own = control::own_id(source).await?;
    while !end.has_passed() {
        let clients = control::clients(source).await?;
        step.update(format!(
            "{} clients of the app are on the source; processes that were replaced may live for {} s more",
            may_write(&clients, own, onlookers).len(),
            end.remaining().as_secs()
        ));
        tokio::time::sleep(end.remaining().min(Duration::from_secs(1))).await;
    }
    Ok(())
}

/// The result of disconnecting the source's last clients.
pub struct Disconnected {
    pub disconnected: usize,
    /// Clients that came back again and again, and only looked.
    pub persistent: Option<String>,
}

/// Disconnects all who may write until none was seen for `away`. The pause must run meanwhile.
pub async fn disconnect(
    source: &mut Connection,
    onlookers: &Baseline,
    away: Duration,
    step: &Step,
) -> Result<Disconnected> {
    if onlookers.is_hidden() {
        return Ok(Disconnected {
            disconnected: 0,
            persistent: None,
        });
    }
    let own = control::own_id(source).await?;
    let end = Instant::now().after(DISCONNECTING);
    let mut unseen = Unseen::begin();
    let mut disconnected = 0;
    loop {
        let clients = control::clients(source).await?;
        let left = may_write(&clients, own, onlookers);
        if unseen.look(left.is_empty()) >= away {
            return Ok(Disconnected {
                disconnected,
                persistent: None,
            });
        }
        if !left.is_empty() {
            if end.has_passed() {
                return came_back(&left, disconnected);
            }
            step.update(describe(&left));
            let ids: Vec<u64> = left.iter().map(|client| client.id).collect();
            disconnected += control::kill_clients(source, &ids).await?;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Accepts clients that only look, and names them. Anybody else keeps the source paused.
fn came_back(left: &[&Client], disconnected: usize) -> Result<Disconnected> {
    if left.iter().all(|client| only_looks(client) && !client.is_blocked()) {
        return Ok(Disconnected {
            disconnected,
            persistent: Some(describe(left)),
        });
    }
    Err(Error::partial(format!(
        "end the source's pause: after {} s somebody still comes back to it: {}",
        DISCONNECTING.as_secs(),
        describe(left)
    ))
    .hint("stop what still connects there (one-off and scheduled processes keep the old URL), then run the same command again; until then the source stays paused"))
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
    use crate::effects::redis::testing::TestServer;
    use crate::ui::Ui;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

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
            idle_seconds: 1,
        }
    }

    #[test]
    fn everybody_but_replicas_and_ourselves_may_write() {
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
        assert_eq!(left, [2, 4, 5, 6, 7, 8]);
    }

    #[test]
    fn an_onlooker_may_stay_for_as_long_as_it_only_looks() {
        let known = client(2, "info", "N");
        let onlookers = Baseline::of([&known]);
        let left = |cmd: &str, flags: &str| may_write(&[client(9, cmd, flags)], 1, &onlookers).len();
        assert_eq!((left("info", "N"), left("ping", "N")), (0, 0));
        assert_eq!((left("set", "N"), left("get", "N"), left("info", "b")), (1, 1, 1));
        let two = [client(9, "info", "N"), client(10, "info", "N")];
        assert_eq!(may_write(&two, 1, &onlookers).len(), 1);
    }

    #[tokio::test]
    async fn a_client_that_comes_back_after_a_moment_is_disconnected_again() {
        let source = TestServer::start(&[]).await;
        let returning = async {
            for _ in 0..3 {
                let mut worker = TcpStream::connect(("127.0.0.1", source.port)).await.unwrap();
                worker.write_all(b"PING\r\n").await.unwrap();
                // Returns when the server has closed the connection.
                worker.read_to_end(&mut Vec::new()).await.unwrap();
                // Longer than from one look at the clients to the next.
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
            std::future::pending::<()>().await;
        };
        let step = Ui::silent().step("disconnect");
        let mut ours = source.connect(0).await;
        let onlookers = Baseline::default();
        let gone = tokio::select! {
            gone = disconnect(&mut ours, &onlookers, Duration::from_secs(2), &step) => gone.unwrap(),
            () = returning => unreachable!("a client that waits to be disconnected"),
        };
        assert_eq!(gone.disconnected, 3, "once, and twice after it came back");
    }

    #[tokio::test]
    async fn a_computer_that_stood_still_has_not_seen_that_nobody_came() {
        let mut unseen = Unseen::begin();
        tokio::time::sleep(Duration::from_millis(600)).await;
        assert_eq!(unseen.look(true), Duration::from_millis(500));
        assert!(unseen.look(true) < Duration::from_millis(600));
        assert_eq!(unseen.look(false), Duration::ZERO);
    }

    #[test]
    fn clients_that_come_back_may_stay_only_if_they_all_look() {
        let (looks, writes) = (client(2, "info", "N"), client(3, "set", "N"));
        assert!(came_back(&[&looks], 4).unwrap().persistent.is_some());
        assert!(came_back(&[&looks, &writes], 4).is_err());
    }
}
