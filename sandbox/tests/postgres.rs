//! The PostgreSQL that the sandbox raises: TLS only, SCRAM, its renter's rights, and its ends.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use sandbox::addon::Tls;
use sandbox::postgres::{Cluster, Options, programs};
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

fn raise(replication: bool) -> (Cluster, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o711)).unwrap();
    let options = Options {
        folder: folder.path().join("postgres"),
        listen: vec![Ipv4Addr::LOCALHOST.into()],
        port: 0,
        tls: Tls::On,
        authority: None,
        user: "app".into(),
        password: "Secret1".into(),
        replication,
        settings: Vec::new(),
    };
    (Cluster::start(options).unwrap(), folder)
}

/// Asks over the network, as an app does; an error is what psql says.
fn ask(url: &str, statement: &str) -> Result<String, String> {
    let psql = programs().unwrap().join("psql");
    let output = Command::new(psql)
        .args(["-X", "-A", "-t", "-c", statement, url])
        .output()
        .unwrap();
    if output.status.success() {
        return Ok(String::from_utf8(output.stdout).unwrap().trim().to_owned());
    }
    Err(String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn a_client_needs_tls_and_the_password() {
    let (cluster, folder) = raise(true);
    let encrypted = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    assert_eq!(ask(&cluster.url(), encrypted).unwrap(), "t");
    let authority = folder.path().join("root.crt");
    std::fs::write(&authority, cluster.authority().unwrap()).unwrap();
    let verified = cluster.url().replace("require", "verify-full") + "&sslrootcert=" + authority.to_str().unwrap();
    assert_eq!(ask(&verified, encrypted).unwrap(), "t");
    let plain = ask(&cluster.url().replace("require", "disable"), "SELECT 1").unwrap_err();
    assert!(plain.contains("no encryption"), "{plain}");
    let wrong = ask(&cluster.url().replace("Secret1", "Secret2"), "SELECT 1").unwrap_err();
    assert!(wrong.contains("password authentication failed"), "{wrong}");
}

#[test]
fn only_a_renter_who_may_replicate_makes_a_slot() {
    let slot = "SELECT count(*) FROM pg_create_logical_replication_slot('mine', 'pgoutput')";
    let (able, _folder) = raise(true);
    assert_eq!(ask(&able.url(), slot).unwrap(), "1");
    let (unable, _folder) = raise(false);
    let refusal = ask(&unable.url(), slot).unwrap_err();
    assert!(refusal.contains("must be superuser or replication role"), "{refusal}");
}

#[test]
fn committed_rows_outlive_a_crash_and_an_old_password_ends() {
    let (mut cluster, _folder) = raise(true);
    let before = cluster.url();
    cluster
        .sql("CREATE TABLE kept (id int); INSERT INTO kept VALUES (1)")
        .unwrap();
    cluster.crash().unwrap();
    assert!(ask(&before, "SELECT 1").is_err());
    cluster.resume().unwrap();
    assert_eq!(ask(&before, "SELECT count(*) FROM kept").unwrap(), "1");
    cluster.rotate("Secret2").unwrap();
    assert!(
        ask(&before, "SELECT 1")
            .unwrap_err()
            .contains("password authentication failed")
    );
    assert_eq!(ask(&cluster.url(), "SELECT 1").unwrap(), "1");
}
