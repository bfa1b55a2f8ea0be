//! The copy of a stage, on a thread of the test.

use super::SOURCE_PASSWORD;
use crate::effects::redis::testing::TestServer;
use infra_agent::copy::{self, Login, Options, Request, Stream};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

const PASSWORD: &str = "copy-secret";

/// Starts a copy from the source to the master. Returns the socket on which sweeps are asked for.
pub fn start(source: &TestServer, master: &TestServer) -> PathBuf {
    let folder = source.folder().join("copy");
    std::fs::create_dir_all(&folder).unwrap();
    let rule = crate::effects::host::users::copy_rule();
    let (at_source, at_master) = (source.port, master.port);
    let dial = |port: u16| {
        move || {
            let stream = TcpStream::connect(("127.0.0.1", port))?;
            stream.set_read_timeout(Some(Duration::from_secs(20)))?;
            Ok(Box::new(stream) as Box<dyn Stream>)
        }
    };
    let options = Options {
        name: "source".into(),
        source: Box::new(dial(at_source)),
        source_login: Login {
            user: Some("default".into()),
            password: Some(SOURCE_PASSWORD.into()),
        },
        target: Box::new(dial(at_master)),
        target_login: Login {
            user: Some("copy".into()),
            password: Some(PASSWORD.into()),
        },
        watch: Some(Arc::new(move || Ok(TcpStream::connect(("127.0.0.1", at_source))?))),
        tries_again: true,
        rate: 64 << 20,
        memory: None,
        left_out: Vec::new(),
        home: folder.join("home"),
        control: folder.join("control"),
        status: folder.join("status.json"),
        now: || 0,
    };
    let control = options.control.clone();
    let allow = format!("ACL SETUSER copy on >{PASSWORD} {rule}");
    let url = format!("redis://:{}@127.0.0.1:{at_master}", super::PAIR_PASSWORD);
    let mut connection = ::redis::Client::open(url).unwrap().get_connection().unwrap();
    let words: Vec<&str> = allow.split(' ').collect();
    ::redis::cmd("ACL").arg(&words[1..]).exec(&mut connection).unwrap();
    std::thread::spawn(move || copy::run(&options));
    control
}

/// Returns true once the copy has made a sweep.
pub fn sweep(control: &Path) -> bool {
    copy::ask(control, Request::default()).is_ok()
}
