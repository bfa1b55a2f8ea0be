//! The ssh session against a real sshd on loopback.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test stops at what it did not expect"
)]

use infra::effects::remote::{HostKey, KeyPair, Session, Target};
use infra::model::error::Kind;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// An sshd of our own that lets this user in with a key made for it.
struct Sshd {
    child: Child,
    folder: tempfile::TempDir,
    port: u16,
    host_key: HostKey,
    login: KeyPair,
}

impl Sshd {
    fn start() -> Self {
        Self::start_after(Duration::ZERO)
    }

    fn start_after(pause: Duration) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let login = KeyPair::generate("test").unwrap();
        let host = KeyPair::generate("host").unwrap();
        write_private(&path("host_key"), host.private.expose());
        write_private(&path("authorized_keys"), &login.public);
        let port = testkit::free_port();
        // With SHLVL the shell does not count as a login, and leaves out this user's .bashrc.
        let config = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\nUsePAM no\nStrictModes no\n\
             PermitRootLogin prohibit-password\nPasswordAuthentication no\nLogLevel VERBOSE\n\
             SetEnv SHLVL=2\n",
            path("host_key").display(),
            path("authorized_keys").display()
        );
        std::fs::write(path("config"), config).unwrap();
        // sshd does not run without the folder of its unprivileged part.
        std::fs::create_dir_all("/run/sshd").unwrap();
        let command = format!(
            "sleep {}; exec /usr/sbin/sshd -D -f {} -E {}",
            pause.as_secs_f32(),
            path("config").display(),
            path("log").display()
        );
        let child = Command::new("sh")
            .args(["-c", &command])
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        Sshd {
            child,
            host_key: host.host_key().unwrap(),
            folder,
            port,
            login,
        }
    }

    fn target(&self) -> Target {
        Target {
            label: "testing".into(),
            address: "127.0.0.1".into(),
            port: self.port,
            user: "root".into(),
            private_key: self.login.private.clone(),
            pinned: vec![self.host_key.clone()],
        }
    }

    async fn session(&self) -> Session {
        Session::connect(&self.target(), Duration::from_secs(10)).await.unwrap()
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let ended = self.child.wait().unwrap();
        if !std::thread::panicking() {
            assert!(ended.signal().is_some(), "sshd ended by itself: {ended}");
        }
    }
}

fn write_private(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

async fn refusal(target: &Target, patience: Duration) -> infra::model::error::Error {
    Session::connect(target, patience).await.map(|_| ()).unwrap_err()
}

#[tokio::test]
async fn a_command_gives_both_outputs_and_its_status() {
    let sshd = Sshd::start();
    let session = sshd.session().await;
    let output = session.run("cat; echo no >&2; exit 3", Some(b"yes\n")).await.unwrap();
    assert_eq!((output.status, output.text().as_str()), (3, "yes\n"));
    assert_eq!(output.stderr, b"no\n");
    let error = output.expect_success("try").unwrap_err();
    assert!(error.chain()[1].contains("no"), "{:?}", error.chain());
}

#[tokio::test]
async fn a_command_that_dies_of_a_signal_has_failed() {
    let sshd = Sshd::start();
    let output = sshd.session().await.run("kill -9 $$", None).await.unwrap();
    assert_eq!(output.signal.as_deref(), Some("KILL"));
    assert!(!output.succeeded());
}

#[tokio::test]
async fn much_input_and_chatter_on_both_outputs_stall_nothing() {
    let sshd = Sshd::start();
    let session = sshd.session().await;
    let input: Vec<u8> = (0..8_000_000u32).map(|index| (index % 251) as u8).collect();
    let output = session.run("tee /dev/stderr", Some(&input)).await.unwrap();
    assert!(output.stdout == input && output.stderr == input);
}

#[tokio::test]
async fn a_command_that_ends_without_reading_its_input_is_judged_by_its_status() {
    let sshd = Sshd::start();
    let session = sshd.session().await;
    let output = session.run("exit 4", Some(&vec![7u8; 4_000_000])).await.unwrap();
    assert_eq!(output.status, 4);
    assert_eq!(session.run("echo on", None).await.unwrap().stdout, b"on\n");
}

#[tokio::test]
async fn a_host_with_another_key_is_refused_before_anything_is_sent() {
    let sshd = Sshd::start();
    sshd.session().await;
    let logins = sshd.log().matches("Accepted publickey").count();
    let mut target = sshd.target();
    target.pinned = vec![KeyPair::generate("other").unwrap().host_key().unwrap()];
    let error = refusal(&target, Duration::from_secs(10)).await;
    assert_eq!(error.kind(), Kind::Failed);
    assert!(error.to_string().contains(&sshd.host_key.fingerprint()), "{error}");
    assert!(error.next_step().unwrap().contains("nothing was sent"));
    let log = sshd.log();
    assert_eq!(log.matches("Accepted publickey").count(), logins, "{log}");
    assert!(!log.contains("Failed publickey"), "{log}");
}

#[tokio::test]
async fn a_host_without_a_key_of_the_pinned_kind_is_refused() {
    let sshd = Sshd::start();
    sshd.session().await;
    let mut target = sshd.target();
    let other_kind = "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBEmKSENjQEezOmxkZMy7opKgwFB9nkt5YRrYMjNuG5N87uRgg6CLrbo5wAdT/y6v0mKV0U2w0WZ2YB/++Tpockg=";
    target.pinned = vec![other_kind.parse().unwrap()];
    let error = refusal(&target, Duration::from_secs(10)).await;
    assert!(error.to_string().contains("pinned kind"), "{error}");
}

#[tokio::test]
async fn either_of_two_pins_is_accepted_and_reported() {
    let sshd = Sshd::start();
    let mut target = sshd.target();
    let other = KeyPair::generate("other").unwrap().host_key().unwrap();
    target.pinned.insert(0, other);
    let session = Session::connect(&target, Duration::from_secs(10)).await.unwrap();
    assert_eq!(session.host_key(), &sshd.host_key);
}

#[tokio::test]
async fn a_command_without_end_ends_at_its_deadline_and_the_session_says_so_afterwards() {
    let sshd = Sshd::start();
    let session = sshd.session().await;
    let begun = Instant::now();
    let error = session
        .run_within("sleep 30", None, Duration::from_millis(700), |_| ())
        .await
        .unwrap_err();
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    assert!(error.to_string().contains("`sleep 30` on testing"), "{error}");
    assert!(session.run("true", None).await.is_err());
}

#[tokio::test]
async fn a_host_that_answers_late_is_waited_for() {
    let sshd = Sshd::start_after(Duration::from_secs(1));
    let output = sshd.session().await.run("echo here", None).await.unwrap();
    assert_eq!(output.stdout, b"here\n");
}

#[tokio::test]
async fn a_host_that_never_answers_is_an_error_that_names_it() {
    let sshd = Sshd::start();
    let mut target = sshd.target();
    target.port = testkit::free_port();
    let error = refusal(&target, Duration::from_millis(500)).await;
    assert!(
        error.to_string().contains("testing") && error.to_string().contains("refused"),
        "{error}"
    );
}

#[tokio::test]
async fn a_refused_key_is_tried_few_times_and_then_named() {
    let sshd = Sshd::start();
    let mut target = sshd.target();
    target.private_key = KeyPair::generate("stranger").unwrap().private;
    let error = refusal(&target, Duration::from_secs(5)).await;
    assert!(error.to_string().contains("refuses the key of user root"), "{error}");
}

#[tokio::test]
async fn lines_are_seen_while_the_command_runs() {
    let sshd = Sshd::start();
    let session = sshd.session().await;
    let (sender, mut lines) = tokio::sync::mpsc::unbounded_channel();
    let command = "echo first; sleep 1; echo second";
    let running = tokio::spawn(async move {
        let watch = move |line: &str| {
            let _ = sender.send((line.to_string(), Instant::now()));
        };
        session.run_within(command, None, Duration::from_secs(10), watch).await
    });
    let first = lines.recv().await.unwrap();
    let second = lines.recv().await.unwrap();
    assert_eq!((first.0.as_str(), second.0.as_str()), ("first", "second"));
    assert!(second.1 - first.1 > Duration::from_millis(700));
    running.await.unwrap().unwrap();
}

#[tokio::test]
async fn many_commands_share_one_connection_and_are_quick() {
    let sshd = Sshd::start();
    let session = sshd.session().await;
    let begun = Instant::now();
    for _ in 0..50 {
        session.run("true", None).await.unwrap();
    }
    let each = begun.elapsed() / 50;
    eprintln!("{each:?} for one command on a warm session");
    assert_eq!(sshd.log().matches("Connection from").count(), 1);
    assert!(
        each < Duration::from_millis(50),
        "{each:?} for one command on a warm session"
    );
}

#[tokio::test]
async fn a_command_that_stays_open_answers_line_by_line_and_is_started_again_when_it_ended() {
    let sshd = Sshd::start();
    let session = sshd.session().await;
    let script = "n=0; while read -r line; do n=$((n + 1)); case $line in quit) exit;; bad) echo no; echo '= 2';; *) echo $n $line; echo '= 0';; esac; done";
    let patience = Duration::from_secs(10);
    let first = session.converse(script, "a", patience).await.unwrap();
    let second = session.converse(script, "b", patience).await.unwrap();
    assert_eq!((first.text().as_str(), second.text().as_str()), ("1 a\n", "2 b\n"));
    let bad = session.converse(script, "bad", patience).await.unwrap();
    let error = bad.expect_success("try").unwrap_err();
    assert_eq!(error.chain(), ["try", "it ended with status 2: no"]);
    // Both commands ended without an answer: the kept one, and the one that was started again.
    let ended = session.converse(script, "quit", patience).await.unwrap_err();
    assert!(
        ended.chain().iter().any(|line| line.contains("the command ended")),
        "{:?}",
        ended.chain()
    );
    let again = session.converse(script, "c", patience).await.unwrap();
    assert_eq!(again.text(), "1 c\n");
    assert_eq!(session.run("echo beside", None).await.unwrap().text(), "beside\n");
}

#[tokio::test]
async fn a_host_that_prints_for_ever_is_stopped() {
    let sshd = Sshd::start();
    // With and without line ends, output beyond the bound is neither kept nor searched again.
    for endless in ["yes", "cat /dev/zero", "yes >&2"] {
        let session = sshd.session().await;
        let began = Instant::now();
        let printed = session.run_within(endless, None, Duration::from_secs(50), |_| ()).await;
        let error = printed.map(|_| ()).unwrap_err();
        assert!(error.chain().join(": ").contains("more than"), "{error:?}");
        assert!(began.elapsed() < Duration::from_secs(45), "{:?}", began.elapsed());
    }
}
