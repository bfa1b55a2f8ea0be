//! Judges who else uses the source: each app must be switched too, or left on purpose. Pure.

use super::Finding;
use crate::effects::platform::heroku::{Consumer, Consumers};

/// Holds what infra.yml and the command line say about apps.
#[derive(Clone, Copy, Debug)]
pub struct Intent<'a> {
    /// `app.also`: switched in the same cutover.
    pub also: &'a [String],
    /// `--leave`: stay on the source on purpose.
    pub leave: &'a [String],
}

/// Judges what was found of other apps. [`super::vars`] judges the vars of the switched ones.
pub fn judge(found: &Consumers, intent: Intent<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut moved = Vec::new();
    for consumer in &found.consumers {
        let app = &consumer.app;
        let what = uses(consumer);
        if intent.leave.contains(app) {
            findings.push(Finding::warning(
                "left",
                format!("{app} stays on the source as asked ({what})"),
                "what it writes there is on no other side: it must not share data with the app that is moved",
            ));
        } else if intent.also.contains(app) {
            match &consumer.unreadable {
                Some(why) => findings.push(Finding::blocker(
                    "consumer",
                    format!("{app} is to be switched too and cannot be read: {why}"),
                    "use a key that may read and change every app of app.also",
                )),
                None => moved.push(format!("{app} ({what})")),
            }
        } else {
            findings.push(Finding::blocker(
                "left-behind",
                format!("{app} uses the same Redis ({what}) and would be left behind"),
                format!("name it in app.also of infra.yml to switch it too, or leave it on purpose with --leave {app}"),
            ));
        }
    }
    let known = |app: &String| found.consumers.iter().any(|consumer| consumer.app == *app);
    for app in intent.also.iter().filter(|app| !known(app)) {
        findings.push(Finding::blocker(
            "consumer",
            format!("{app} of app.also does not use this Redis, or cannot be seen"),
            "take it out of app.also, or use a key that can see it",
        ));
    }
    if !found.unseen.is_empty() || found.beyond > 0 {
        let shown: Vec<&str> = found.unseen.iter().take(5).map(String::as_str).collect();
        let mut text = format!("{} apps were looked at", found.looked_at);
        if !shown.is_empty() {
            text += &format!("; not readable: {}", shown.join(", "));
            if found.unseen.len() > shown.len() {
                text += &format!(" and {} more", found.unseen.len() - shown.len());
            }
        }
        if found.beyond > 0 {
            text += &format!("; {} more were not looked at", found.beyond);
        }
        findings.push(Finding::warning(
            "consumers",
            text,
            "make sure that none of those uses this Redis: its writes after the switch would be on the old side only",
        ));
    } else if findings.is_empty() {
        let with = if moved.is_empty() {
            String::new()
        } else {
            format!("; switched too: {}", moved.join(", "))
        };
        findings.push(Finding::ok(
            "consumers",
            format!("nobody else among {} apps uses the source{with}", found.looked_at),
        ));
    }
    findings
}

/// Returns the warning for a platform that is known by commands alone.
pub fn nobody_can_tell() -> Finding {
    Finding::warning(
        "consumers",
        "the app's platform cannot be asked who else uses the source",
        "make sure that nobody does: writes there after the switch would be on the old side only",
    )
}

fn uses(consumer: &Consumer) -> String {
    let mut parts = consumer.vars.clone();
    parts.extend(
        consumer
            .attachments
            .iter()
            .filter(|name| !consumer.vars.contains(&format!("{name}_URL")))
            .map(|name| format!("attachment {name}")),
    );
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::super::Severity;
    use super::*;

    fn consumer(app: &str, vars: &[&str], attachments: &[&str]) -> Consumer {
        let owned = |names: &[&str]| names.iter().map(ToString::to_string).collect();
        Consumer {
            app: app.into(),
            vars: owned(vars),
            attachments: owned(attachments),
            unreadable: None,
        }
    }

    fn found(consumers: Vec<Consumer>) -> Consumers {
        Consumers {
            consumers,
            looked_at: 7,
            unseen: Vec::new(),
            beyond: 0,
        }
    }

    fn ids(found: &Consumers, also: &[&str], leave: &[&str]) -> Vec<(Severity, &'static str)> {
        let owned = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        let (also, leave) = (owned(also), owned(leave));
        let intent = Intent {
            also: &also,
            leave: &leave,
        };
        judge(found, intent)
            .iter()
            .map(|finding| (finding.severity, finding.id))
            .collect()
    }

    #[test]
    fn every_other_app_is_switched_left_on_purpose_or_a_blocker() {
        use Severity::{Blocker, Ok, Warning};
        let other = || consumer("reports", &["CACHE_URL"], &[]);
        /// Facts, `app.also`, `--leave`, and the expected findings.
        type Case<'a> = (Consumers, &'a [&'a str], &'a [&'a str], Vec<(Severity, &'a str)>);
        let cases: Vec<Case<'_>> = vec![
            (found(vec![]), &[], &[], vec![(Ok, "consumers")]),
            (found(vec![other()]), &[], &[], vec![(Blocker, "left-behind")]),
            (found(vec![other()]), &["reports"], &[], vec![(Ok, "consumers")]),
            (found(vec![other()]), &[], &["reports"], vec![(Warning, "left")]),
            // Only the add-on names this app.
            (
                found(vec![consumer("pr-17", &[], &["REDIS"])]),
                &[],
                &[],
                vec![(Blocker, "left-behind")],
            ),
            (found(vec![]), &["typo"], &[], vec![(Blocker, "consumer")]),
            (
                Consumers {
                    beyond: 3,
                    ..found(vec![])
                },
                &[],
                &[],
                vec![(Warning, "consumers")],
            ),
            (
                Consumers {
                    unseen: vec!["secret".into()],
                    ..found(vec![other()])
                },
                &[],
                &[],
                vec![(Blocker, "left-behind"), (Warning, "consumers")],
            ),
            (
                found(vec![Consumer {
                    unreadable: Some("403".into()),
                    ..other()
                }]),
                &["reports"],
                &[],
                vec![(Blocker, "consumer")],
            ),
        ];
        for (found, also, leave, expected) in cases {
            assert_eq!(ids(&found, also, leave), expected, "{found:?} {also:?} {leave:?}");
        }
    }

    #[test]
    fn a_finding_names_the_vars_and_never_a_value() {
        let found = found(vec![consumer("reports", &["CACHE_URL", "JOBS_URL"], &["CACHE"])]);
        let intent = Intent { also: &[], leave: &[] };
        assert!(judge(&found, intent)[0].found.contains("(CACHE_URL, JOBS_URL)"));
    }
}
