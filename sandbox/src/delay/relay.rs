//! Carries frames from one interface to another, late.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use super::tap::Tap;

/// An Ethernet frame at an MTU of 1500.
const LONGEST_FRAME: usize = 1514;
const KIND: std::ops::Range<usize> = 12..14;
const ADDRESS_RESOLUTION: [u8; 2] = [0x08, 0x06];
/// Frames under way in one direction.
const UNDER_WAY: usize = 32_768;

/// Carries frames both ways until it is dropped; the interfaces are gone then.
pub struct Relay {
    ways: [JoinHandle<()>; 2],
}

impl Relay {
    /// Needs a tokio runtime.
    pub fn between(one: Tap, other: Tap, one_way: Duration) -> Self {
        let (one, other) = (Arc::new(one), Arc::new(other));
        let way = |from: &Arc<Tap>, to: &Arc<Tap>| tokio::spawn(carry(Arc::clone(from), Arc::clone(to), one_way));
        Self {
            ways: [way(&one, &other), way(&other, &one)],
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        for way in &self.ways {
            way.abort();
        }
    }
}

async fn carry(from: Arc<Tap>, to: Arc<Tap>, one_way: Duration) {
    let (sender, mut under_way) = mpsc::channel::<(Instant, Vec<u8>)>(UNDER_WAY);
    let taking = async {
        let mut frame = [0; LONGEST_FRAME];
        loop {
            let length = match from.read(&mut frame).await {
                Ok(length) => length,
                Err(error) => {
                    tracing::warn!("the operator's network ended: {error}");
                    return;
                }
            };
            let frame = &frame[..length];
            // ARP is not delayed: real hosts do not resolve addresses over the distance.
            if frame.get(KIND) == Some(&ADDRESS_RESOLUTION[..]) {
                to.write(frame);
            } else if sender.try_send((Instant::now() + one_way, frame.to_vec())).is_err() {
                tracing::debug!("a frame of {length} bytes was lost: too many are under way");
            }
        }
    };
    let giving = async {
        while let Some((due, frame)) = under_way.recv().await {
            // The runtime's timers have milliseconds, so a frame may be one too late.
            if Instant::now() < due {
                sleep_until(due).await;
            }
            to.write(&frame);
        }
    };
    tokio::join!(taking, giving);
}
