//! The commands of the story, each run as its own process.

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::machines::control_group;
use crate::paths::Paths;
use crate::source::Vars;

/// The deployment's name in the demo.
pub const NAME: &str = "demo";

/// Where the binaries and the demo's folder are.
pub struct Runner {
    sandbox: PathBuf,
    infra: PathBuf,
    folder: PathBuf,
}

/// The verdict on the ledgers.
pub struct Judged {
    /// By the checker's own exit code: the checker decides which findings count.
    pub is_clean: bool,
    pub figures: Value,
}

impl Runner {
    pub fn new() -> Result<Self> {
        let sandbox = std::env::current_exe().context("find this program")?;
        let infra = sandbox.with_file_name("infra");
        if !infra.exists() {
            bail!(
                "find {}: build it with `cargo build --workspace --bins`",
                infra.display()
            );
        }
        let folder = Paths::from_environment()?.state().join("demo");
        Ok(Runner { sandbox, infra, folder })
    }

    /// Writes the smallest `infra.yml` for the sandbox's app, which reads its add-on by these vars.
    pub fn write_config(&self, vars: Vars) -> Result<PathBuf> {
        std::fs::create_dir_all(&self.folder).context("make the demo's folder")?;
        let path = self.folder.join("infra.yml");
        let source = vars.of_source();
        let text = format!("name: {NAME}\nsource:\n  config_var: {source}\napp:\n  name: demo\n");
        std::fs::write(&path, text).context("write the demo's infra.yml")?;
        Ok(path)
    }

    /// Runs a verb of the sandbox and shows what it prints.
    pub fn sandbox(&self, arguments: &[&str]) -> Result<()> {
        eprintln!("$ sandbox {}", arguments.join(" "));
        let status = Command::new(&self.sandbox)
            .args(arguments)
            .status()
            .context("start sandbox")?;
        if status.success() {
            Ok(())
        } else {
            bail!("`sandbox {}` ended with {status}", arguments.join(" "))
        }
    }

    /// Runs a verb of infra inside the sandbox and shows what it prints.
    pub fn infra(&self, config: &Path, arguments: &[&str]) -> Result<()> {
        eprintln!("$ infra {}", arguments.join(" "));
        let status = self.command(config, arguments, &[]).status().context("start infra")?;
        if status.success() {
            Ok(())
        } else {
            bail!("`infra {}` ended with {status}", arguments.join(" "))
        }
    }

    /// Runs a verb of infra, shows what it prints, and returns that.
    pub fn infra_text(&self, config: &Path, arguments: &[&str]) -> Result<String> {
        eprintln!("$ infra {}", arguments.join(" "));
        let mut command = self.command(config, arguments, &[]);
        let output = command.stderr(Stdio::inherit()).output().context("start infra")?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        eprint!("{text}");
        if !output.status.success() {
            bail!("`infra {}` ended with {}", arguments.join(" "), output.status);
        }
        Ok(text)
    }

    /// Writes the mapping of PostgreSQL's tables beside the config.
    pub fn write_mapping(&self, text: &str) -> Result<PathBuf> {
        let path = self.folder.join("import.yml");
        std::fs::write(&path, text).context("write the demo's import.yml")?;
        Ok(path)
    }

    /// Runs a verb of infra with `--json` and returns what it printed on stdout.
    pub fn infra_json(&self, config: &Path, arguments: &[&str]) -> Result<Value> {
        let shown = arguments.join(" ");
        if arguments != ["status"] {
            eprintln!("$ infra {shown} --json");
        }
        let output = self
            .command(config, arguments, &["--json"])
            .stderr(Stdio::inherit())
            .output()
            .context("start infra")?;
        if !output.status.success() {
            bail!("`infra {shown}` ended with {}", output.status);
        }
        serde_json::from_slice(&output.stdout).with_context(|| format!("read what `infra {shown} --json` printed"))
    }

    /// Returns whether infra has this verb.
    pub fn knows(&self, config: &Path, verb: &str) -> bool {
        let mut help = self.command(config, &[verb, "--help"], &[]);
        let help = help.stdout(Stdio::null()).stderr(Stdio::null()).status();
        help.is_ok_and(|status| status.success())
    }

    /// Returns the instance of a role, as the inventory names it.
    pub fn instance_of(&self, role: &str) -> Result<String> {
        let path = self.folder.join("inventory/production.yml");
        let text = std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        let host = text.split(&format!("{role}:\n")).nth(1).unwrap_or_default();
        let line = host.lines().find(|line| line.contains("infra_instance_id"));
        let id = line.and_then(|line| line.rsplit(' ').next());
        id.map(str::to_owned)
            .with_context(|| format!("find the {role} in {}", path.display()))
    }

    /// Takes the power from an instance's machine, as a failing computer below it does.
    pub fn power_off(&self, instance: &str) -> Result<()> {
        eprintln!("  {instance} loses its power");
        for process in control_group::processes(Some(instance)) {
            let _ = kill(Pid::from_raw(process), Signal::SIGKILL);
        }
        Ok(())
    }

    /// Terminates an instance, as AWS does with one whose computer is gone.
    pub fn terminate(&self, instance: &str) -> Result<()> {
        eprintln!("  {instance} is terminated");
        let code = "import boto3, os, sys; \
            boto3.client('ec2', endpoint_url=os.environ['AWS_ENDPOINT_URL']).terminate_instances(InstanceIds=[sys.argv[1]])";
        let python = Paths::from_environment()?.python_environment().join("bin/python");
        let status = Command::new(&self.sandbox)
            .args([
                "run".as_ref(),
                python.as_os_str(),
                "-c".as_ref(),
                code.as_ref(),
                instance.as_ref(),
            ])
            .status()
            .context("start python")?;
        if status.success() {
            Ok(())
        } else {
            bail!("terminate {instance}: python ended with {status}")
        }
    }

    fn command(&self, config: &Path, arguments: &[&str], after: &[&str]) -> Command {
        let mut command = Command::new(&self.sandbox);
        command.args([
            "run".as_ref(),
            self.infra.as_os_str(),
            "--config".as_ref(),
            config.as_os_str(),
        ]);
        command
            .args(["--inventory".as_ref(), self.folder.join("inventory").as_os_str()])
            .args(after)
            .args(arguments);
        command
    }

    /// Returns whether a process of the app was asked to stop and is still there.
    pub fn is_any_process_ending(&self) -> Result<bool> {
        let output = Command::new(&self.sandbox)
            .args(["app", "report"])
            .stderr(Stdio::inherit())
            .output()
            .context("start sandbox")?;
        let report: Value = serde_json::from_slice(&output.stdout).context("read what `sandbox app report` printed")?;
        let processes = report["platform"]["apps"].as_array().into_iter().flatten();
        let mut processes = processes.flat_map(|app| app["processes"].as_array().into_iter().flatten());
        Ok(processes.any(|process| process["state"] == "retiring"))
    }

    /// Compares the ledgers with the app's present Redis. A loss is a finding here and no error.
    pub fn ledger(&self) -> Result<Judged> {
        self.ledger_since(0)
    }

    /// The same; gaps and errors are those from a time on, in microseconds since 1970.
    pub fn ledger_since(&self, since_us: u64) -> Result<Judged> {
        let output = Command::new(&self.sandbox)
            .args(["ledger", "check", "--json", "--since", &since_us.to_string()])
            .stderr(Stdio::inherit())
            .output()
            .context("start sandbox")?;
        Ok(Judged {
            is_clean: output.status.success(),
            figures: serde_json::from_slice(&output.stdout)
                .context("read what `sandbox ledger check --json` printed")?,
        })
    }
}
