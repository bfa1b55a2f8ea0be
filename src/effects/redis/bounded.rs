//! A stream on which no answer is endless, and none makes more of itself than it is.
//!
//! The client's parser keeps what it reads until an answer is whole, and a value of four bytes on the wire takes sixty in memory. So what comes is walked through by
//! its lengths before the parser sees it, and counted since something was last said.

use super::stream::Stream;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use wire::answer::Walk;
use wire::bounds::{MOST_ANSWER_BYTES, MOST_ANSWER_VALUES};

pub(super) struct Bounded {
    stream: Stream,
    walk: Walk,
    refused: Option<String>,
}

impl Bounded {
    pub(super) fn new(stream: Stream) -> Self {
        Bounded {
            stream,
            walk: if cfg!(test) {
                Walk::within(16 << 20, 1 << 18)
            } else {
                Walk::within(MOST_ANSWER_BYTES, MOST_ANSWER_VALUES)
            },
            refused: None,
        }
    }
}

impl AsyncRead for Bounded {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if let Some(why) = &self.refused {
            return Poll::Ready(Err(io::Error::other(why.clone())));
        }
        let before = into.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, into);
        if let Err(why) = self.walk.go_on(&into.filled()[before..]) {
            into.set_filled(before);
            self.refused = Some(why.clone());
            return Poll::Ready(Err(io::Error::other(why)));
        }
        polled
    }
}

impl AsyncWrite for Bounded {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.walk.count_anew();
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
