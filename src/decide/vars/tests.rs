use super::*;

const URL: &str = "rediss://:hunter2@hosted.test:6390";

fn vars(pairs: &[(&str, &str)]) -> ConfigVars {
    ConfigVars::new(
        pairs
            .iter()
            .map(|(name, value)| (name.to_string(), Some(Secret::new(*value)))),
    )
}

fn attached(name: &str, addon: &str) -> Attachment {
    Attachment {
        id: format!("id-{name}"),
        name: name.into(),
        app: "demo".into(),
        addon_id: format!("id-{addon}"),
        addon_name: addon.into(),
        config_vars: Some(vec!["REDIS_URL".into()]),
    }
}

#[test]
fn an_interrupted_detachment_continues_from_what_exists() {
    let plan = DetachVars {
        attachment: "REDIS".into(),
        addon: "redis-1".into(),
        hosted: "HOSTED_REDIS".into(),
        vars: vec!["REDIS_URL".into()],
    };
    let old = attached("REDIS", "redis-1");
    let hosted = attached("HOSTED_REDIS", "redis-1");
    let with = vars(&[("REDIS_URL", URL)]);
    let without = vars(&[("HOSTED_REDIS_URL", URL)]);
    let step = |vars: &ConfigVars, there: &[Attachment]| next_detach_step(&plan, vars, there, "demo");
    assert_eq!(step(&with, std::slice::from_ref(&old)), DetachStep::Attach);
    assert_eq!(step(&with, &[old, hosted.clone()]), DetachStep::Detach);
    assert_eq!(step(&without, std::slice::from_ref(&hosted)), DetachStep::Set);
    assert_eq!(step(&with, &[hosted]), DetachStep::Done);
}

#[test]
fn an_old_value_is_the_kept_url_with_its_own_database() {
    let kept = Secret::new("rediss://:hunter2@hosted.test:6391/1?ssl_cert_reqs=none");
    assert_eq!(restored(&kept, "/1"), kept, "the query is lost");
    assert_eq!(restored(&kept, "/3").expose(), "rediss://:hunter2@hosted.test:6391/3");
}

fn moved(var: &str, path: &str, kept_in: Option<&str>, copied: bool) -> Moved {
    Moved {
        var: var.into(),
        path: path.into(),
        kept_in: kept_in.map(str::to_string),
        copied,
    }
}

#[test]
fn every_moved_var_gets_its_own_old_value_again() {
    let tls = "rediss://:hunter2@hosted.test:6391";
    let vars = vars(&[
        ("HOSTED_REDIS_URL", URL),
        ("HOSTED_REDIS_TLS_URL", tls),
        ("REDIS_URL", "rediss://app:x@192.0.2.1:6379"),
    ]);
    let switched = [
        moved("REDIS_URL", "", Some("HOSTED_REDIS_URL"), false),
        moved("REDIS_TLS_URL", "", Some("HOSTED_REDIS_TLS_URL"), false),
        moved("SIDEKIQ_URL", "/3", None, false),
    ];
    let old = old_values(&switched, &vars, "REDIS_URL").unwrap();
    let shown: Vec<(&str, &str)> = old.iter().map(|(var, value)| (var.as_str(), value.expose())).collect();
    assert_eq!(
        shown,
        [
            ("REDIS_TLS_URL", tls),
            ("REDIS_URL", URL),
            ("SIDEKIQ_URL", "rediss://:hunter2@hosted.test:6390/3")
        ]
    );
    let gone = [moved("REDIS_URL", "", Some("HOSTED_CACHE_URL"), false)];
    let error = old_values(&gone, &vars, "REDIS_URL").unwrap_err();
    assert!(error.to_string().contains("HOSTED_CACHE_URL"), "{error}");
}

#[test]
fn an_old_entry_is_read_and_names_the_config_vars_hosted_var() {
    let read: Moved = serde_json::from_str(r#"{"var":"CACHE_URL","path":"/2"}"#).unwrap();
    assert_eq!(read, moved("CACHE_URL", "/2", None, false));
    assert_eq!(
        serde_json::to_string(&read).unwrap(),
        r#"{"var":"CACHE_URL","path":"/2"}"#
    );
}

#[test]
fn a_change_copies_the_old_value_and_never_the_endpoint() {
    let switched = [
        moved("CACHE_URL", "/2", Some("HOSTED_CACHE_URL"), true),
        moved("REDIS_URL", "", Some("HOSTED_REDIS_URL"), false),
    ];
    let endpoint = ("192.0.2.1", 6379);
    let before = vars(&[("CACHE_URL", "redis://hosted.test:6390/2?a=b"), ("REDIS_URL", URL)]);
    let copied = copies(&switched, &before, endpoint).unwrap();
    assert_eq!(copied.len(), 1);
    assert_eq!(copied["HOSTED_CACHE_URL"].expose(), "redis://hosted.test:6390/2?a=b");
    let after = vars(&[("CACHE_URL", "rediss://app:x@192.0.2.1:6379/2")]);
    assert!(copies(&switched, &after, endpoint).unwrap().is_empty());
}

#[test]
fn the_database_part_is_exchanged_and_nothing_else() {
    let url = Secret::new("rediss://u:p%2Fq@h.test:1/0?x=1");
    assert_eq!(with_path(&url, "/3").expose(), "rediss://u:p%2Fq@h.test:1/3");
    assert_eq!(with_path(&url, "").expose(), "rediss://u:p%2Fq@h.test:1");
}

#[test]
fn a_var_points_by_host_and_port() {
    let source = [("hosted.test".to_string(), 6390), ("hosted.test".to_string(), 6391)];
    let at = |url: &str| points(Some(&Secret::new(url)), &source, ("192.0.2.1", 6379));
    assert_eq!(at(URL), Points::Source);
    assert_eq!(at("rediss://:hunter2@HOSTED.test:6391"), Points::Source);
    assert_eq!(at("rediss://:hunter2@hosted.test:6392"), Points::Elsewhere);
    assert_eq!(at("rediss://app:x@192.0.2.1:6379/0"), Points::Endpoint);
    assert_eq!(at("rediss://app:x@192.0.2.1:6380"), Points::Elsewhere);
    assert_eq!(at("nonsense"), Points::Elsewhere);
    assert_eq!(points(None, &source, ("192.0.2.1", 6379)), Points::Absent);
}

#[test]
fn a_database_is_found_in_the_path_and_in_the_query() {
    let path = |url: &str| place(&Secret::new(url)).unwrap().2;
    for (url, found) in [
        ("redis://:x@h.test:1", ""),
        ("redis://:x@h.test:1/", ""),
        ("redis://:x@h.test:1/3", "/3"),
        ("redis://:x@h.test:1?db=2", "/2"),
        ("redis://:x@h.test:1/?ssl_cert_reqs=none&db=2", "/2"),
        ("redis://:x@h.test:1/3?db=2", "/2"),
        ("redis://:x@h.test:1/3?db=0", ""),
        ("redis://:x@h.test:1/3?db=many", "/3"),
    ] {
        assert_eq!(path(url), found, "{url}");
    }
    let kept = Secret::new("redis://:x@h.test:1?db=2");
    assert_eq!(restored(&kept, "/2").expose(), kept.expose());
}
