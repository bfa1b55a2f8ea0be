use super::*;

fn world() -> World {
    World {
        master: MasterRole::Following,
        door_open: false,
        app: Points::Source,
        release_pending: false,
        source: Stillness::Unknown,
        ours: Stillness::Unknown,
    }
}

fn promoted() -> World {
    World {
        master: MasterRole::Promoted,
        source: Stillness::Still,
        ours: Stillness::Still,
        ..world()
    }
}

fn steps(next: Next) -> Vec<Step> {
    match next {
        Next::Do(steps) | Next::Then(steps) => steps,
        other => panic!("{other:?}"),
    }
}

fn position(steps: &[Step], step: Step) -> usize {
    steps
        .iter()
        .position(|there| *there == step)
        .unwrap_or_else(|| panic!("{step:?} is not in {steps:?}"))
}

#[test]
fn switch_app_alone_keeps_the_order_of_the_doors() {
    let steps = steps(decide(Command::SwitchApp, None, false, &world()));
    let order = [
        Flatten,
        Compare,
        Announce(Phase::Fenced),
        Fence,
        Drain,
        Prove,
        Announce(Phase::Promoted),
        Promote,
        Announce(Phase::Switching),
        LongPause,
        OpenDoor,
        SetVars,
        AwaitRelease,
        Announce(Phase::Switched),
        AwaitClients,
        Sever,
        Unpause,
        Watch,
        Announce(Phase::Settled),
    ];
    let positions: Vec<_> = order.iter().map(|step| position(&steps, *step)).collect();
    assert!(positions.is_sorted(), "{steps:?}");
}

#[test]
fn promote_never_opens_the_door_nor_touches_the_app() {
    for (phase, world) in [
        (None, world()),
        (Some(Phase::Promoted), world()),
        (Some(Phase::Promoted), promoted()),
    ] {
        let steps = steps(decide(Command::Promote, phase, false, &world));
        assert!(
            !steps.contains(&OpenDoor) && !steps.contains(&SetVars) && !steps.contains(&Flatten),
            "{steps:?}"
        );
    }
}

#[test]
fn a_running_hold_is_taken_over_only_after_proof_under_a_new_fence() {
    let steps = steps(decide(Command::SwitchApp, Some(Phase::Promoted), false, &promoted()));
    assert!(position(&steps, Fence) < position(&steps, ProveStill));
    assert!(position(&steps, ProveStill) < position(&steps, OpenDoor));
    assert!(!steps.contains(&Promote));
}

#[test]
fn a_hold_that_ended_leads_back_to_following_first() {
    for source in [Stillness::Moved, Stillness::Unknown] {
        for command in [Command::Promote, Command::SwitchApp] {
            let next = decide(command, Some(Phase::Promoted), false, &World { source, ..promoted() });
            let Next::Then(steps) = next else { panic!("{next:?}") };
            assert!(position(&steps, CloseDoor) < position(&steps, ProveUnwritten));
            assert!(position(&steps, ProveUnwritten) < position(&steps, Follow));
        }
    }
}

#[test]
fn once_the_change_was_sent_the_way_is_forward_whatever_the_source_did() {
    for source in [Stillness::Still, Stillness::Moved, Stillness::Unknown] {
        let sent = World {
            app: Points::Endpoint,
            door_open: true,
            source,
            ours: Stillness::Moved,
            ..promoted()
        };
        let steps = steps(decide(Command::SwitchApp, Some(Phase::Switching), false, &sent));
        assert!(!steps.contains(&Follow) && steps.contains(&AwaitRelease), "{steps:?}");
    }
}

#[test]
fn a_switch_that_was_never_sent_goes_back_when_the_app_wrote_on_its_old_side() {
    let moved = World {
        source: Stillness::Moved,
        door_open: true,
        ..promoted()
    };
    assert_eq!(
        decide(Command::SwitchApp, Some(Phase::Switching), false, &moved),
        Next::Then(way_back())
    );
}

#[test]
fn two_written_sides_are_refused() {
    for ours in [Stillness::Moved, Stillness::Unknown] {
        let both = World {
            source: Stillness::Moved,
            ours,
            ..promoted()
        };
        assert_eq!(
            decide(Command::SwitchApp, Some(Phase::Switching), false, &both),
            Next::Refuse(Refusal::BothSidesWritten)
        );
    }
}

#[test]
fn a_finished_switch_leaves_nothing_to_do() {
    let done = World {
        app: Points::Endpoint,
        door_open: true,
        ..promoted()
    };
    for command in [Command::Promote, Command::SwitchApp] {
        assert!(matches!(
            decide(command, Some(Phase::Settled), false, &done),
            Next::Nothing(_)
        ));
    }
}

#[test]
fn an_absent_var_is_mended_when_a_flattening_was_begun_and_refused_when_not() {
    let absent = World {
        app: Points::Absent,
        ..world()
    };
    for command in [Command::Promote, Command::SwitchApp] {
        assert_eq!(
            decide(command, None, false, &absent),
            Next::Refuse(Refusal::AppVarAbsent)
        );
        assert_eq!(steps(decide(command, None, true, &absent))[0], Flatten);
    }
}
