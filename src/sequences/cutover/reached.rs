//! How far a run has come, and what it holds there: connected, compared, fenced, proven.
//!
//! Each value is made of the one before it. So no comparison outlives its connections, and no proof
//! its fence. A step that needs more than the run holds gets an error from here. The lists of steps
//! lead to none: a test of `decide` walks all of them.

use super::compared::Compared as Comparison;
use super::fence::Fence;
use super::gate::Proof;
use super::history::out_of_order;
use super::onlookers::Onlookers;
use super::sides::Sides;
use super::watch::Watch;
use crate::effects::redis::Connection;
use crate::model::error::Result;
use std::mem::take;

#[derive(Default)]
#[expect(clippy::large_enum_variant, reason = "a run has one value")]
pub(super) enum Reached {
    #[default]
    Begun,
    Connected(Sides, Onlookers),
    Compared(Sides, Onlookers, Comparison),
    Fenced(Fence, Sides, Comparison),
    /// A fence without a comparison: an earlier run promoted, or the way back is taken.
    FencedAgain(Fence, Option<Sides>),
    /// The connections are kept for the look at our master after its promotion.
    Proven(Fence, Proof, Sides),
}

use Reached::{Begun, Compared, Connected, Fenced, FencedAgain, Proven};

impl Reached {
    /// Adds a comparison to the connections that it was made over.
    pub fn compared(&mut self, baseline: Comparison) {
        *self = match take(self) {
            Connected(sides, onlookers) => Compared(sides, onlookers, baseline),
            other => other,
        };
    }

    /// Adds a fence. It has nothing of an earlier fence.
    pub fn fenced(&mut self, fence: Fence) {
        *self = match take(self) {
            Compared(sides, _, baseline) => Fenced(fence, sides, baseline),
            Connected(sides, _) => FencedAgain(fence, Some(sides)),
            Begun | Fenced(..) | FencedAgain(..) | Proven(..) => FencedAgain(fence, None),
        };
    }

    /// Adds a proof. Returns the watch of the comparison that it completes, if there was one.
    pub fn proven(&mut self, proof: Proof) -> Option<Watch> {
        let (next, watch) = match take(self) {
            Fenced(fence, sides, baseline) => (Proven(fence, proof, sides), baseline.into_watch()),
            FencedAgain(fence, Some(sides)) => (Proven(fence, proof, sides), None),
            other => (other, None),
        };
        *self = next;
        watch
    }

    /// Takes the fence out, and with it everything behind it.
    pub fn take_fence(&mut self) -> Option<Fence> {
        match take(self) {
            Fenced(fence, ..) | FencedAgain(fence, _) | Proven(fence, ..) => Some(fence),
            unfenced => {
                *self = unfenced;
                None
            }
        }
    }

    pub fn fence(&self) -> Option<&Fence> {
        match self {
            Begun | Connected(..) | Compared(..) => None,
            Fenced(fence, ..) | FencedAgain(fence, _) | Proven(fence, ..) => Some(fence),
        }
    }

    /// Returns an open connection to the source, if there is one.
    pub fn at_source(&self) -> Option<Connection> {
        match self {
            Begun => None,
            Connected(sides, _) | Compared(sides, ..) => Some(sides.source.clone()),
            Fenced(fence, ..) | FencedAgain(fence, _) | Proven(fence, ..) => Some(fence.connection()),
        }
    }

    pub fn connections(&mut self) -> Result<&mut Sides> {
        match self {
            Begun | FencedAgain(_, None) => Err(out_of_order("connections")),
            Connected(sides, _) | Compared(sides, ..) | Fenced(_, sides, _) => Ok(sides),
            FencedAgain(_, Some(sides)) | Proven(.., sides) => Ok(sides),
        }
    }

    pub fn comparison(&mut self) -> Result<(&mut Onlookers, &mut Comparison)> {
        let Compared(_, onlookers, baseline) = self else {
            return Err(out_of_order("a comparison"));
        };
        Ok((onlookers, baseline))
    }

    pub fn standing_fence(&self) -> Result<&Fence> {
        self.fence().ok_or_else(|| out_of_order("a fence"))
    }

    pub fn fenced_comparison(&mut self) -> Result<(&Fence, &mut Sides, &mut Comparison)> {
        let Fenced(fence, sides, baseline) = self else {
            return Err(out_of_order("a fence after a comparison"));
        };
        Ok((fence, sides, baseline))
    }

    pub fn fenced_connections(&self) -> Result<(&Fence, &Sides)> {
        let FencedAgain(fence, Some(sides)) = self else {
            return Err(out_of_order("a fence after the promotion"));
        };
        Ok((fence, sides))
    }

    pub fn fenced_proof(&self) -> Result<(&Fence, &Proof)> {
        let Proven(fence, proof, _) = self else {
            return Err(out_of_order("a proof"));
        };
        Ok((fence, proof))
    }
}
