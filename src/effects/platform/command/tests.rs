use super::*;
use crate::ui::Ui;

/// An app with its vars in a file; its processes run with the copy that the last restart made.
fn hook(folder: &std::path::Path, edit: impl FnOnce(&mut AppCommands)) -> Hook {
    let at = |name: &str| folder.join(name).display().to_string();
    std::fs::write(
        folder.join("vars"),
        r#"{"REDIS_URL":"redis://u:old-secret@a:1","OLD":"x"}"#,
    )
    .unwrap();
    std::fs::copy(folder.join("vars"), folder.join("running")).unwrap();
    let mut commands = AppCommands {
        read: format!("cat {}", at("vars")),
        set: format!(
            "python3 -c 'import json,sys; f=sys.argv[1]; v=json.load(open(f)); v.update(json.load(sys.stdin)); json.dump({{k:x for k,x in v.items() if x is not None}}, open(f,\"w\"))' {}",
            at("vars")
        ),
        verify: format!("cmp -s {} {}", at("vars"), at("running")),
        restart: Some(format!("cp {} {}", at("vars"), at("running"))),
        stop: None,
        start: None,
    };
    edit(&mut commands);
    Hook::new("shop", commands)
}

fn wanted() -> BTreeMap<String, Option<Secret>> {
    [
        (
            "REDIS_URL".to_string(),
            Some(Secret::new("rediss://app:new-secret@b:2")),
        ),
        ("OLD".to_string(), None),
    ]
    .into()
}

#[tokio::test]
async fn a_verify_command_that_cannot_be_run_is_not_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("no-program"), "").unwrap();
    let found = folder.path().join("no-program").display().to_string();
    for (command, reason) in [("no-such-command", "not found"), (found.as_str(), "denied")] {
        let hook = hook(folder.path(), |commands| commands.verify = command.into());
        let begun = std::time::Instant::now();
        let step = Ui::silent().step("test");
        let waited = hook.await_processes(Duration::from_secs(60), &step).await;
        let error = waited.unwrap_err();
        assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
        let said = error.chain().join(": ");
        assert!(said.contains("app.commands.verify") && said.contains(reason), "{said}");
    }
}

#[tokio::test]
async fn vars_are_read_set_and_removed_and_the_processes_restarted() {
    let folder = tempfile::tempdir().unwrap();
    let hook = hook(folder.path(), |_| ());
    assert_eq!(hook.set_config_vars(&wanted()).await.unwrap(), Some(0));
    assert_eq!(hook.set_config_vars(&wanted()).await.unwrap(), None, "set twice");
    let vars = hook.config_vars().await.unwrap();
    assert_eq!(vars.names().collect::<Vec<_>>(), ["REDIS_URL"]);
    assert_eq!(
        vars.get("REDIS_URL").unwrap().unwrap().expose(),
        "rediss://app:new-secret@b:2"
    );
    let step = Ui::silent().step("test");
    hook.await_processes(Duration::from_secs(20), &step).await.unwrap();
    assert!(
        std::fs::read_to_string(folder.path().join("running"))
            .unwrap()
            .contains("new-secret")
    );
}

#[tokio::test]
async fn processes_that_never_take_the_vars_are_an_error_that_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let hook = hook(folder.path(), |commands| commands.restart = Some("true".into()));
    hook.set_config_vars(&wanted()).await.unwrap();
    let step = Ui::silent().step("test");
    let error = hook
        .await_processes(Duration::from_millis(200), &step)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("app shop"), "{error}");
    assert!(error.next_step().unwrap().contains("app.commands.verify"));
}

#[tokio::test]
async fn neither_errors_nor_arguments_show_a_secret() {
    let folder = tempfile::tempdir().unwrap();
    let hook = hook(folder.path(), |commands| {
        commands.set = "cat >&2; tr '\\0' ' ' </proc/$$/cmdline >&2; exit 3".into()
    });
    let error = hook.set_config_vars(&wanted()).await.unwrap_err();
    let text = format!("{:?}", error.chain());
    assert!(text.contains("app.commands.set") && text.contains('3'), "{text}");
    assert!(!text.contains("secret"), "{text}");
    let broken = super::tests::hook(folder.path(), |commands| commands.read = "echo old-secret".into());
    let text = format!("{:?}", broken.config_vars().await.unwrap_err().chain());
    assert!(text.contains("no JSON") && !text.contains("secret"), "{text}");
}

#[tokio::test]
async fn a_change_that_read_does_not_show_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let hook = hook(folder.path(), |commands| commands.set = "true".into());
    let error = hook.set_config_vars(&wanted()).await.unwrap_err();
    assert!(
        error.chain().join(" ").contains("still prints other values"),
        "{error:?}"
    );
}

#[tokio::test]
async fn an_app_that_cannot_be_stopped_is_a_usage_error_with_the_fields_to_set() {
    let folder = tempfile::tempdir().unwrap();
    let error = hook(folder.path(), |_| ()).stop().await.unwrap_err();
    assert!(error.next_step().unwrap().contains("app.commands.stop"));
}

#[tokio::test]
async fn a_command_that_prints_for_ever_is_ended() {
    let folder = tempfile::tempdir().unwrap();
    for endless in ["yes", "yes >&2", "cat /dev/zero"] {
        let hook = hook(folder.path(), |commands| commands.read = endless.into());
        let error = hook.config_vars().await.unwrap_err();
        assert!(error.chain().join(": ").contains("printed more than"), "{error:?}");
    }
}

#[test]
fn no_output_of_a_command_does_harm() {
    let words = ["\"REDIS_URL\":", "{\"A\":"];
    crate::fuzz::bytes(
        &[r#"{"REDIS_URL":"redis://u:p@a:1","B":null,"C":{"D":[1]}}"#],
        &words,
        |input| {
            drop(serde_json::from_slice::<BTreeMap<String, Shown>>(input));
        },
    );
}

#[tokio::test]
async fn a_failed_set_changed_nothing_only_if_all_old_values_are_still_there() {
    let cases = [
        ("cat >/dev/null; exit 3", true),
        ("echo '{\"REDIS_URL\": \"half\"}' >vars; exit 3", false),
    ];
    for (set, refused) in cases {
        let folder = tempfile::tempdir().unwrap();
        let hook = hook(folder.path(), |commands| {
            commands.set = format!("cd {}; {set}", folder.path().display());
        });
        let error = hook.set_config_vars(&wanted()).await.unwrap_err();
        assert_eq!(error.nothing_changed(), refused, "{set}: {error:?}");
    }
}

#[tokio::test]
async fn a_failed_set_that_has_set_everything_counts_as_made() {
    let folder = tempfile::tempdir().unwrap();
    let hook = hook(folder.path(), |commands| {
        commands.set = format!("{{ {}; }}; exit 3", commands.set)
    });
    assert_eq!(hook.set_config_vars(&wanted()).await.unwrap(), Some(0));
}
