use super::*;

fn now() -> Timestamp {
    Timestamp::from_second(1_763_856_000).unwrap()
}

fn pairs<const N: usize>(items: [(&str, &str); N]) -> BTreeMap<String, String> {
    items.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
}

fn set(name: &str, value: &str) -> BTreeMap<String, Option<String>> {
    [(name.to_owned(), Some(value.to_owned()))].into()
}

/// An app with two web processes and a Redis attached as REDIS, as in real life.
fn platform() -> Platform {
    let mut platform = Platform::new("seed");
    let formation = [("web".to_owned(), (vec!["serve".to_owned()], 2))].into();
    platform
        .create_app("demo", "us", formation, pairs([("COLOUR", "red")]), now())
        .unwrap();
    let values = pairs([("URL", "rediss://old"), ("TLS_URL", "rediss://old-tls")]);
    platform
        .provide_addon("demo", "redis-oval-1", "hosted:mini", values, "REDIS", now())
        .unwrap();
    platform
}

fn attach(platform: &mut Platform, name: &str, confirm: Option<&str>) -> Result<(Uuid, Vec<Action>), Refusal> {
    let request = AttachRequest {
        addon: "redis-oval-1".into(),
        app: "demo".into(),
        name: Some(name.into()),
        confirm: confirm.map(str::to_owned),
    };
    platform.attach(request, now())
}

fn var(platform: &Platform, name: &str) -> Option<String> {
    platform.config_vars(platform.app("demo").unwrap()).get(name).cloned()
}

fn attachment(platform: &Platform, name: &str) -> Uuid {
    let app = platform.app("demo").unwrap().id;
    platform
        .attachments_of_app(app)
        .into_iter()
        .find(|item| item.name == name)
        .unwrap()
        .id
}

fn versions(platform: &Platform) -> usize {
    platform.app("demo").unwrap().releases.len()
}

#[test]
fn an_attachments_variable_is_not_overwritten_and_nothing_else_of_the_request_is_done() {
    let mut platform = platform();
    let before = versions(&platform);
    let mut changes = set("REDIS_URL", "rediss://new");
    changes.extend(set("COLOUR", "blue"));
    let refusal = platform.patch_vars("demo", changes, now()).unwrap_err();
    assert_eq!((refusal.status, refusal.id.as_str()), (422, "invalid_params"));
    assert_eq!(refusal.message, "Cannot overwrite attachment values REDIS_URL.");
    assert_eq!(var(&platform, "COLOUR").as_deref(), Some("red"));
    assert_eq!(versions(&platform), before);
    let removal = [("REDIS_TLS_URL".to_owned(), None)].into();
    assert!(platform.patch_vars("demo", removal, now()).is_err());
}

#[test]
fn each_attachment_owns_a_set_of_its_own_with_every_value_of_the_add_on() {
    let mut platform = platform();
    attach(&mut platform, "HOSTED_REDIS", None).unwrap();
    for owned in ["REDIS_TLS_URL", "HOSTED_REDIS_URL", "HOSTED_REDIS_TLS_URL"] {
        let refusal = platform
            .patch_vars("demo", set(owned, "rediss://new"), now())
            .unwrap_err();
        assert_eq!(refusal.message, format!("Cannot overwrite attachment values {owned}."));
    }
    let many = ["REDIS_URL", "REDIS_TLS_URL"]
        .map(|name| (name.to_owned(), None))
        .into();
    let refusal = platform.patch_vars("demo", many, now()).unwrap_err();
    assert_eq!(
        refusal.message,
        "Cannot overwrite attachment values REDIS_TLS_URL, REDIS_URL."
    );
    platform.patch_vars("demo", set("REDIS_POOL", "5"), now()).unwrap();
    // An add-on's own names do not change with its attachments.
    let redis = attachment(&platform, "REDIS").to_string();
    platform.detach(&redis, now()).unwrap();
    let addon = platform.addon("redis-oval-1").unwrap();
    assert_eq!(addon.config_vars, ["REDIS_TLS_URL", "REDIS_URL"]);
    platform
        .patch_vars("demo", set("REDIS_TLS_URL", "rediss://new"), now())
        .unwrap();
}

#[test]
fn attaching_over_a_plain_variable_needs_a_confirmation() {
    for in_the_way in ["CACHE_URL", "CACHE_TLS_URL"] {
        let mut platform = platform();
        platform.patch_vars("demo", set(in_the_way, "mine"), now()).unwrap();
        let refusal = attach(&mut platform, "CACHE", None).unwrap_err();
        assert_eq!(
            (refusal.status, refusal.id.as_str()),
            (423, "confirmation_required"),
            "{in_the_way}"
        );
        assert_eq!(var(&platform, in_the_way).as_deref(), Some("mine"));
        platform.patch_vars("demo", set("CACHE_POOL", "5"), now()).unwrap();
        attach(&mut platform, "CACHE", Some("demo")).unwrap();
        assert_eq!(var(&platform, "CACHE_TLS_URL").as_deref(), Some("rediss://old-tls"));
        assert_eq!(var(&platform, "CACHE_POOL").as_deref(), Some("5"));
    }
}

#[test]
fn the_last_attachment_of_the_paying_app_stays() {
    let mut platform = platform();
    let redis = attachment(&platform, "REDIS").to_string();
    let refusal = platform.detach(&redis, now()).unwrap_err();
    assert_eq!(
        refusal.message,
        "Cannot destroy last attachment to billing app for resource redis-oval-1"
    );
    assert_eq!(refusal.status, 422);
}

#[test]
fn an_attachment_elsewhere_does_not_make_up_for_the_last_one_of_the_paying_app() {
    let mut platform = platform();
    platform
        .create_app("other", "us", BTreeMap::new(), BTreeMap::new(), now())
        .unwrap();
    let request = AttachRequest {
        addon: "redis-oval-1".into(),
        app: "other".into(),
        ..AttachRequest::default()
    };
    let (elsewhere, _) = platform.attach(request, now()).unwrap();
    assert!(
        platform
            .detach(&attachment(&platform, "REDIS").to_string(), now())
            .is_err()
    );
    assert!(platform.detach(&elsewhere.to_string(), now()).is_ok());
}

#[test]
fn the_way_out_is_a_second_name_then_detach_then_a_plain_variable() {
    let mut platform = platform();
    attach(&mut platform, "HOSTED_REDIS", None).unwrap();
    platform
        .detach(&attachment(&platform, "REDIS").to_string(), now())
        .unwrap();
    assert_eq!(var(&platform, "REDIS_URL"), None);
    assert_eq!(
        var(&platform, "REDIS_TLS_URL"),
        None,
        "the attachment's other variables go with it"
    );
    platform
        .patch_vars("demo", set("REDIS_URL", "rediss://new"), now())
        .unwrap();
    assert_eq!(var(&platform, "REDIS_URL").as_deref(), Some("rediss://new"));
    assert_eq!(var(&platform, "HOSTED_REDIS_URL").as_deref(), Some("rediss://old"));
}

#[test]
fn attaching_over_a_name_needs_the_apps_name_and_makes_two_releases() {
    let mut platform = platform();
    attach(&mut platform, "HOSTED_REDIS", None).unwrap();
    let before = versions(&platform);
    for confirm in [None, Some("other")] {
        let refusal = attach(&mut platform, "REDIS", confirm).unwrap_err();
        assert_eq!((refusal.status, refusal.id.as_str()), (423, "confirmation_required"));
    }
    attach(&mut platform, "REDIS", Some("demo")).unwrap();
    assert_eq!(versions(&platform), before + 2);
}

#[test]
fn every_change_makes_a_release_and_restarts_all() {
    let mut platform = platform();
    let before = versions(&platform);
    let actions = platform.patch_vars("demo", set("COLOUR", "blue"), now()).unwrap();
    assert_eq!(versions(&platform), before + 1);
    let stops = actions
        .iter()
        .filter(|action| matches!(action, Action::Stop { serve_on: false, .. }))
        .count();
    let starts = actions
        .iter()
        .filter(|action| matches!(action, Action::Start { .. }))
        .count();
    assert_eq!((stops, starts), (2, 2));
    assert_eq!(
        platform.patch_vars("demo", set("COLOUR", "blue"), now()).unwrap(),
        [],
        "nothing changed"
    );
    assert_eq!(versions(&platform), before + 1);
}

fn with_release_phase() -> (Platform, Uuid) {
    let mut platform = platform();
    let app = platform.app_mut("demo").unwrap();
    app.behaviour.release_phase = Some(super::super::ReleasePhase {
        seconds: 5.0,
        fails: false,
    });
    let id = app.id;
    (platform, id)
}

#[test]
fn a_release_phase_delays_the_change_and_a_failed_one_undoes_it() {
    let (mut platform, app) = with_release_phase();
    let actions = platform.patch_vars("demo", set("COLOUR", "blue"), now()).unwrap();
    assert_eq!(actions, [Action::RunReleasePhase { app }]);
    assert_eq!(var(&platform, "COLOUR").as_deref(), Some("red"));
    assert_eq!(platform.vars_of_release_phase(app, now())["COLOUR"], "blue");
    assert_eq!(platform.finish_release(app, false, now()), []);
    assert_eq!(var(&platform, "COLOUR").as_deref(), Some("red"));
    let releases = &platform.app("demo").unwrap().releases;
    assert_eq!(releases.last().unwrap().status, ReleaseStatus::Failed);

    platform.patch_vars("demo", set("COLOUR", "blue"), now()).unwrap();
    assert!(!platform.finish_release(app, true, now()).is_empty());
    assert_eq!(var(&platform, "COLOUR").as_deref(), Some("blue"));
}

#[test]
fn a_failed_release_takes_the_attachment_away_again_and_brings_a_removed_one_back() {
    let (mut platform, app) = with_release_phase();
    let (id, _) = attach(&mut platform, "HOSTED_REDIS", None).unwrap();
    assert!(
        platform.attachment(&id.to_string()).is_ok(),
        "it is listed while its release is pending"
    );
    assert_eq!(var(&platform, "HOSTED_REDIS_URL"), None);
    platform.finish_release(app, false, now());
    assert!(platform.attachment(&id.to_string()).is_err());

    let (_, _) = attach(&mut platform, "HOSTED_REDIS", None).unwrap();
    platform.finish_release(app, true, now());
    let redis = attachment(&platform, "REDIS").to_string();
    platform.detach(&redis, now()).unwrap();
    assert!(platform.attachment(&redis).is_err());
    assert_eq!(
        var(&platform, "REDIS_URL").as_deref(),
        Some("rediss://old"),
        "until the release phase is over"
    );
    assert!(
        platform
            .patch_vars("demo", set("REDIS_URL", "rediss://new"), now())
            .is_err()
    );
    platform.finish_release(app, false, now());
    assert!(platform.attachment(&redis).is_ok());
}

#[test]
fn changes_wait_for_those_before_them() {
    let (mut platform, app) = with_release_phase();
    platform.patch_vars("demo", set("COLOUR", "blue"), now()).unwrap();
    platform.app_mut("demo").unwrap().behaviour.release_phase = None;
    platform.patch_vars("demo", set("COLOUR", "green"), now()).unwrap();
    assert_eq!(var(&platform, "COLOUR").as_deref(), Some("red"));
    platform.finish_release(app, true, now());
    platform.finish_release(app, true, now());
    assert_eq!(var(&platform, "COLOUR").as_deref(), Some("green"));
    assert_eq!(platform.next_pending(app), None);
}
