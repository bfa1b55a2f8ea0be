//! A relay before a server, whose answers can be lost.

use std::net::SocketAddr;

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

pub struct Relay {
    pub address: SocketAddr,
    /// Counts how often all answers were to be lost.
    losses: watch::Sender<u64>,
}

impl Relay {
    /// Listens on loopback and passes everything on to `server`.
    pub async fn before(server: SocketAddr) -> Self {
        let listener = TcpListener::bind((super::LOOPBACK, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let losses = watch::Sender::new(0);
        let watched = losses.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(pass(client, server, watched.subscribe()));
            }
        });
        Self { address, losses }
    }

    /// Ends every connection: requests still reach the server, and their answers are lost.
    pub fn lose_answers(&self) {
        self.losses.send_modify(|losses| *losses += 1);
    }
}

async fn pass(mut client: TcpStream, server: SocketAddr, mut loss: watch::Receiver<u64>) {
    let Ok(mut server) = TcpStream::connect(server).await else {
        return;
    };
    let (mut asks, mut hears) = client.split();
    let (mut answers, mut asked) = server.split();
    let asking = tokio::io::copy(&mut asks, &mut asked);
    tokio::pin!(asking);
    tokio::select! {
        _ = &mut asking => return,
        _ = tokio::io::copy(&mut answers, &mut hears) => return,
        _ = loss.changed() => {}
    }
    // The answers stay with the server's side, and requests go on for a moment.
    let _ = tokio::time::timeout(std::time::Duration::from_millis(100), asking).await;
    let _ = hears.shutdown().await;
}
