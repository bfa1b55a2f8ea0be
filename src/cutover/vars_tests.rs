use super::*;

const SOURCE: (&str, u16) = ("hosted.test", 6390);
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
    }
}

#[test]
fn a_plain_var_needs_no_flattening() {
    let attachments = [attached("REDISTOGO", "redis-1")];
    let vars = vars(&[("REDIS_URL", URL), ("REDISTOGO_URL", URL)]);
    assert_eq!(flatten(&vars, &attachments, "demo", "REDIS_URL").unwrap(), None);
}

#[test]
fn flattening_keeps_the_further_urls_of_the_attachment() {
    let attachments = [attached("REDIS", "redis-1"), attached("REDIS_CACHE", "redis-2")];
    let vars = vars(&[
        ("REDIS_URL", URL),
        ("REDIS_TLS_URL", URL),
        ("REDIS_CACHE_URL", "redis://other.test"),
        ("REDIS_POOL", "5"),
    ]);
    let plan = flatten(&vars, &attachments, "demo", "REDIS_URL").unwrap().unwrap();
    assert_eq!(plan.vars, ["REDIS_TLS_URL", "REDIS_URL"]);
    assert_eq!(plan.hosted_twin("REDIS_TLS_URL"), "HOSTED_REDIS_TLS_URL");
}

#[test]
fn another_add_on_under_the_hosted_name_is_refused_and_named() {
    let attachments = [attached("REDIS", "redis-1"), attached("HOSTED_REDIS", "redis-2")];
    let error = flatten(&vars(&[("REDIS_URL", URL)]), &attachments, "demo", "REDIS_URL").unwrap_err();
    assert!(error.to_string().contains("redis-2"), "{error}");
}

#[test]
fn an_interrupted_flattening_goes_on_from_what_is_there() {
    let plan = Flatten {
        attachment: "REDIS".into(),
        addon: "redis-1".into(),
        hosted: "HOSTED_REDIS".into(),
        vars: vec!["REDIS_URL".into()],
    };
    let old = attached("REDIS", "redis-1");
    let hosted = attached("HOSTED_REDIS", "redis-1");
    let with = vars(&[("REDIS_URL", URL)]);
    let without = vars(&[("HOSTED_REDIS_URL", URL)]);
    let step = |vars: &ConfigVars, there: &[Attachment]| next_flatten_step(&plan, vars, there, "demo");
    assert_eq!(step(&with, std::slice::from_ref(&old)), FlattenStep::Attach);
    assert_eq!(step(&with, &[old, hosted.clone()]), FlattenStep::Detach);
    assert_eq!(step(&without, std::slice::from_ref(&hosted)), FlattenStep::Set);
    assert_eq!(step(&with, &[hosted]), FlattenStep::Done);
}

#[test]
fn every_plain_var_that_names_the_source_moves_and_keeps_its_database() {
    let attachments = [attached("HOSTED_REDIS", "redis-1"), attached("REDISTOGO", "redis-1")];
    let vars = vars(&[
        ("HOSTED_REDIS_URL", URL),
        ("REDISTOGO_URL", URL),
        ("REDIS_URL", URL),
        ("SIDEKIQ_URL", "rediss://:hunter2@hosted.test:6390/3"),
        ("OTHER_URL", "redis://hosted.test:6391"),
        ("PORT", "5000"),
    ]);
    let moved = moved(&vars, &attachments, "demo", "REDIS_URL", SOURCE);
    let names: Vec<_> = moved.iter().map(|m| (m.var.as_str(), m.path.as_str())).collect();
    assert_eq!(names, [("REDIS_URL", ""), ("SIDEKIQ_URL", "/3")]);
}

#[test]
fn the_database_part_is_exchanged_and_nothing_else() {
    let url = Secret::new("rediss://u:p%2Fq@h.test:1/0?x=1");
    assert_eq!(with_path(&url, "/3").expose(), "rediss://u:p%2Fq@h.test:1/3");
    assert_eq!(with_path(&url, "").expose(), "rediss://u:p%2Fq@h.test:1");
}

#[test]
fn a_var_points_by_host_and_port() {
    let at = |url: &str| points(Some(&Secret::new(url)), SOURCE, ("192.0.2.1", 6379));
    assert_eq!(at(URL), Points::Source);
    assert_eq!(at("rediss://app:x@192.0.2.1:6379/0"), Points::Endpoint);
    assert_eq!(at("rediss://app:x@192.0.2.1:6380"), Points::Elsewhere);
    assert_eq!(at("nonsense"), Points::Elsewhere);
    assert_eq!(points(None, SOURCE, ("192.0.2.1", 6379)), Points::Absent);
}
