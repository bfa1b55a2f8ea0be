//! The other door: the last look at both sides before the app may log in to the master.

use super::history::Promotion;
use super::look;
use super::pair::Pair;
use super::record::Record;
use super::run::Cutover;
use super::settle::Late;
use super::steps::{READING, milliseconds, out_of_order};
use super::watch::Watch;
use crate::error::{Error, Result};
use crate::redis::Connection;
use crate::redis::info::Info;
use jiff::Timestamp;

impl<R: Record, P: Pair> Cutover<R, P> {
    pub(super) async fn open_door(&mut self) -> Result<()> {
        let step = self.setup.ui.step("open the new door");
        let Some(promotion) = self.history.promotion.clone() else {
            return Err(out_of_order("open the door of a master that was not promoted"));
        };
        if let Some(fence) = &self.fence {
            fence.holds()?;
        }
        // Whoever writes waits meanwhile: what can be asked at once is, and over connections that are there.
        let mut master = match &self.sides {
            Some(sides) => sides.master.clone(),
            None => self.setup.master.connect(0).await?,
        };
        let mut asked = master.clone();
        let (our_watch, through, ours) = tokio::join!(
            self.watch_of_ours(&mut asked, &promotion),
            self.came_through(),
            self.setup.record.confirm()
        );
        ours?;
        if self.our_watch.is_none() {
            self.our_watch = our_watch?;
        }
        self.nothing_came_through(&through?)?;
        self.foreign_writes(&mut master).await?;
        self.access_opened = true;
        self.setup.pair.set_door(true).await?;
        if !look::door_is_open(&mut master).await? {
            return Err(Error::failed(format!(
                "let the app log in to {}: it still may not",
                self.setup.master
            )));
        }
        let fenced = match (&self.fence, self.outcome.fenced_ms) {
            // Promoted in this run: both moments are on one clock.
            (Some(fence), Some(_)) => milliseconds(fence.raised.elapsed()),
            _ => since(promotion.fenced_at),
        };
        self.outcome.fenced_ms = Some(fenced);
        step.done(format!(
            "the app may write to the master, {fenced} ms after the fence began"
        ));
        Ok(())
    }

    /// Our master's stream from where it is its own, where it is not watched yet and can be.
    async fn watch_of_ours(&self, master: &mut Connection, promotion: &Promotion) -> Result<Option<Watch>> {
        if self.our_watch.is_some() {
            return Ok(None);
        }
        let info = Info::read(master).await?;
        let from = look::own_from(&info, promotion);
        // Whoever writes waits: the table of the other watch will do, and without one a command that is not listed counts as a write, as it should.
        let table = self.source_watch.as_ref().map(Watch::table).unwrap_or_default();
        let begun = Watch::begin_with(&self.setup.master, table, info, &promotion.source_replid, from).await;
        Ok(begun.unwrap_or_default())
    }

    /// What the source took since the proof. An earlier run that announced the switch has made this look.
    async fn came_through(&self) -> Result<Late> {
        let Some(watch) = &self.source_watch else {
            return Ok(Late::default());
        };
        let mut source = match &self.fence {
            Some(fence) => fence.connection(),
            None => self.setup.source.connect(0).await?,
        };
        let info = Info::read(&mut source).await?;
        watch.reach(info.master_repl_offset, READING).await?;
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
    async fn foreign_writes(&mut self, master: &mut Connection) -> Result<()> {
        let Some(watch) = &self.our_watch else {
            return Ok(());
        };
        if look::door_is_open(master).await? {
            return Ok(());
        }
        let info = Info::read(master).await?;
        watch.reach(info.master_repl_offset, READING).await?;
        let seen = watch.seen();
        if seen.writes > 0 && self.outcome.foreign_writes == 0 {
            self.outcome.tell_foreign(&seen);
        }
        Ok(())
    }
}

fn since(moment: Timestamp) -> u64 {
    u64::try_from(Timestamp::now().duration_since(moment).as_millis()).unwrap_or(0)
}
