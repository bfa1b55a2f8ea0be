//! Each kind of source that speaks no TLS: the app moves with nothing lost.

use super::super::Command;
use super::expect_moved;
use super::several_vars::{BESIDE_A_COPY, TWO_VARS};
use super::stage::{PLAIN, Rented, Stage};

const KINDS: [(&str, Rented); 11] = [
    ("a user and a password", PLAIN),
    (
        "a password without a user",
        Rented {
            before_port: ":hosted-secret@127.0.0.1",
            ..PLAIN
        },
    ),
    (
        "the user h, which the server does not have",
        Rented {
            before_port: "h:hosted-secret@127.0.0.1",
            ..PLAIN
        },
    ),
    (
        "the user x, which the server does not have",
        Rented {
            before_port: "x:hosted-secret@127.0.0.1",
            ..PLAIN
        },
    ),
    (
        "no password",
        Rented {
            password: "",
            before_port: "127.0.0.1",
            ..PLAIN
        },
    ),
    (
        "an empty password",
        Rented {
            password: "",
            before_port: "default:@127.0.0.1",
            ..PLAIN
        },
    ),
    (
        "a password that is written with percent signs",
        Rented {
            password: "p@ss/w:rd#?%",
            before_port: "default:p%40ss%2Fw%3Ard%23%3F%25@127.0.0.1",
            ..PLAIN
        },
    ),
    (
        "an IPv6 address",
        Rented {
            server: &["--bind", "127.0.0.1", "::1"],
            before_port: "default:hosted-secret@[::1]",
            ..PLAIN
        },
    ),
    (
        "a database in the query",
        Rented {
            behind_port: "?db=2&timeout=5",
            database: 2,
            ..PLAIN
        },
    ),
    ("two vars of one add-on", TWO_VARS),
    ("an owned var beside a plain copy", BESIDE_A_COPY),
];

#[tokio::test]
async fn an_app_leaves_every_kind_of_source_without_loss() {
    for (kind, rented) in KINDS {
        eprintln!("a source with {kind}");
        let stage = Stage::renting(0.02, rented).await;
        stage.load().await;
        let outcome = stage.run(Command::SwitchApp).await.unwrap();
        expect_moved(&stage).await;
        assert_eq!(outcome.late_writes, Some(0), "{kind}: {outcome:?}");
        stage.end().await;
    }
}
