use super::*;

fn now() -> Timestamp {
    Timestamp::from_second(1_763_856_000).unwrap()
}

fn platform(web: u32, worker: u32) -> (Platform, Uuid, Vec<Action>) {
    let mut platform = Platform::new("seed");
    let command = |name: &str| vec![name.to_owned()];
    let formation = [
        ("web".to_owned(), (command("serve"), web)),
        ("worker".to_owned(), (command("work"), worker)),
    ]
    .into();
    let (id, actions) = platform
        .create_app("demo", "us", formation, BTreeMap::new(), now())
        .unwrap();
    (platform, id, actions)
}

fn names(platform: &Platform, app: Uuid) -> Vec<String> {
    let mut names: Vec<String> = platform
        .listed_dynos(app)
        .iter()
        .map(|dyno| dyno.name.clone())
        .collect();
    names.sort();
    names
}

fn scale(platform: &mut Platform, kind: &str, quantity: u32) -> Result<Vec<Action>, Refusal> {
    platform.scale("demo", &[(kind.to_owned(), Some(quantity), None)], now())
}

#[test]
fn scaling_starts_what_is_missing_and_stops_the_last_ones_and_touches_no_other() {
    let (mut platform, app, actions) = platform(1, 1);
    assert_eq!(actions.len(), 2);
    assert_eq!(scale(&mut platform, "web", 3).unwrap().len(), 2);
    assert_eq!(names(&platform, app), ["web.1", "web.2", "web.3", "worker.1"]);
    let actions = scale(&mut platform, "web", 1).unwrap();
    assert!(actions.iter().all(|action| matches!(action, Action::Stop { .. })) && actions.len() == 2);
    assert_eq!(names(&platform, app), ["web.1", "worker.1"]);
    assert_eq!(scale(&mut platform, "clock", 1).unwrap_err().status, 404);
}

#[test]
fn a_restart_lists_only_the_new_ones() {
    let (mut platform, app, _) = platform(2, 1);
    let before: Vec<Uuid> = platform.listed_dynos(app).iter().map(|dyno| dyno.id).collect();
    let actions = platform.restart_all(app, now());
    let first_start = actions
        .iter()
        .position(|action| matches!(action, Action::Start { .. }))
        .unwrap();
    assert_eq!(
        (actions.len(), first_start),
        (6, 3),
        "all signals go out before the first start"
    );
    assert_eq!(names(&platform, app), ["web.1", "web.2", "worker.1"]);
    assert!(platform.listed_dynos(app).iter().all(|dyno| !before.contains(&dyno.id)));
}

#[test]
fn with_preboot_old_web_dynos_serve_on_unseen() {
    let (mut platform, app, _) = platform(1, 1);
    platform.app_mut("demo").unwrap().behaviour.preboot = true;
    let web = platform
        .listed_dynos(app)
        .iter()
        .find(|dyno| dyno.name == "web.1")
        .unwrap()
        .id;
    let actions = platform.restart_all(app, now());
    let serving: Vec<Uuid> = actions
        .iter()
        .filter_map(|action| {
            if let Action::Stop { dyno, serve_on: true } = action {
                Some(*dyno)
            } else {
                None
            }
        })
        .collect();
    assert_eq!(serving, [web]);
    assert_eq!(names(&platform, app), ["web.1", "worker.1"]);
}

#[test]
fn a_crashing_dyno_is_restarted_with_growing_delay_and_keeps_its_place() {
    let (mut platform, app, _) = platform(1, 0);
    let id = platform.listed_dynos(app)[0].id;
    let delays: Vec<AfterExit> = (0..9)
        .map(|_| platform.exited(id, "exit status: 1", 0.1, now()))
        .collect();
    let expected = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0].map(AfterExit::RestartAfter);
    assert_eq!(delays, expected);
    assert_eq!(platform.listed_dynos(app)[0].state, DynoState::Crashed);
    platform.started(id, Some(7), now());
    assert_eq!(platform.listed_dynos(app)[0].state, DynoState::Up);
    assert_eq!(
        platform.exited(id, "exit status: 1", 61.0, now()),
        AfterExit::RestartAfter(1.0)
    );
}

#[test]
fn a_retiring_dyno_that_ends_is_gone() {
    let (mut platform, app, _) = platform(1, 0);
    let id = platform.listed_dynos(app)[0].id;
    scale(&mut platform, "web", 0).unwrap();
    assert_eq!(platform.exited(id, "exit status: 0", 1.0, now()), AfterExit::Gone);
    assert_eq!(platform.dynos[0].state, DynoState::Ended);
}
