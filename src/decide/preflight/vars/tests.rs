use super::super::Severity;
use super::*;
use crate::effects::platform::{Attachment, ConfigVars};

const URL: &str = "rediss://:hunter2@hosted.test:6390";

fn attached(name: &str, config_vars: &[&str]) -> Attachment {
    Attachment {
        id: format!("id-{name}"),
        name: name.into(),
        app: "shop".into(),
        addon_id: "1".into(),
        addon_name: "redis-1".into(),
        config_vars: Some(config_vars.iter().map(ToString::to_string).collect()),
    }
}

fn findings(vars: &ConfigVars, attachments: &[Attachment], stay: &[&str], leave: &[&str]) -> Vec<Finding> {
    let owned = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
    let (stay, leave) = (owned(stay), owned(leave));
    let places = [("hosted.test".to_string(), 6390)];
    let app = AppVars {
        app: "shop",
        config_var: "REDIS_URL",
        vars,
        attachments,
        places: &places,
        stay: &stay,
    };
    judge(&[outlook(&app, "REDIS_CA")], &leave)
}

fn ids(findings: &[Finding]) -> Vec<(Severity, &'static str)> {
    findings.iter().map(|finding| (finding.severity, finding.id)).collect()
}

#[test]
fn an_owned_var_beside_a_plain_copy_is_a_warning_that_names_it() {
    let vars = ConfigVars::plain([("REDIS_URL", URL), ("REDISCLOUD_URL", URL)]);
    let attachments = [attached("REDISCLOUD", &["REDISCLOUD_URL"])];
    let found = findings(&vars, &attachments, &[], &[]);
    assert_eq!(ids(&found), [(Severity::Warning, "owned-vars")]);
    assert!(
        found[0]
            .found
            .contains("REDISCLOUD_URL of shop belongs to the attachment REDISCLOUD"),
        "{found:?}"
    );
    // The last attachment of an add-on cannot be detached by hand.
    assert!(
        !found[0].remedy.as_ref().unwrap().contains("addons:detach"),
        "{found:?}"
    );
    let left = findings(&vars, &attachments, &["REDISCLOUD_URL"], &["shop"]);
    assert_eq!(ids(&left), [(Severity::Warning, "left-vars")]);
    assert!(
        left[0].found.contains("REDISCLOUD_URL") && left[0].found.contains("--leave"),
        "{left:?}"
    );
}

#[test]
fn the_vars_of_the_apps_own_attachment_cause_no_warning() {
    let vars = ConfigVars::plain([("REDIS_URL", URL), ("REDIS_TLS_URL", URL)]);
    let attachments = [attached("REDIS", &["REDIS_URL", "REDIS_TLS_URL"])];
    assert_eq!(findings(&vars, &attachments, &[], &[]), []);
}

#[test]
fn what_the_platform_would_refuse_is_a_blocker() {
    let two = [
        attached("REDIS", &["REDIS_URL"]),
        Attachment {
            addon_id: "2".into(),
            addon_name: "redis-2".into(),
            ..attached("HOSTED_REDIS", &["X_URL"])
        },
    ];
    for (vars, attachments, said) in [
        (
            ConfigVars::plain([("REDIS_URL", URL)]),
            &two[..],
            "redis-2 has that name",
        ),
        (
            ConfigVars::plain([("REDIS_URL", URL), ("REDIS_CA", "my own")]),
            &[],
            "in use for something",
        ),
        (
            ConfigVars::plain([("REDIS_URL", URL), ("REDIS_CA", "x")]),
            &[attached("REDIS", &["REDIS_URL", "REDIS_CA"])],
            "owns it",
        ),
        (
            ConfigVars::plain([("QUEUE_URL", URL)]),
            &[],
            "it names this Redis in QUEUE_URL",
        ),
        (
            ConfigVars::new([("REDIS_URL".to_string(), None)]),
            &two[..1],
            "masks its value",
        ),
    ] {
        let found = findings(&vars, attachments, &[], &[]);
        assert_eq!(ids(&found), [(Severity::Blocker, "refused-vars")], "{found:?}");
        assert!(found[0].found.contains(said), "{found:?}");
    }
}

#[test]
fn no_finding_quotes_a_value() {
    let vars = ConfigVars::plain([
        ("REDIS_URL", URL),
        ("COPY", "hosted.test:6390 hunter2"),
        ("REDIS_CA", "hunter2"),
    ]);
    let text = format!("{:?}", findings(&vars, &[], &[], &[]));
    assert!(text.contains("COPY") && !text.contains("hunter2"), "{text}");
}

#[test]
fn each_parameter_of_a_url_is_named_with_what_becomes_of_it() {
    let found = |tail: &str| {
        let url = format!("{URL}{tail}");
        findings(&ConfigVars::plain([("REDIS_URL", url.as_str())]), &[], &[], &[])
    };
    for tail in ["", "/3", "?db=2", "/?db=2"] {
        assert_eq!(ids(&found(tail)), [], "{tail}");
    }
    for (tail, named, instead) in [
        ("?ssl_cert_reqs=none", "ssl_cert_reqs", "app.ca_config_var"),
        ("?db=2&timeout=5", "timeout", "in its code"),
        ("?password=hunter3", "password", "before the host"),
        ("?database=4", "database", "?db=N"),
        ("?db=jobs", "db", "?db=N"),
        ("?protocol=3&a=%20&protocol=3", "a, protocol", "in its code"),
    ] {
        let findings = found(tail);
        assert_eq!(ids(&findings), [(Severity::Warning, "url-parameters")], "{tail}");
        let text = format!("{} {}", findings[0].found, findings[0].remedy.as_ref().unwrap());
        assert!(
            text.contains(&format!("has {named} in")) && text.contains(instead),
            "{text}"
        );
        assert!(!text.contains("hunter"), "{text}");
    }
}
