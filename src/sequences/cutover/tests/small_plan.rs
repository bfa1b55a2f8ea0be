//! A source on a small plan: a cutover opens few connections to it, so that the app keeps its own.

use super::super::Command;
use super::expect_moved;
use super::stage::{PLAIN, Rented, Stage};
use crate::decide::preflight::connections;
use crate::effects::redis::compare::{self, Options};
use crate::effects::redis::control::clients;
use crate::effects::redis::{Connection, Server, Survey};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::task::JoinHandle;

const MAX_CLIENTS: usize = 20;

/// Returns the connections that `check` says a move needs.
fn needed() -> usize {
    usize::try_from(connections::needed(MAX_CLIENTS as u64)).unwrap()
}

const SMALL: Rented = Rented {
    server: &["--maxclients", "20"],
    ..PLAIN
};

/// Counts a server's clients, the counting connection left out.
struct Count {
    most: Arc<AtomicUsize>,
    counting: JoinHandle<()>,
}

impl Count {
    async fn begin(server: &Server) -> Count {
        let mut connection = server.connect(0).await.unwrap();
        // A connection that was just closed is listed for a moment; the link of the master stays.
        for _ in 0..500 {
            if clients(&mut connection).await.unwrap().len() == 2 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let most = Arc::new(AtomicUsize::new(0));
        let shared = most.clone();
        let counting = tokio::spawn(async move {
            loop {
                let now = clients(&mut connection).await.unwrap().len() - 1;
                shared.fetch_max(now, Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        });
        Count { most, counting }
    }

    fn most(self) -> usize {
        self.counting.abort();
        self.most.load(Ordering::SeqCst)
    }
}

/// Puts keys into several databases, since each of them is compared.
async fn fill_databases(stage: &Stage) {
    let mut source = stage.source().connect(0).await.unwrap();
    for database in [1, 2, 5, 15] {
        for key in 0..300 {
            let mut elsewhere = source.in_database(database);
            let said: String = elsewhere
                .query(::redis::cmd("SET").arg(format!("key:{key}")).arg(database))
                .await
                .unwrap();
            assert_eq!(said, "OK");
        }
    }
    let _: String = source.query(&::redis::cmd("PING")).await.unwrap();
}

#[tokio::test]
async fn a_cutover_needs_four_connections_where_the_app_has_all_others() {
    let stage = Stage::renting(0.02, SMALL).await;
    fill_databases(&stage).await;
    let source = stage.source();
    let count = Count::begin(&source).await;
    let mut pool: Vec<Connection> = Vec::new();
    for _ in 0..MAX_CLIENTS - needed() - 1 {
        pool.push(source.connect(0).await.unwrap());
    }
    let outcome = stage.run(Command::SwitchApp).await.unwrap();
    let most = count.most() - pool.len();
    assert_eq!(most, needed(), "connections to the source at most");
    assert_eq!(outcome.late_writes, Some(0), "{outcome:?}");
    assert!(outcome.keys_compared.unwrap() >= 1_200, "{outcome:?}");
    stage.end().await;
}

#[tokio::test]
async fn check_and_verify_open_one_connection() {
    let stage = Stage::renting(0.02, SMALL).await;
    fill_databases(&stage).await;
    let source = stage.source();
    // The link of the master and the one of the command.
    let expected = 2;
    let count = Count::begin(&source).await;
    let mut connection = source.connect(0).await.unwrap();
    Survey::read(&mut connection, Duration::ZERO).await.unwrap();
    drop(connection);
    assert_eq!(count.most(), expected);
    let count = Count::begin(&source).await;
    let compared = compare::compare(&source, &stage.master(), &Options::default(), |_| {})
        .await
        .unwrap();
    assert!(compared.identical() && compared.compared >= 1_200, "{compared:?}");
    assert_eq!(count.most(), expected);
    stage.end().await;
}

#[tokio::test]
async fn a_writing_app_leaves_a_small_plan_by_either_fence() {
    for pausable in [true, false] {
        let stage = Stage::renting(0.02, SMALL).await;
        if !pausable {
            stage.forbid_pausing().await;
        }
        fill_databases(&stage).await;
        stage.load().await;
        let outcome = stage.run(Command::SwitchApp).await.unwrap();
        expect_moved(&stage).await;
        assert_eq!(outcome.late_writes, Some(0), "{outcome:?}");
        stage.end().await;
    }
}
