//! The binary alone: help, usage errors and exit codes. No cloud, no network.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test stops at what it did not expect"
)]

use testkit::document;

use assert_cmd::Command;
use clap::CommandFactory;
use std::path::Path;

fn infra(folder: &Path) -> Command {
    let mut command = Command::cargo_bin("infra").unwrap();
    command
        .env_clear()
        .env("HEROKU_API_KEY", "not-a-key")
        .current_dir(folder);
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn help_names_every_verb_and_every_exit_code() {
    let folder = tempfile::tempdir().unwrap();
    let output = infra(folder.path()).arg("--help").output().unwrap();
    assert!(output.status.success());
    insta::assert_snapshot!("help", text(&output.stdout));
}

#[test]
fn the_help_of_every_verb_says_what_it_takes() {
    let folder = tempfile::tempdir().unwrap();
    let cli = infra::commands::cli::Cli::command();
    let verbs: Vec<&str> = cli.get_subcommands().map(|verb| verb.get_name()).collect();
    assert!(verbs.contains(&"switch-app"), "{verbs:?}");
    for verb in verbs {
        let output = infra(folder.path()).args([verb, "-h"]).output().unwrap();
        assert!(output.status.success());
        insta::assert_snapshot!(format!("help of {verb}"), text(&output.stdout));
    }
}

/// The long help of `infra` and of every command under it. Only the first shows the options that all have.
fn all_help() -> String {
    let mut cli = without_values(infra::commands::cli::Cli::command().term_width(100));
    let first = one_help("infra", &mut cli.clone());
    cli = cli.mut_args(|option| {
        let is_global = option.is_global_set();
        option.hide(is_global)
    });
    cli = cli.disable_help_flag(true).disable_version_flag(true);
    cli = cli.disable_help_subcommand(true);
    cli.build();
    first + &help_under("infra", &mut cli)
}

/// Leaves out what the environment variables hold at the moment.
fn without_values(command: clap::Command) -> clap::Command {
    let command = command.mut_args(|option| option.hide_env_values(true));
    command.mut_subcommands(without_values)
}

fn help_under(path: &str, command: &mut clap::Command) -> String {
    let mut text = String::new();
    for verb in command.get_subcommands_mut() {
        let path = format!("{path} {}", verb.get_name());
        text += &(one_help(&path, verb) + &help_under(&path, verb));
    }
    text
}

fn one_help(path: &str, command: &mut clap::Command) -> String {
    let help = command.render_long_help().to_string();
    let lines: Vec<&str> = help.trim_end().lines().map(str::trim_end).collect();
    format!("\n```text\n$ {path} --help\n{}\n```\n", lines.join("\n"))
}

#[test]
fn the_document_shows_the_help_of_every_command() {
    document::holds("docs/commands.md", "help", &all_help());
}

#[test]
fn a_usage_error_exits_with_64_and_not_with_clap_s_2() {
    let folder = tempfile::tempdir().unwrap();
    for arguments in [
        &["fly"][..],
        &["verify", "--rounds", "0"],
        &["up", "--timeout", "soon"],
        &["up", "--detailed-exitcode"],
    ] {
        let output = infra(folder.path()).args(arguments).output().unwrap();
        assert_eq!(
            output.status.code(),
            Some(64),
            "{arguments:?}: {}",
            text(&output.stderr)
        );
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn a_missing_file_is_a_usage_error_with_a_next_step_also_as_json() {
    let folder = tempfile::tempdir().unwrap();
    let output = infra(folder.path()).args(["check", "--json"]).output().unwrap();
    assert_eq!(output.status.code(), Some(64));
    insta::assert_snapshot!("a missing infra.yml", text(&output.stderr));
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["error"]["kind"], "usage");
    assert_eq!(json["error"]["exit_code"], 64);
    assert_eq!(json["schema_version"], 1);
}

#[test]
fn a_wrong_field_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let wrong = "name: Demo\nsource: {config_var: REDIS_URL}\napp: {name: demo}\n";
    std::fs::write(folder.path().join("infra.yml"), wrong).unwrap();
    let output = infra(folder.path()).arg("up").output().unwrap();
    assert_eq!(output.status.code(), Some(64));
    insta::assert_snapshot!("a wrong field", text(&output.stderr));
}

#[test]
fn without_the_platform_s_key_it_says_which_variable_to_set() {
    let folder = tempfile::tempdir().unwrap();
    let config = "name: demo\nsource: {config_var: REDIS_URL}\napp: {name: demo}\n";
    std::fs::write(folder.path().join("infra.yml"), config).unwrap();
    let output = infra(folder.path())
        .env_remove("HEROKU_API_KEY")
        .arg("check")
        .output()
        .unwrap();
    assert_ne!(output.status.code(), Some(0));
    assert!(
        text(&output.stderr).contains("HEROKU_API_KEY"),
        "{}",
        text(&output.stderr)
    );
}
