//! Dynos beside the formation: no change of configuration restarts them, and no end.

use std::collections::BTreeMap;

use jiff::Timestamp;
use uuid::Uuid;

use super::dynos::OneOff;
use super::{Action, Platform, Refusal};

/// A client's request to run a command.
#[derive(Clone, Debug, Default)]
pub struct OneOffRequest {
    /// A command line for a shell.
    pub command: String,
    /// Comes on top of the config vars.
    pub environment: BTreeMap<String, String>,
    /// `None` for `run`.
    pub kind: Option<String>,
    pub attached: bool,
    /// In seconds; `None` for a day.
    pub time_to_live: Option<f64>,
}

const KIND: &str = "run";
const FIRST_NUMBER: usize = 1000;
const LONGEST_LIFE: f64 = 24.0 * 3600.0;

impl Platform {
    /// Starts a command beside the formation with the present config vars, in maintenance too.
    pub fn run_one_off(
        &mut self,
        app: &str,
        request: OneOffRequest,
        now: Timestamp,
    ) -> Result<(Uuid, Vec<Action>), Refusal> {
        let app = self.app(app)?;
        let kind = request.kind.unwrap_or_else(|| KIND.to_owned());
        if request.command.trim().is_empty() {
            return Err(Refusal::invalid("Command must not be empty"));
        }
        if app.formation.contains_key(&kind) {
            return Err(Refusal::invalid(format!(
                "Type {kind} is one of the app's formation; it cannot be run as a one-off dyno"
            )));
        }
        let time_to_live = request.time_to_live.unwrap_or(LONGEST_LIFE);
        if !(1.0..=LONGEST_LIFE).contains(&time_to_live) {
            return Err(Refusal::invalid(format!(
                "Time to live must be from 1 to {LONGEST_LIFE} seconds"
            )));
        }
        let id = app.id;
        // Numbers are never given twice, so that each has a log of its own.
        let number = FIRST_NUMBER + self.dynos.iter().filter(|dyno| dyno.is_one_off()).count();
        let one_off = OneOff {
            time_to_live,
            attached: request.attached,
        };
        let command = ["sh", "-c", request.command.as_str()].map(str::to_owned).to_vec();
        let dyno = self.add_dyno(
            id,
            format!("{kind}.{number}"),
            &kind,
            command,
            Some(one_off),
            request.environment,
            now,
        );
        Ok((dyno, vec![Action::Start { dyno }]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        Timestamp::from_second(1_763_856_000).unwrap()
    }

    fn platform() -> (Platform, Uuid) {
        let mut platform = Platform::new("seed");
        let formation = [("web".to_owned(), (vec!["serve".to_owned()], 1))].into();
        let vars = [("COLOUR", "red"), ("SHAPE", "round")].map(|(name, value)| (name.to_owned(), value.to_owned()));
        let (id, _) = platform
            .create_app("demo", "us", formation, vars.into(), now())
            .unwrap();
        (platform, id)
    }

    fn run(platform: &mut Platform, request: OneOffRequest) -> Result<Uuid, Refusal> {
        platform.run_one_off("demo", request, now()).map(|(id, _)| id)
    }

    fn request(command: &str) -> OneOffRequest {
        OneOffRequest {
            command: command.to_owned(),
            ..OneOffRequest::default()
        }
    }

    fn names(platform: &Platform, app: Uuid) -> Vec<&str> {
        let listed = platform.listed_dynos(app);
        listed.iter().map(|dyno| dyno.name.as_str()).collect()
    }

    #[test]
    fn nothing_restarts_them_and_no_name_is_given_twice() {
        let (mut platform, app) = platform();
        let first = run(&mut platform, request("sleep 5")).unwrap();
        let scheduled = OneOffRequest {
            kind: Some("scheduler".to_owned()),
            ..request("sleep 5")
        };
        run(&mut platform, scheduled).unwrap();
        let restarted = platform.restart_all(app, now());
        assert_eq!(restarted.len(), 2, "only the web dyno: {restarted:?}");
        platform.exited(first, "exit status: 0", 1.0, now());
        run(&mut platform, request("sleep 5")).unwrap();
        assert_eq!(names(&platform, app), ["scheduler.1001", "web.1", "run.1002"]);
    }

    #[test]
    fn they_have_the_variables_of_their_start_under_their_own() {
        let (mut platform, _) = platform();
        let own = OneOffRequest {
            environment: [("SHAPE".to_owned(), "square".to_owned())].into(),
            ..request("env")
        };
        let id = run(&mut platform, own).unwrap();
        let blue = [("COLOUR".to_owned(), Some("blue".to_owned()))].into();
        platform.patch_vars("demo", blue, now()).unwrap();
        let dyno = platform.dynos.iter().find(|dyno| dyno.id == id).unwrap();
        assert_eq!(
            (dyno.vars["COLOUR"].as_str(), dyno.vars["SHAPE"].as_str()),
            ("red", "square")
        );
    }

    #[test]
    fn an_invalid_one_off_is_refused() {
        let (mut platform, _) = platform();
        for refused in [
            request(" "),
            OneOffRequest {
                kind: Some("web".to_owned()),
                ..request("true")
            },
            OneOffRequest {
                time_to_live: Some(1e6),
                ..request("true")
            },
        ] {
            assert_eq!(run(&mut platform, refused).unwrap_err().status, 422);
        }
    }
}
