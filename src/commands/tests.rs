//! How a command ends at its timeout, and how it reports a failure.

use crate::commands::*;
use crate::effects::state::LockRecord;
use crate::model::error::Doing;

#[tokio::test]
async fn a_command_is_asked_to_stop_at_its_timeout_and_ends_in_order() {
    let soon = Duration::from_millis(20);
    let interrupt = Interrupt::never();
    let mut released = false;
    let work = async {
        interrupt.wait().await;
        // Releasing takes a while, and must not be interrupted.
        tokio::time::sleep(Duration::from_millis(200)).await;
        released = true;
        Err(Error::interrupted("finish"))
    };
    let error = within(soon, Duration::from_secs(60), &interrupt, work)
        .await
        .unwrap_err();
    assert!(released);
    assert_eq!(error.kind(), Kind::Failed);
    assert!(error.to_string().contains("finish within"), "{error}");

    let deaf = std::future::pending();
    let error = within(soon, soon, &Interrupt::never(), deaf).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Failed);

    let quick = async { Ok(ExitCode::Done) };
    let done = within(Duration::from_secs(60), soon, &Interrupt::never(), quick).await;
    assert_eq!(done.unwrap(), ExitCode::Done);
}

pub fn holder() -> LockRecord {
    LockRecord {
        id: "00ff".into(),
        who: "ada".into(),
        host: "laptop".into(),
        process: 4711,
        command: "infra switch-app".into(),
        since: "2026-03-01T12:00:00Z".parse().unwrap(),
        until: "2026-03-01T12:01:00Z".parse().unwrap(),
        renewals: 2,
        epoch: 12,
        identity: None,
    }
}

fn locked() -> Error {
    let refused: Result<()> = Err(Error::locked(holder().to_string()).hint("wait until it has finished"));
    refused.doing(|| "take the lock of production".into()).unwrap_err()
}

/// Two things went wrong, one after the other.
fn partial() -> Error {
    Error::partial("go back after this: wait for release v17 of demo: it failed")
        .because(
            Error::failed("set the config vars of demo")
                .because("the platform answered 503")
                .hint("this is not the nearest hint"),
        )
        .hint("run the same command again: it goes on or back from here, whichever is safe")
}

fn unproven() -> Error {
    Error::unproven("move every write: the source took 2 after the fence")
        .because("db 0 cart:17; db 0 cart:18")
        .hint("write those keys there by hand if they matter")
}

/// A hint from deep in the chain, and a cause that is said only once.
fn failed() -> Error {
    let refused = std::io::Error::new(
        std::io::ErrorKind::ConnectionRefused,
        "Connection refused (os error 111)",
    );
    Error::failed("connect to 192.0.2.7:6379")
        .because(refused)
        .hint("see whether the host runs: `infra status`")
        .while_doing("ask the master: connect to 192.0.2.7:6379")
        .while_doing("make master and replica follow")
}

#[test]
fn a_failure_is_reported_with_its_causes_and_the_next_step_to_people_and_scripts() {
    for error in [locked(), partial(), unproven(), failed()] {
        let kind = error.kind().name();
        insta::assert_snapshot!(format!("error {kind}"), told(&Ui::silent(), &error));
        insta::assert_json_snapshot!(format!("error {kind} as json"), as_json(&error));
    }
}

#[test]
fn a_failure_alone_has_no_causes_and_no_next_step() {
    let error = Error::failed("write the inventory");
    assert_eq!(told(&Ui::silent(), &error), "error: cannot write the inventory");
    assert_eq!(as_json(&error)["error"]["causes"], json!([]));
    assert!(as_json(&error)["error"]["next"].is_null());
}
