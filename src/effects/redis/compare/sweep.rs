//! Compares one database, from the source to the target and back.

use super::batch;
use super::pair::{BATCH, Pair};
use super::quick::Quick;
use super::replies::scanned;
use super::verdicts::Verdicts;
use crate::model::error::{Error, Result};
use ::redis::{Value, cmd};
use futures_util::{StreamExt, TryStreamExt, stream};
use wire::reply::integer;

/// Compares the keys of the source, then finds keys only on the target. `seen` gets each batch. Keys
/// whose names begin as `leave_out` says do not count.
pub(super) async fn database(pair: &Pair, leave_out: &[String], mut seen: impl FnMut(Verdicts)) -> Result<()> {
    if pair.few_connections {
        let mut compared = scan(&pair.source.connection, leave_out, pair.batch())
            .map_ok(|keys| async move { batch::compare(pair, &keys).await })
            .try_buffer_unordered(pair.at_once());
        while let Some(verdicts) = compared.try_next().await? {
            seen(verdicts);
        }
    } else {
        let mut compared = Quick::open(pair)
            .await?
            .through(scan(&pair.source.connection, leave_out, pair.batch()))
            .map_ok(|looked| looked.settle(pair))
            .try_buffer_unordered(pair.at_once());
        while let Some(verdicts) = compared.try_next().await? {
            seen(verdicts);
        }
    }
    let mut extra = scan(&pair.target.connection, leave_out, pair.batch())
        .map_ok(|keys| extra(pair, keys))
        .try_buffer_unordered(pair.at_once());
    while let Some(verdicts) = extra.try_next().await? {
        seen(verdicts);
    }
    Ok(())
}

/// Returns all keys of a database, in batches of about this many.
fn scan(
    connection: &super::super::Connection,
    leave_out: &[String],
    batch: usize,
) -> impl stream::Stream<Item = Result<Vec<Vec<u8>>>> + use<> {
    let start = (connection.clone(), Some(0u64), leave_out.to_vec());
    let steps = stream::try_unfold(start, |(mut connection, cursor, leave_out)| async move {
        let Some(cursor) = cursor else { return Ok(None) };
        let answer: Value = connection
            .query(cmd("SCAN").arg(cursor).arg("COUNT").arg(BATCH))
            .await?;
        let Some((next, mut keys)) = scanned(answer) else {
            return Err(Error::failed(format!(
                "read the answer to SCAN of {}",
                connection.place()
            )));
        };
        keys.retain(|key| !leave_out.iter().any(|prefix| key.starts_with(prefix.as_bytes())));
        Ok(Some((
            keys,
            (connection, Some(next).filter(|next| *next != 0), leave_out),
        )))
    });
    let in_batches = move |keys: Vec<Vec<u8>>| {
        // A step gives a few keys more than it was asked for.
        let most = if batch < BATCH { batch } else { keys.len().max(1) };
        let batches: Vec<Result<Vec<Vec<u8>>>> = keys.chunks(most).map(|keys| Ok(keys.to_vec())).collect();
        stream::iter(batches)
    };
    steps.map_ok(in_batches).try_flatten().boxed()
}

/// Compares the target's keys that the source lacks: they may be about to expire, or gone by now.
async fn extra(pair: &Pair, mut keys: Vec<Vec<u8>>) -> Result<Verdicts> {
    if keys.is_empty() {
        return Ok(Verdicts::default());
    }
    let mut source = pair.source.connection.clone();
    // Mostly all of them exist, and one number shows it.
    let there: usize = source.query(cmd("EXISTS").arg(&keys)).await?;
    if there == keys.len() {
        return Ok(Verdicts::default());
    }
    pair.turn(keys.len()).await;
    let mut each = ::redis::pipe();
    for key in &keys {
        each.cmd("EXISTS").arg(key);
    }
    let mut answers = source.ask_all(&each).await?.into_iter();
    keys.retain(|_| answers.next().and_then(|answer| integer(&answer)) != Some(1));
    batch::compare(pair, &keys).await
}
