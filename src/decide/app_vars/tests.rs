use super::*;

const URL: &str = "rediss://:hunter2@hosted.test:6390";
const TLS_URL: &str = "rediss://:hunter2@hosted.test:6391";

fn vars(pairs: &[(&str, &str)]) -> ConfigVars {
    ConfigVars::new(
        pairs
            .iter()
            .map(|(name, value)| (name.to_string(), Some(Secret::new(*value)))),
    )
}

/// An attachment of an add-on whose vars have these names at the add-on.
fn attached(name: &str, addon: &str, config_vars: &[&str]) -> Attachment {
    Attachment {
        id: format!("id-{name}"),
        name: name.into(),
        app: "demo".into(),
        addon_id: format!("id-{addon}"),
        addon_name: addon.into(),
        config_vars: Some(config_vars.iter().map(ToString::to_string).collect()),
    }
}

const TWO: [&str; 2] = ["REDIS_URL", "REDIS_TLS_URL"];

/// Looks at the app as a cutover from URL does.
fn look<T>(vars: &ConfigVars, attachments: &[Attachment], config_var: &str, see: impl FnOnce(AppVars<'_>) -> T) -> T {
    look_staying(vars, attachments, config_var, &[], see)
}

fn look_staying<T>(
    vars: &ConfigVars,
    attachments: &[Attachment],
    config_var: &str,
    stay: &[&str],
    see: impl FnOnce(AppVars<'_>) -> T,
) -> T {
    let source = ("hosted.test".to_string(), 6390);
    let mut places = vec![source.clone()];
    places.extend(places_beside(vars, attachments, "demo", &source));
    let stay: Vec<String> = stay.iter().map(ToString::to_string).collect();
    see(AppVars {
        app: "demo",
        config_var,
        vars,
        attachments,
        places: &places,
        stay: &stay,
    })
}

fn names(moved: &[Moved]) -> Vec<&str> {
    moved.iter().map(|moved| moved.var.as_str()).collect()
}

#[test]
fn an_attachment_takes_all_its_vars_with_it_and_no_other() {
    let attachments = [
        attached("REDIS", "redis-1", &["REDIS_URL", "REDIS_TLS_URL", "REDIS_BASTIONS"]),
        attached("REDIS_CACHE", "redis-2", &["REDIS_CACHE_URL"]),
    ];
    let vars = vars(&[
        ("REDIS_URL", URL),
        ("REDIS_TLS_URL", TLS_URL),
        ("REDIS_BASTIONS", "192.0.2.4"),
        ("REDIS_CACHE_URL", "redis://other.test"),
        ("REDIS_POOL", "5"),
    ]);
    look(&vars, &attachments, "REDIS_URL", |app| {
        let plan = app.detachment().unwrap().unwrap();
        assert_eq!(
            (plan.attachment.as_str(), plan.hosted.as_str()),
            ("REDIS", "HOSTED_REDIS")
        );
        assert_eq!(plan.vars, ["REDIS_BASTIONS", "REDIS_TLS_URL", "REDIS_URL"]);
        assert_eq!(plan.hosted_twin("REDIS_TLS_URL"), "HOSTED_REDIS_TLS_URL");
        let moving: Vec<String> = app.will_move().into_iter().map(|(var, _)| var).collect();
        assert_eq!(moving, ["REDIS_TLS_URL", "REDIS_URL"]);
    });
}

#[test]
fn a_second_attachments_vars_are_owned_and_in_no_change() {
    let attachments = [attached("HOSTED_REDIS", "redis-1", &TWO)];
    let vars = vars(&[
        ("HOSTED_REDIS_URL", URL),
        ("HOSTED_REDIS_TLS_URL", TLS_URL),
        ("REDIS_URL", URL),
        ("REDIS_TLS_URL", TLS_URL),
        ("SIDEKIQ_URL", "rediss://:hunter2@hosted.test:6391/3"),
        ("OTHER_URL", "redis://hosted.test:6392"),
        ("PORT", "5000"),
    ]);
    look(&vars, &attachments, "REDIS_URL", |app| {
        let change = app.change(&["REDIS_CA"]).unwrap();
        assert_eq!(names(&change.moved), ["REDIS_TLS_URL", "REDIS_URL", "SIDEKIQ_URL"]);
        let kept: Vec<&str> = change
            .moved
            .iter()
            .map(|moved| moved.kept_in.as_deref().unwrap())
            .collect();
        assert_eq!(
            kept,
            ["HOSTED_REDIS_TLS_URL", "HOSTED_REDIS_URL", "HOSTED_REDIS_TLS_URL"]
        );
        assert!(change.moved.iter().all(|moved| !moved.copied) && change.keep_in.is_none());
    });
}

#[test]
fn the_first_attachments_name_follows_from_what_its_vars_share() {
    // The first attachment is gone, and the others have names of their own.
    for (first, expected) in [
        (
            &["REDIS_URL", "REDIS_TLS_URL"][..],
            &["HOSTED_REDIS_TLS_URL", "HOSTED_REDIS_URL"][..],
        ),
        (&["REDISCLOUD_URL"], &["HOSTED_REDIS_URL"]),
        (
            &["HEROKU_REDIS_AMBER_URL", "HEROKU_REDIS_AMBER_TLS_URL"],
            &["HOSTED_REDIS_TLS_URL", "HOSTED_REDIS_URL"],
        ),
        (&["REDISGREEN_SERVERS"], &["HOSTED_REDIS_SERVERS"]),
        (&[], &[]),
    ] {
        let hosted = attached("HOSTED_REDIS", "redis-1", first);
        let all = [
            "HOSTED_REDIS_SERVERS",
            "HOSTED_REDIS_TLS_URL",
            "HOSTED_REDIS_URL",
            "REDIS_URL",
        ];
        let owned: Vec<&str> = all.into_iter().filter(|var| hosted.owns(var)).collect();
        assert_eq!(owned, expected, "{first:?}");
    }
    let unseen = Attachment {
        config_vars: None,
        ..attached("CACHE", "redis-9", &[])
    };
    assert!(unseen.owns("CACHE_URL") && unseen.owns("CACHE_ANYTHING") && !unseen.owns("CACHED_URL"));
}

#[test]
fn a_twin_as_the_apps_own_var_keeps_its_own_value() {
    let attachments = [attached("REDIS", "redis-1", &TWO)];
    let vars = vars(&[("REDIS_URL", URL), ("REDIS_TLS_URL", TLS_URL)]);
    look(&vars, &attachments, "REDIS_TLS_URL", |app| {
        let plan = app.detachment().unwrap().unwrap();
        // The source's URL is read in hosted_var afterwards, so it must have the same port.
        assert_eq!(plan.hosted_twin("REDIS_TLS_URL"), hosted_var("REDIS_TLS_URL"));
    });
}

#[test]
fn an_owned_var_beside_a_plain_copy_is_detached_and_moves_too() {
    let attachments = [attached("REDISCLOUD", "redis-1", &["REDISCLOUD_URL"])];
    let before = vars(&[("REDIS_URL", URL), ("REDISCLOUD_URL", URL)]);
    look(&before, &attachments, "REDIS_URL", |app| {
        let plan = app.detachment().unwrap().unwrap();
        assert_eq!(
            (plan.attachment.as_str(), plan.hosted.as_str()),
            ("REDISCLOUD", "HOSTED_REDISCLOUD")
        );
        let error = app.change(&[]).unwrap_err();
        assert!(error.to_string().contains("REDISCLOUD_URL"), "{error}");
    });
    look_staying(&before, &attachments, "REDIS_URL", &["REDISCLOUD_URL"], |app| {
        assert_eq!(app.detachment().unwrap(), None);
        assert_eq!(names(&app.change(&[]).unwrap().moved), ["REDIS_URL"]);
        assert_eq!(app.left(), [("REDISCLOUD_URL".to_string(), Left::OnPurpose)]);
    });
    let attachments = [attached("HOSTED_REDISCLOUD", "redis-1", &["REDISCLOUD_URL"])];
    let after = vars(&[
        ("REDIS_URL", URL),
        ("REDISCLOUD_URL", URL),
        ("HOSTED_REDISCLOUD_URL", URL),
    ]);
    look(&after, &attachments, "REDIS_URL", |app| {
        assert_eq!(app.detachment().unwrap(), None);
        let change = app.change(&[]).unwrap();
        assert_eq!(names(&change.moved), ["REDISCLOUD_URL", "REDIS_URL"]);
        assert_eq!(change.keep_in.as_deref(), Some("HOSTED_REDIS_URL"));
    });
}

#[test]
fn a_second_attachment_needs_no_second_name() {
    let attachments = [
        attached("CACHE", "redis-1", &TWO),
        attached("HOSTED_REDIS", "redis-1", &TWO),
    ];
    let vars = vars(&[
        ("REDIS_URL", URL),
        ("CACHE_URL", URL),
        ("CACHE_TLS_URL", TLS_URL),
        ("HOSTED_REDIS_URL", URL),
    ]);
    look(&vars, &attachments, "REDIS_URL", |app| {
        let plan = app.detachment().unwrap().unwrap();
        assert_eq!(
            (plan.attachment.as_str(), plan.hosted.as_str()),
            ("CACHE", "HOSTED_REDIS")
        );
        assert_eq!(plan.vars, ["CACHE_TLS_URL", "CACHE_URL"]);
    });
}

#[test]
fn a_value_that_no_other_var_holds_is_copied() {
    let attachments = [attached("HOSTED_REDIS", "redis-1", &["REDIS_URL"])];
    let with_query = "rediss://:hunter2@hosted.test:6390/2?ssl_cert_reqs=none";
    let vars = vars(&[
        ("HOSTED_REDIS_URL", URL),
        ("REDIS_URL", with_query),
        ("CACHE", with_query),
        ("HOSTED_CACHE", "mine"),
    ]);
    look(&vars, &attachments, "REDIS_URL", |app| {
        let change = app.change(&[]).unwrap();
        let kept: Vec<_> = change
            .moved
            .iter()
            .map(|moved| (moved.kept_in.as_deref().unwrap(), moved.copied))
            .collect();
        // Vars that an attachment owns, or that are the app's own, are not overwritten.
        assert_eq!(kept, [("HOSTED_CACHE_COPY", true), ("HOSTED_REDIS_URL_COPY", true)]);
    });
}

#[test]
fn another_name_or_var_in_the_way_is_found_before_anything_is_detached() {
    let redis = || attached("REDIS", "redis-1", &["REDIS_URL"]);
    let taken = [redis(), attached("HOSTED_REDIS", "redis-2", &["CACHE_URL"])];
    let error = look(&vars(&[("REDIS_URL", URL)]), &taken, "REDIS_URL", |app| {
        app.detachment().unwrap_err()
    });
    assert!(error.to_string().contains("redis-2"), "{error}");
    let plain = vars(&[("REDIS_URL", URL), ("HOSTED_REDIS_URL", URL)]);
    let error = look(&plain, &[redis()], "REDIS_URL", |app| app.detachment().unwrap_err());
    assert!(error.to_string().contains("HOSTED_REDIS_URL of its own"), "{error}");
    let masked = ConfigVars::new([("REDIS_URL".to_string(), None)]);
    let error = look(&masked, &[redis()], "REDIS_URL", |app| app.detachment().unwrap_err());
    assert!(error.to_string().contains("masks"), "{error}");
}

#[test]
fn the_certificate_is_not_sent_to_an_owned_var() {
    let attachments = [
        attached("HOSTED_REDIS", "redis-1", &TWO),
        attached("REDIS", "redis-7", &["REDIS_CA"]),
    ];
    let vars = vars(&[("REDIS_URL", URL), ("HOSTED_REDIS_URL", URL)]);
    let error = look(&vars, &attachments, "REDIS_URL", |app| {
        app.change(&["REDIS_CA"]).unwrap_err()
    });
    assert!(
        error
            .to_string()
            .contains("set REDIS_CA of app demo: the attachment REDIS"),
        "{error}"
    );
}

#[test]
fn a_var_that_stays_has_its_reason() {
    let attachments = [
        attached("REDIS", "redis-1", &["REDIS_URL"]),
        Attachment {
            config_vars: None,
            ..attached("JOBS", "redis-8", &[])
        },
    ];
    let password = "correct-horse";
    let url = format!("rediss://:{password}@hosted.test:6390");
    let vars = vars(&[
        ("REDIS_URL", url.as_str()),
        ("READ_HERE_URL", url.as_str()),
        ("JOBS_PRIMARY", url.as_str()),
        ("TLS", "rediss://:correct-horse@hosted.test:6399"),
        ("REDIS_PASSWORD", password),
        ("REDIS_HOST", "hosted.test"),
        ("NODES", "hosted.test:6390,other.test:1"),
        ("STRANGER_URL", "rediss://:other@hosted.test:6399"),
        ("COLOUR", "red"),
    ]);
    look_staying(&vars, &attachments, "REDIS_URL", &["READ_HERE_URL"], |app| {
        let left: Vec<(String, Left)> = app.left();
        let left: Vec<(&str, Left)> = left.iter().map(|(var, left)| (var.as_str(), *left)).collect();
        assert_eq!(
            left,
            [
                ("JOBS_PRIMARY", Left::UnknownAddon),
                ("NODES", Left::NoUrl),
                ("READ_HERE_URL", Left::OnPurpose),
                ("REDIS_HOST", Left::NoUrl),
                ("REDIS_PASSWORD", Left::NoUrl),
                ("TLS", Left::AnotherPort),
            ]
        );
        assert_eq!(app.detachment().unwrap().unwrap().attachment, "REDIS");
    });
}

#[test]
fn a_var_that_holds_one_part_of_the_url_is_left_and_named() {
    let url = "redis://h:p%40ss@hosted.test:16390/0";
    let left = |url: &str, var: &str, value: &str| {
        let vars = vars(&[("REDIS_URL", url), (var, value)]);
        let port = place(&Secret::new(url)).unwrap().1;
        let host = place(&Secret::new(url)).unwrap().0;
        let app = AppVars {
            app: "demo",
            config_var: "REDIS_URL",
            vars: &vars,
            attachments: &[],
            places: &[(host, port)],
            stay: &[],
        };
        app.left() == [(var.to_string(), Left::NoUrl)]
    };
    for (var, value, is_named) in [
        ("CACHE_HOST", "hosted.test", true),
        ("CACHE_HOST", "Hosted.Test", true),
        ("CACHE_HOST", "other.test", false),
        ("CACHE_PORT", "16390", true),
        ("WORKERS", "16390", false),
        ("CACHE_PORT", "6379", false),
        ("SECRET", "p@ss", true),
        ("SECRET", "p%40ss", true),
        ("SECRET", "p@ss and more", false),
        ("NODES", "a:1,hosted.test:16390", true),
    ] {
        assert_eq!(left(url, var, value), is_named, "{var}={value}");
    }
    assert!(left("redis://h.test", "REDIS_PORT", "6379"));
    assert!(!left("redis://h.test", "SMTP_PORT", "6379"));
    assert!(left("redis://[2001:db8::7]:16390", "CACHE_HOST", "2001:db8::7"));
    assert!(left("redis://[2001:db8::7]:16390", "NODES", "[2001:db8::7]:16390"));
}
