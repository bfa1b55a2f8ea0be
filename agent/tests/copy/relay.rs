//! A relay between the copy and its source: it can be cut, and lead elsewhere.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};

#[derive(Clone)]
pub struct Relay {
    pub port: u16,
    leads_to: Arc<AtomicU16>,
    open: Arc<Mutex<Vec<TcpStream>>>,
}

impl Relay {
    pub fn to(port: u16) -> Relay {
        Self::with(port, |_| ())
    }

    /// The server behind it does not know types in SCAN, as before Redis 6.
    pub fn without_types(port: u16) -> Relay {
        Self::with(port, |bytes| {
            let (known, unknown) = (b"TYPE\r\n$6\r\nstring", b"TYP?\r\n$6\r\nstring");
            while let Some(at) = bytes.windows(known.len()).position(|part| part == known) {
                bytes[at..at + known.len()].copy_from_slice(unknown);
            }
        })
    }

    fn with(port: u16, change: fn(&mut [u8])) -> Relay {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let relay = Relay {
            port: listener.local_addr().unwrap().port(),
            leads_to: Arc::new(AtomicU16::new(port)),
            open: Arc::default(),
        };
        let own = relay.clone();
        std::thread::spawn(move || {
            for near in listener.incoming().flatten() {
                let far = TcpStream::connect(("127.0.0.1", own.leads_to.load(Ordering::SeqCst)));
                let Ok(far) = far else { continue };
                carry(near.try_clone().unwrap(), far.try_clone().unwrap(), change);
                carry(far.try_clone().unwrap(), near.try_clone().unwrap(), |_| ());
                own.open.lock().unwrap().extend([near, far]);
            }
        });
        relay
    }

    /// Cuts what is open. New connections are led there.
    pub fn cut_and_lead_to(&self, port: u16) {
        self.leads_to.store(port, Ordering::SeqCst);
        for stream in self.open.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

fn carry(mut from: TcpStream, mut to: TcpStream, change: fn(&mut [u8])) {
    std::thread::spawn(move || {
        let mut bytes = [0; 16 << 10];
        while let Ok(count @ 1..) = from.read(&mut bytes) {
            change(&mut bytes[..count]);
            if to.write_all(&bytes[..count]).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Both);
    });
}
