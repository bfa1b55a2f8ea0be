//! The host's script for restores with a real second engine, on data that comes from elsewhere.

use sandbox::addon::Engine;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use testkit::programs;

/// A host's files in a folder of their own, with the programs of one engine.
struct Host {
    root: tempfile::TempDir,
    /// `redis` or `valkey`.
    name: &'static str,
}

struct Said {
    status: i32,
    output: String,
    errors: String,
}

impl Host {
    fn with(engine: Engine) -> Host {
        let name = if engine == Engine::Valkey8 { "valkey" } else { "redis" };
        let root = tempfile::tempdir().unwrap();
        let host = Host { root, name };
        for folder in ["etc/infra", "bin", "data", "var"] {
            std::fs::create_dir_all(host.path(folder)).unwrap();
        }
        let paths = sandbox::paths::Paths::from_environment().unwrap();
        let program = engine.ensure(&paths, &|line| eprintln!("{line}")).unwrap();
        let server = program.command().unwrap().into_std();
        let mut words: Vec<String> = vec![server.get_program().to_str().unwrap().into()];
        words.extend(server.get_args().map(|word| word.to_str().unwrap().to_string()));
        let server = PathBuf::from(words.pop().unwrap());
        for tool in ["server", "cli", "check-rdb"] {
            let tool = format!("{name}-{tool}");
            let path = match tool.ends_with("-server") {
                true => server.clone(),
                false => server.with_file_name("root/usr/bin").join(&tool),
            };
            host.write_program(&tool, &format!("exec {} {} \"$@\"", words.join(" "), path.display()));
        }
        let user = Command::new("id").arg("-un").output().unwrap().stdout;
        let lines = [
            format!("INFRA_UNIT={name}-server.service"),
            format!("INFRA_USER={}", String::from_utf8(user).unwrap().trim()),
            format!("INFRA_CLIENT={}", host.path(&format!("bin/{name}-cli")).display()),
            format!(
                "INFRA_RDB_CHECK={}",
                host.path(&format!("bin/{name}-check-rdb")).display()
            ),
            format!("INFRA_CONFIG={}", host.path("config").display()),
            format!("INFRA_DATA={}", host.path("data").display()),
            format!("INFRA_SOCKET={}", host.path("live.sock").display()),
        ];
        std::fs::write(host.path("etc/infra/host.env"), lines.join("\n")).unwrap();
        host.configure("");
        let script = std::fs::read_to_string(super::templates().join("infra-restore.sh")).unwrap();
        let root = host.root.path().display().to_string();
        let script = script
            .replace("/etc/infra", &format!("{root}/etc/infra"))
            .replace("/var/lib/infra", &format!("{root}/var"))
            .replace(
                "/usr/local/sbin/infra-agent",
                programs::path_of("infra-agent").to_str().unwrap(),
            );
        std::fs::write(host.path("bin/infra-restore"), script).unwrap();
        host
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn write_program(&self, name: &str, script: &str) {
        let path = self.path("bin").join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    }

    fn configure(&self, lines: &str) {
        std::fs::write(self.path("config"), lines).unwrap();
    }

    fn run(&self, words: &[&str], input: &[u8]) -> Said {
        let mut script = Command::new("bash")
            .arg(self.path("bin/infra-restore"))
            .args(words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        script.stdin.take().unwrap().write_all(input).unwrap();
        let output = script.wait_with_output().unwrap();
        Said {
            status: output.status.code().unwrap(),
            output: String::from_utf8(output.stdout).unwrap(),
            errors: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Puts this file into the folder that is tried next.
    fn import(&self, file: &[u8]) -> Said {
        let _ = std::fs::remove_dir_all(self.path("data/restore-x"));
        self.run(&["import", "x"], file)
    }

    fn is_built(&self) -> bool {
        self.path("data/restore-x").exists()
    }
}

impl Said {
    #[track_caller]
    fn is(&self, status: i32, words: &str) {
        let all = format!("{}{}", self.output, self.errors);
        assert_eq!(self.status, status, "{all}");
        assert!(all.contains(words), "{words:?} is not said: {all}");
    }
}

/// Returns an RDB file as Redis 5 writes it, with one key in each of these databases.
fn file(databases: &[u8]) -> Vec<u8> {
    let mut bytes = b"REDIS0009".to_vec();
    for database in databases {
        bytes.extend([0xfe, *database]);
        bytes.extend(b"\x00\x03key\x05value");
    }
    bytes.push(0xff);
    // A checksum of zero stands for none.
    bytes.extend([0; 8]);
    bytes
}

fn both() -> [Host; 2] {
    [Engine::Redis8, Engine::Valkey8].map(Host::with)
}

#[test]
fn a_file_is_tried_by_the_engine_of_the_host() {
    for host in both() {
        host.import(&file(&[0, 3])).is(0, "");
        let version = if host.name == "valkey" { "8.1.1" } else { "8.0.2" };
        host.run(&["check", "x"], b"")
            .is(0, &format!("keys 2 expires 0 expired 0 version {version}\n"));
        host.run(&["plain", "x"], b"").is(0, "keys 2 ");
        let log = std::fs::read_dir(host.path("data/restore-x/appendonlydir")).unwrap();
        let names: Vec<_> = log
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        assert!(names.iter().any(|name| name.ends_with("base.aof")), "{names:?}");
    }
}

#[test]
fn data_of_more_databases_than_the_engine_has_is_refused_before_it_is_put_in_force() {
    for host in both() {
        let refusal = "it has keys in database 20, and the engine of this host has 16 databases";
        host.import(&file(&[0, 20])).is(1, refusal);
        assert!(!host.is_built(), "{}", host.name);
        host.configure("databases 21\n");
        host.import(&file(&[0, 20])).is(0, "");
        host.run(&["check", "x"], b"").is(0, "keys 2 ");
        // If there is no memory for a second engine, the script checks the file itself.
        let large = std::fs::File::create(host.path("data/restore-x/large")).unwrap();
        large.set_len(1 << 42).unwrap();
        host.run(&["check", "x"], b"").is(0, "unchecked ");
        host.configure("databases 16\n");
        host.run(&["check", "x"], b"").is(1, refusal);
        std::fs::remove_file(host.path("data/restore-x/large")).unwrap();
        host.run(&["check", "x"], b"").is(1, refusal);
    }
}

#[test]
fn data_that_is_to_blame_is_told_from_an_engine_that_cannot_run() {
    for host in both() {
        let whole = file(&[0]);
        host.import(&whole[..whole.len() - 12]).is(5, "no whole RDB file");
        assert!(!host.is_built(), "{}", host.name);
        // The checker passes over the data of a module, and the engine does not.
        let module = b"\x81\x87\xae\x5a\x7b\x61\xda\xd1\x04";
        for (before, after) in [
            (&b"\xf7"[..], &b"\x02\x02\x02\x07\x00"[..]),
            (b"\xfe\x00\x07\x01k", b"\x02\x07\x00"),
        ] {
            let data = [b"REDIS0009", before, module, after, b"\xff\0\0\0\0\0\0\0\0"].concat();
            host.import(&data).is(0, "");
            host.run(&["check", "x"], b"").is(5, "no matching module");
        }
        host.import(&whole).is(0, "");
        for (script, words) in [
            (
                "echo 'error while loading shared libraries' >&2; exit 127",
                "shared libraries",
            ),
            ("kill -KILL $$", "was ended before it had loaded it"),
        ] {
            host.write_program(&format!("{}-server", host.name), script);
            host.run(&["check", "x"], b"").is(1, words);
        }
        host.write_program(&format!("{}-check-rdb", host.name), "kill -KILL $$");
        host.import(&whole).is(1, "ended with status 137");
    }
}
