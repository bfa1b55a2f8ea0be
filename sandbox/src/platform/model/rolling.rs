//! Restarts in a Private Space: a quarter of the dynos at a time, once the last ones are up.

use jiff::Timestamp;
use uuid::Uuid;

use super::{Action, DynoState, Platform};

/// The next step of a restart by turns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Turn {
    /// None is stale any more.
    Done,
    /// The dynos that were replaced last are not up yet.
    Wait,
    /// These dynos are replaced now.
    Replace(Vec<Action>),
}

/// One dyno in this number is replaced at a time.
const PART: usize = 4;

impl Platform {
    /// Marks all dynos of the formation; they serve on until it is their turn.
    pub(super) fn begin_to_roll(&mut self, app: Uuid) -> Vec<Action> {
        for dyno in self.dynos.iter_mut().filter(|dyno| dyno.app == app && dyno.is_listed()) {
            dyno.stale = !dyno.is_one_off();
        }
        vec![Action::Roll { app }]
    }

    /// Replaces the next dynos, if it is time for that.
    pub fn roll(&mut self, app: Uuid, now: Timestamp) -> Turn {
        let in_formation: Vec<_> = self
            .listed_dynos(app)
            .into_iter()
            .filter(|dyno| !dyno.is_one_off())
            .collect();
        let stale = in_formation.iter().filter(|dyno| dyno.stale);
        let at_once = (in_formation.len() / PART).max(1);
        let next: Vec<String> = stale.take(at_once).map(|dyno| dyno.name.clone()).collect();
        if next.is_empty() {
            return Turn::Done;
        }
        if in_formation
            .iter()
            .any(|dyno| !dyno.stale && dyno.state == DynoState::Starting)
        {
            return Turn::Wait;
        }
        let mut actions = Vec::new();
        for name in &next {
            actions.extend(self.retire(app, name, now));
        }
        actions.extend(self.reconcile(app, now));
        Turn::Replace(actions)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        Timestamp::from_second(1_763_856_000).unwrap()
    }

    fn in_a_space(quantity: u32) -> (Platform, Uuid) {
        let mut platform = Platform::new("seed");
        let formation = [("web".to_owned(), (vec!["serve".to_owned()], quantity))].into();
        let (id, _) = platform.create_app("demo", "us", formation, [].into(), now()).unwrap();
        platform.place_in_space("demo", "hidden").unwrap();
        all_up(&mut platform);
        (platform, id)
    }

    fn all_up(platform: &mut Platform) {
        let ids: Vec<Uuid> = platform.dynos.iter().map(|dyno| dyno.id).collect();
        for id in ids {
            platform.started(id, Some(1), now());
        }
    }

    fn of_release(platform: &Platform, app: Uuid, release: u64) -> usize {
        let listed = platform.listed_dynos(app);
        listed.iter().filter(|dyno| dyno.release == release).count()
    }

    #[test]
    fn a_quarter_is_replaced_at_a_time_and_the_rest_serves_on() {
        let (mut platform, app) = in_a_space(8);
        let change = [("COLOUR".to_owned(), Some("blue".to_owned()))].into();
        assert_eq!(
            platform.patch_vars("demo", change, now()).unwrap(),
            [Action::Roll { app }]
        );
        let mut rounds = Vec::new();
        loop {
            match platform.roll(app, now()) {
                Turn::Done => break,
                Turn::Wait => panic!("all are up"),
                Turn::Replace(actions) => {
                    assert_eq!(actions.len(), 4, "two end and two start");
                    assert_eq!(
                        platform.roll(app, now()),
                        if rounds.len() == 3 { Turn::Done } else { Turn::Wait }
                    );
                    rounds.push(of_release(&platform, app, 1));
                    all_up(&mut platform);
                }
            }
        }
        assert_eq!(rounds, [6, 4, 2, 0]);
    }

    #[test]
    fn few_dynos_are_replaced_one_by_one_and_a_second_change_begins_anew() {
        let (mut platform, app) = in_a_space(2);
        platform.restart_all(app, now());
        assert!(matches!(platform.roll(app, now()), Turn::Replace(_)));
        all_up(&mut platform);
        platform.restart_all(app, now());
        for _ in 0..2 {
            assert!(matches!(platform.roll(app, now()), Turn::Replace(_)));
            all_up(&mut platform);
        }
        assert_eq!(platform.roll(app, now()), Turn::Done);
    }
}
