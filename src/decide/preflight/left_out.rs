//! Judges what a copy does not carry, or the comparison does not look at.

use super::{Finding, SourceFacts};
use crate::model::size;

pub(super) fn judge(source: &SourceFacts) -> Vec<Finding> {
    let survey = &source.survey;
    let mut findings = Vec::new();
    let module_calls: u64 = survey
        .commands
        .iter()
        .filter(|(name, _)| name.contains('.'))
        .map(|(_, calls)| calls)
        .sum();
    let kinds: Vec<&str> = survey.foreign_kinds.iter().map(String::as_str).collect();
    if !kinds.is_empty() {
        findings.push(Finding::blocker(
            "modules",
            format!("the source holds values of modules: {}", kinds.join(", ")),
            "the pair has no modules and cannot read them: move that data to plain types first, or keep it where it is",
        ));
    } else if module_calls > 0 {
        findings.push(Finding::blocker(
            "modules",
            format!(
                "commands of modules are in use on the source ({} calls)",
                size::count(module_calls)
            ),
            "the pair has no modules: the app would get errors for them; move that data to plain types first",
        ));
    } else if !survey.modules.is_empty() {
        findings.push(Finding::warning(
            "modules",
            format!(
                "the source has modules loaded ({}), and no sign that they are used: none among {} keys, no call",
                survey.modules.join(", "),
                size::count(survey.sampled)
            ),
            "if some key does hold a module's value, the first copy fails and says so: nothing is lost by trying",
        ));
    } else {
        findings.push(Finding::ok(
            "modules",
            format!(
                "none loaded, and none's values among {} keys",
                size::count(survey.sampled)
            ),
        ));
    }
    if let Some(fields) = survey.expiring_fields.filter(|fields| *fields > 0) {
        findings.push(Finding::ok(
            "field-ttls",
            format!(
                "{} hashes have fields that expire by themselves: they travel with the copy and are compared with their times",
                size::count(fields)
            ),
        ));
    }
    if survey.functions > 0 {
        findings.push(Finding::warning(
            "functions",
            format!("{} functions are loaded on the source", survey.functions),
            "they travel by replication, but the comparison does not look at them: compare FUNCTION LIST of both sides",
        ));
    }
    if survey.cached_scripts > 0 {
        findings.push(Finding::warning(
            "scripts",
            format!(
                "{} scripts are cached on the source; the cache does not travel",
                size::count(survey.cached_scripts)
            ),
            "a client that sends EVALSHA gets NOSCRIPT once and must send EVAL then; nearly all libraries do so by themselves",
        ));
    }
    match &survey.settings {
        None => findings.push(Finding::warning(
            "keyspace-events",
            "it is not known whether the source sends keyspace notifications: CONFIG is denied there",
            "if the app waits for expired or changed keys, set redis.settings.notify-keyspace-events (such as Ex) in infra.yml",
        )),
        Some(settings) => findings.push(match settings.get("notify-keyspace-events").map(String::as_str) {
            None | Some("") => Finding::ok("keyspace-events", "the source sends no keyspace notifications"),
            Some(events) => Finding::ok("keyspace-events", format!("{events} on the source, on the pair too")),
        }),
    }
    findings
}
