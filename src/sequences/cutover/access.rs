//! App access: the last look at both sides before the app may log in to the master.

use super::fence::Fence;
use super::gate::{unmoved, watched};
use super::history::Promotion;
use super::look;
use super::pair::Pair;
use super::record::Record;
use super::state::{Cutover, OurLook};
use super::watch::{Late, READING, Watch};
use crate::effects::redis::tap::Dialled;
use crate::effects::redis::{Connection, Server};
use crate::model::clock::milliseconds;
use crate::model::error::{Doing, Error, Result};
use crate::model::follow::Follower;
use jiff::Timestamp;
use std::sync::Arc;
use tokio::task::JoinHandle;
use wire::commands::CommandTable;

impl<R: Record, P: Pair> Cutover<R, P> {
    pub(super) async fn open_access(&mut self) -> Result<()> {
        let step = self.setup.ui.step("open app access");
        let promotion = self.history.promoted()?.clone();
        if let Some(fence) = self.reached.fence() {
            fence.holds()?;
        }
        // This run promoted with app access closed. An administrator may have written to our side
        // all the same: up to where is asked while access opens, and read once the app is in.
        let mut master = None;
        if std::mem::take(&mut self.just_confirmed) {
            let through = if promotion.follower == Follower::Copy {
                let Cutover { setup, reached, .. } = self;
                through_copy(&mut setup.pair, reached.fence(), &promotion, &setup.leave_out).await?
            } else {
                self.through_stream().await?
            };
            self.nothing_came_through(&through)?;
            master = self.reached.connections().ok().map(|sides| sides.master.clone());
        } else {
            self.look_before_access(&promotion).await?;
        }
        self.access_opened = true;
        // The hosts answer once the app may log in.
        let (opened, closed_until) = tokio::join!(self.setup.pair.set_app_access(true), closed_until(master));
        opened?;
        let fenced = match (self.reached.fence(), self.outcome.fenced_ms) {
            // This run promoted, so both moments are on one clock.
            (Some(fence), Some(_)) => milliseconds(fence.raised.elapsed()),
            _ => since(promotion.fenced_at),
        };
        self.outcome.fenced_ms = Some(fenced);
        step.done(format!(
            "the app may write to the master, {fenced} ms after the fence began"
        ));
        if let Some(look) = self.our_look.take()
            && let Ok(Ok(mut look)) = look.await
        {
            look.offset = closed_until.unwrap_or(look.offset);
            // The app is in already, so a stream that cannot be read is no reason to stop.
            if let Err(error) = self.foreign_writes(look).await {
                self.outcome.notes.push(format!(
                    "writes on the master before app access opened are not known: {error}"
                ));
            }
        }
        Ok(())
    }

    /// Looks at both sides a last time and confirms the lock. All at once, because writers wait.
    async fn look_before_access(&mut self, promotion: &Promotion) -> Result<()> {
        let look = match self.our_look.take() {
            Some(begun) => begun,
            None => self.look_at_ours(promotion).await?,
        };
        let (looked, through, ours) = if promotion.follower == Follower::Copy {
            let Cutover { setup, reached, .. } = self;
            let through = through_copy(&mut setup.pair, reached.fence(), promotion, &setup.leave_out);
            tokio::join!(look, through, setup.record.confirm())
        } else {
            tokio::join!(look, self.through_stream(), self.setup.record.confirm())
        };
        ours?;
        self.nothing_came_through(&through?)?;
        self.foreign_writes(looked.doing(|| "look at our master".into())??)
            .await
    }

    /// Begins to look at our master; the answers come while other work goes on.
    pub(super) async fn look_at_ours(&mut self, promotion: &Promotion) -> Result<JoinHandle<Result<OurLook>>> {
        let (connection, dialled) = match self.reached.connections() {
            Ok(sides) => (sides.master.clone(), sides.dialled.take()),
            Err(_) => (self.setup.master.connect(0).await?, None),
        };
        let (server, promotion) = (self.setup.master.clone(), promotion.clone());
        // The other watch's table will do. Without one, a command that is not listed is a write.
        let table = self.source_watch.as_ref().map(Watch::table).unwrap_or_default();
        Ok(tokio::spawn(async move {
            our_look(&server, table, connection, dialled, &promotion).await
        }))
    }

    /// Returns what the source took since the proof; empty if an earlier run has looked already.
    async fn through_stream(&self) -> Result<Late> {
        let Some(watch) = &self.source_watch else {
            return Ok(Late::default());
        };
        let offset = match self.reached.fence() {
            Some(fence) => fence.latest_offset().await?,
            None => self.at_source().await?.info().await?.master_repl_offset,
        };
        watch.reach(offset, READING).await?;
        self.late(&watch.seen()).await
    }

    /// Fails if the source was written to since the proof, before app access opens. If somebody
    /// ended the pause, waiting writes are on the source, and so is the app: going back keeps them.
    fn nothing_came_through(&mut self, late: &Late) -> Result<()> {
        if late.writes == 0 {
            return Ok(());
        }
        let what = format!("the source was written to {} times after the proof", late.writes);
        self.why_back.clone_from(&what);
        Err(Error::unproven(format!("switch the app: {what}"))
            .because(late.lines.iter().take(20).cloned().collect::<Vec<_>>().join("; "))
            .hint("somebody ended the source's pause, or wrote past it: those writes are kept and the app goes on there; find out who it was, then run the same command again"))
    }

    /// Notes what our side took while app access was closed. It stays, and the source is fenced.
    async fn foreign_writes(&mut self, look: OurLook) -> Result<()> {
        self.our_watch = look.watch;
        let Some(watch) = &self.our_watch else {
            return Ok(());
        };
        if look.access_is_open {
            return Ok(());
        }
        watch.reach(look.offset, READING).await?;
        let seen = watch.seen().writes_up_to(look.offset);
        if seen.writes > 0 && self.outcome.foreign_writes == 0 {
            self.outcome.tell_foreign(&seen);
        }
        Ok(())
    }
}

/// Returns what a copied source took since the proof. It has no stream to read: its own count of writes
/// and the copy's watch tell, as far as there are any.
async fn through_copy<P: Pair>(
    pair: &mut P,
    fence: Option<&Fence>,
    promotion: &Promotion,
    leave_out: &[String],
) -> Result<Late> {
    let Some(fence) = fence else {
        return Ok(Late::default());
    };
    let watched = watched::since(pair, promotion.monitored.as_ref(), leave_out);
    let (now, watched) = tokio::join!(fence.source_now(), watched);
    let counted = unmoved::counted_since(&fence.captured, &now?);
    let late = watched.unwrap_or_default();
    Ok(Late {
        writes: late.writes.max(counted),
        ..late
    })
}

/// Returns an offset of the master up to which app access was closed. The second answer shows that
/// it was still closed at the first one; `None` if it was not, or the master does not answer.
async fn closed_until(master: Option<Connection>) -> Option<u64> {
    let mut asked = master?;
    let mut also_asked = asked.clone();
    let (info, is_open) = tokio::try_join!(asked.info(), look::access_is_open(&mut also_asked)).ok()?;
    (!is_open).then_some(info.master_repl_offset)
}

async fn our_look(
    server: &Server,
    table: Arc<CommandTable>,
    connection: Connection,
    dialled: Option<Dialled>,
    promotion: &Promotion,
) -> Result<OurLook> {
    let (mut asked, mut also_asked) = (connection.clone(), connection);
    let (info, access_is_open) = tokio::try_join!(asked.info(), look::access_is_open(&mut also_asked))?;
    let offset = info.master_repl_offset;
    let from = look::own_from(&info, promotion);
    let begun = Watch::begin_over(dialled, server, table, info, &promotion.source_replid, from).await;
    Ok(OurLook {
        watch: begun.unwrap_or_default(),
        access_is_open,
        offset,
    })
}

fn since(moment: Timestamp) -> u64 {
    u64::try_from(Timestamp::now().duration_since(moment).as_millis()).unwrap_or(0)
}
