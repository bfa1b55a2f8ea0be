use clap::Parser;
use infra::commands::cli::Cli;
use infra::model::error::ExitCode;
use std::process::ExitCode as ProcessExitCode;

fn main() -> ProcessExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are no errors. For a usage error clap would exit with 2.
            let code = if error.use_stderr() {
                ExitCode::Usage
            } else {
                ExitCode::Done
            };
            let _ = error.print();
            return ProcessExitCode::from(code as u8);
        }
    };
    ProcessExitCode::from(infra::commands::run(cli) as u8)
}
