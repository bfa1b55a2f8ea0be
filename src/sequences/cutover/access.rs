//! The other door: the last look at both sides before the app may log in to the master.

use super::history::Promotion;
use super::look;
use super::pair::Pair;
use super::record::Record;
use super::state::Cutover;
use super::state::{Late, OurLook, milliseconds, out_of_order};
use super::watch::READING;
use super::watch::Watch;
use crate::effects::redis::info::Info;
use crate::effects::redis::tap::{CommandTable, Dialled};
use crate::effects::redis::{Connection, Server};
use crate::model::error::{Doing, Error, Result};
use jiff::Timestamp;
use std::sync::Arc;
use tokio::task::JoinHandle;

impl<R: Record, P: Pair> Cutover<R, P> {
    pub(super) async fn open_access(&mut self) -> Result<()> {
        let step = self.setup.ui.step("open the new door");
        let Some(promotion) = self.history.promotion.clone() else {
            return Err(out_of_order("open the door of a master that was not promoted"));
        };
        if let Some(fence) = &self.fence {
            fence.holds()?;
        }
        // A promotion of a moment ago, with app access closed all the time: nobody can have come in since, and the look at our side need not be waited for.
        let just_promoted = std::mem::take(&mut self.just_confirmed);
        if just_promoted {
            let through = self.came_through().await?;
            self.nothing_came_through(&through)?;
        } else {
            self.look_before_access(&promotion).await?;
        }
        self.access_opened = true;
        // The hosts answer when the app may log in.
        self.setup.pair.set_app_access(true).await?;
        let fenced = match (&self.fence, self.outcome.fenced_ms) {
            // Promoted in this run: both moments are on one clock.
            (Some(fence), Some(_)) => milliseconds(fence.raised.elapsed()),
            _ => since(promotion.fenced_at),
        };
        self.outcome.fenced_ms = Some(fenced);
        step.done(format!(
            "the app may write to the master, {fenced} ms after the fence began"
        ));
        if just_promoted && self.our_watch.is_none() {
            // Its stream reaches back to the promotion. Without it only the figure of the gap is missing.
            self.our_watch = looked_at(self.our_look.take()).await.ok().and_then(|look| look.watch);
        }
        Ok(())
    }

    /// The last look at both sides, with the bucket's word that the lock is ours: all at once, and over connections that are there, since whoever writes waits.
    async fn look_before_access(&mut self, promotion: &Promotion) -> Result<()> {
        if self.our_look.is_none() {
            self.look_at_ours(promotion).await?;
        }
        let (looked, through, ours) = tokio::join!(
            looked_at(self.our_look.take()),
            self.came_through(),
            self.setup.record.confirm()
        );
        ours?;
        self.nothing_came_through(&through?)?;
        self.foreign_writes(looked?).await
    }

    /// Begins to look at our master; the answers come while other things are done.
    pub(super) async fn look_at_ours(&mut self, promotion: &Promotion) -> Result<()> {
        let (connection, dialled) = match &mut self.sides {
            Some(sides) => (sides.master.clone(), sides.dialled.take()),
            None => (self.setup.master.connect(0).await?, None),
        };
        let (server, promotion) = (self.setup.master.clone(), promotion.clone());
        let is_watched = self.our_watch.is_some();
        // The table of the other watch will do, and without one a command that is not listed counts as a write, as it should.
        let table = self.source_watch.as_ref().map(Watch::table).unwrap_or_default();
        self.our_look = Some(tokio::spawn(async move {
            our_look(&server, table, connection, dialled, &promotion, is_watched).await
        }));
        Ok(())
    }

    /// What the source took since the proof. An earlier run that announced the switch has made this look.
    async fn came_through(&self) -> Result<Late> {
        let Some(watch) = &self.source_watch else {
            return Ok(Late::default());
        };
        let offset = match &self.fence {
            Some(fence) => fence.latest_offset().await?,
            None => {
                Info::read(&mut self.setup.source.connect(0).await?)
                    .await?
                    .master_repl_offset
            }
        };
        watch.reach(offset, READING).await?;
        self.late(&watch.seen()).await
    }

    /// The last look at the source before the other door opens, once its pause was made long: from here on the way is only forward. Somebody may have ended the
    /// pause since the proof, and every write that waited in it has then been done on the old side. The app is there still, so nothing of it is lost by going back.
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

    /// What our side took while its door was shut. It is all there and stays; the source is fenced, so going on loses nothing.
    async fn foreign_writes(&mut self, look: OurLook) -> Result<()> {
        if self.our_watch.is_none() {
            self.our_watch = look.watch;
        }
        let Some(watch) = &self.our_watch else {
            return Ok(());
        };
        if look.access_is_open {
            return Ok(());
        }
        watch.reach(look.offset, READING).await?;
        let seen = watch.seen();
        if seen.writes > 0 && self.outcome.foreign_writes == 0 {
            self.outcome.tell_foreign(&seen);
        }
        Ok(())
    }
}

async fn our_look(
    server: &Server,
    table: Arc<CommandTable>,
    connection: Connection,
    dialled: Option<Dialled>,
    promotion: &Promotion,
    is_watched: bool,
) -> Result<OurLook> {
    let (mut asked, mut also_asked) = (connection.clone(), connection);
    let (info, access_is_open) = tokio::try_join!(Info::read(&mut asked), look::access_is_open(&mut also_asked))?;
    let offset = info.master_repl_offset;
    let watch = if is_watched {
        None
    } else {
        let from = look::own_from(&info, promotion);
        let begun = Watch::begin_over(dialled, server, table, info, &promotion.source_replid, from).await;
        begun.unwrap_or_default()
    };
    Ok(OurLook {
        watch,
        access_is_open,
        offset,
    })
}

async fn looked_at(look: Option<JoinHandle<Result<OurLook>>>) -> Result<OurLook> {
    match look {
        Some(look) => look.await.doing(|| "look at our master".into())?,
        None => Err(out_of_order("open the door before our master was looked at")),
    }
}

fn since(moment: Timestamp) -> u64 {
    u64::try_from(Timestamp::now().duration_since(moment).as_millis()).unwrap_or(0)
}
