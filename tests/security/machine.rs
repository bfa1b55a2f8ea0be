//! The machines behind the hosts, from the side of this computer's root, and machines that belong to nobody.

use infra::model::secret::Secret;
use std::process::{Command, Output, Stdio};
use testkit::world::World;

/// One machine of the pair, or beside it.
pub struct Machine {
    pub instance: String,
    /// Private one first.
    pub addresses: Vec<String>,
    leader: u64,
}

impl Machine {
    /// The one with this tag that runs: `infra:role` and `master`.
    pub fn tagged(world: &World, tag: &str, value: &str) -> Self {
        let instances = testkit::access::instances();
        let found = (instances.iter()).find(|machine| machine["tags"][tag] == value && machine["state"] == "running");
        let found = found.unwrap_or_else(|| panic!("no machine {tag}={value} in {instances:#?}"));
        let instance = found["id"].as_str().unwrap();
        let machine = &world.sandbox_status()["machines"][instance];
        Machine {
            instance: instance.into(),
            addresses: machine["addresses"]
                .as_array()
                .unwrap()
                .iter()
                .map(|address| address.as_str().unwrap().to_string())
                .collect(),
            leader: machine["leader"].as_u64().unwrap(),
        }
    }

    pub fn of_role(world: &World, role: &str) -> Self {
        Self::tagged(world, "infra:role", role)
    }

    /// Returns what a shell of its root prints, whatever it ends with.
    pub fn root(&self, script: &str) -> String {
        text(&self.shell(script).output().unwrap())
    }

    /// Returns its engine's answer over the socket, to somebody with this password.
    pub fn engine_as(&self, user: &str, password: &Secret, command: &str) -> String {
        self.root(&format!(
            "REDISCLI_AUTH={} timeout 5 redis-cli -s /run/redis/redis-server.sock --no-auth-warning --user {user} {}",
            password.expose(),
            command.replace('*', "'*'")
        ))
    }

    pub fn shell(&self, script: &str) -> Command {
        let mut command = Command::new("nsenter");
        command
            .args(["-t", &self.leader.to_string(), "-a", "--", "/usr/bin/env", "-i"])
            .args(["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C", "bash", "-c", script])
            .stdin(Stdio::null());
        command
    }

    /// Its network namespace, in which this computer's programs can be run.
    pub fn namespace(&self) -> String {
        format!("infra-sb{}", &self.instance[self.instance.len() - 7..])
    }
}

/// A machine of a stranger's on the same network: real packets, an address of its own, in no security group.
pub struct Outsider {
    name: &'static str,
}

impl Outsider {
    pub fn at(name: &'static str, address: &str) -> Self {
        let outsider = Outsider { name };
        // The sandbox's own prefix: `sandbox down` removes it, should this test be killed.
        let namespace = outsider.namespace();
        let script = format!(
            "ip netns add {namespace} && ip link add {namespace} type veth peer name eth0 netns {namespace} && ip link set {namespace} master infra-sb0 up \
             && ip -n {namespace} link set lo up && ip -n {namespace} addr add {address}/16 dev eth0 && ip -n {namespace} link set eth0 up"
        );
        let made = Command::new("sh").args(["-c", &script]).output().unwrap();
        assert!(made.status.success(), "{}", text(&made));
        outsider
    }

    pub fn namespace(&self) -> String {
        format!("infra-sb{}", self.name)
    }

    /// Returns what a program of this computer prints when it is run there.
    pub fn run(&self, program: &[&str]) -> String {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace()]).args(program);
        text(&command.stdin(Stdio::null()).output().unwrap())
    }
}

impl Drop for Outsider {
    fn drop(&mut self) {
        let namespace = self.namespace();
        let _ = Command::new("ip").args(["link", "del", &namespace]).output();
        let _ = Command::new("ip").args(["netns", "del", &namespace]).output();
    }
}

/// Both streams of what a program printed.
pub fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.as_slice(), output.stderr.as_slice()].concat()).into_owned()
}

/// A parameter of the environment.
pub fn parameter(name: &str) -> String {
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let client = aws_sdk_ssm::Client::new(&testkit::access::config().await);
        let full = format!("/infra/demo/production/{name}");
        let answer = client.get_parameter().name(full).with_decryption(true).send().await;
        answer.unwrap().parameter.unwrap().value.unwrap()
    })
}
