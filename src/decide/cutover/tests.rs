use super::steps::Step::*;
use super::*;

fn world() -> World {
    World {
        fence: FenceKind::Pause,
        master: MasterRole::Following,
        several: false,
        app: Points::Source,
        release_pending: false,
        source: Stillness::Unknown,
        ours: Stillness::Unknown,
    }
}

fn past(phase: Option<Phase>) -> Past {
    Past {
        phase,
        ..Past::default()
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
fn switch_app_alone_takes_its_steps_in_order() {
    let steps = steps(decide(Command::SwitchApp, &past(None), &world()));
    let order = [
        DetachVars,
        Compare,
        Announce(Phase::Fenced),
        Fence,
        Drain,
        Prove,
        AnnounceSwitch,
        PromoteAndHold,
        OpenAccess,
        SetVars,
        AwaitRelease,
        Announce(Phase::Switched),
        AwaitClients,
        Disconnect,
        Unpause,
        Watch,
        Announce(Phase::Settled),
    ];
    let positions: Vec<_> = order.iter().map(|step| position(&steps, *step)).collect();
    assert!(positions.is_sorted(), "{steps:?}");
}

#[test]
fn with_several_apps_every_change_is_sent_before_app_access_opens() {
    let several = World {
        several: true,
        ..world()
    };
    let steps = steps(decide(Command::SwitchApp, &past(None), &several));
    let order = [PromoteAndHold, SetVars, StayPaused, OpenAccess, AwaitRelease];
    let positions: Vec<_> = order.iter().map(|step| position(&steps, *step)).collect();
    assert!(positions.is_sorted(), "{steps:?}");
}

#[test]
fn a_switch_that_was_announced_can_be_given_up_while_the_new_side_is_unused() {
    for app in [Points::Source, Points::Mixed, Points::Endpoint] {
        let unused = World { app, ..promoted() };
        let back = steps(decide(Command::Back, &past(Some(Phase::Switching)), &unused));
        assert!(position(&back, ProveUnwritten) < position(&back, Unpause), "{back:?}");
        assert!(position(&back, Unpause) < position(&back, VarsBack), "{back:?}");
        let used = World {
            ours: Stillness::Moved,
            ..unused
        };
        assert_eq!(
            decide(Command::Back, &past(Some(Phase::Switching)), &used),
            Next::Refuse(Refusal::SwitchIsHalfDone)
        );
    }
}

#[test]
fn a_promotion_and_switch_that_were_announced_and_did_not_happen_begin_again() {
    let followed = steps(decide(Command::SwitchApp, &past(Some(Phase::Switching)), &world()));
    assert!(
        position(&followed, Follow) < position(&followed, Compare),
        "{followed:?}"
    );
    let moved = World {
        app: Points::Endpoint,
        ..world()
    };
    let pending = World {
        release_pending: true,
        ..world()
    };
    let next = |world| decide(Command::SwitchApp, &past(Some(Phase::Switching)), world);
    assert_eq!(next(&moved), Next::Refuse(Refusal::FollowsAfterSwitch));
    assert_eq!(next(&pending), Next::Wait);
}

#[test]
fn promote_never_opens_app_access_nor_touches_the_app() {
    for (phase, world) in [
        (None, world()),
        (Some(Phase::Promoted), world()),
        (Some(Phase::Promoted), promoted()),
    ] {
        let steps = steps(decide(Command::Promote, &past(phase), &world));
        assert!(
            !steps.contains(&OpenAccess) && !steps.contains(&SetVars) && !steps.contains(&DetachVars),
            "{steps:?}"
        );
    }
}

#[test]
fn a_running_hold_is_taken_over_only_after_proof_under_a_new_fence() {
    let steps = steps(decide(Command::SwitchApp, &past(Some(Phase::Promoted)), &promoted()));
    assert!(position(&steps, Fence) < position(&steps, ProveStill));
    assert!(position(&steps, ProveStill) < position(&steps, OpenAccess));
    assert!(!steps.contains(&Promote));
}

#[test]
fn a_hold_that_ended_leads_back_to_following_first() {
    for source in [Stillness::Moved, Stillness::Unknown] {
        for command in [Command::Promote, Command::SwitchApp] {
            let next = decide(command, &past(Some(Phase::Promoted)), &World { source, ..promoted() });
            let Next::Then(steps) = next else { panic!("{next:?}") };
            assert!(position(&steps, CloseAccess) < position(&steps, ProveUnwritten));
            assert!(position(&steps, ProveUnwritten) < position(&steps, Follow));
        }
    }
}

#[test]
fn once_the_change_was_sent_the_way_is_forward_whatever_the_source_did() {
    for source in [Stillness::Still, Stillness::Moved, Stillness::Unknown] {
        let sent = World {
            app: Points::Endpoint,
            source,
            ours: Stillness::Moved,
            ..promoted()
        };
        let steps = steps(decide(Command::SwitchApp, &past(Some(Phase::Switching)), &sent));
        assert!(!steps.contains(&Follow) && steps.contains(&AwaitRelease), "{steps:?}");
    }
}

#[test]
fn a_switch_that_was_never_sent_goes_back_if_the_app_wrote_to_the_source() {
    let moved = World {
        source: Stillness::Moved,
        ..promoted()
    };
    assert_eq!(
        decide(Command::SwitchApp, &past(Some(Phase::Switching)), &moved),
        Next::Then(way_back(FenceKind::Pause))
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
            decide(Command::SwitchApp, &past(Some(Phase::Switching)), &both),
            Next::Refuse(Refusal::BothSidesWritten)
        );
    }
}

#[test]
fn a_finished_switch_leaves_nothing_to_do() {
    let done = World {
        app: Points::Endpoint,
        ..promoted()
    };
    for command in [Command::Promote, Command::SwitchApp] {
        assert!(matches!(
            decide(command, &past(Some(Phase::Settled)), &done),
            Next::Nothing(_)
        ));
    }
}

#[test]
fn an_absent_var_is_mended_after_a_begun_detachment_and_refused_otherwise() {
    let absent = World {
        app: Points::Absent,
        ..world()
    };
    for command in [Command::Promote, Command::SwitchApp] {
        assert_eq!(
            decide(command, &past(None), &absent),
            Next::Refuse(Refusal::AppVarAbsent)
        );
        assert_eq!(
            steps(decide(
                command,
                &Past {
                    detaching: true,
                    ..Past::default()
                },
                &absent
            ))[0],
            DetachVars
        );
    }
}

fn unpausable() -> World {
    World {
        fence: FenceKind::Platform,
        ..world()
    }
}

#[test]
fn without_a_pause_the_app_is_stopped_and_redirected_before_anything_is_proven() {
    let steps = steps(decide(Command::SwitchApp, &past(None), &unpausable()));
    let order = [
        DetachVars,
        PrebootOff,
        CloseAccess,
        Compare,
        Announce(Phase::Fenced),
        StopApp,
        SetVars,
        AwaitRelease,
        AwaitGone,
        Fence,
        Drain,
        Prove,
        Announce(Phase::Promoted),
        Promote,
        Announce(Phase::Switching),
        OpenAccess,
        StartApp,
        AwaitRunning,
        Announce(Phase::Switched),
        Watch,
        PrebootOn,
        Announce(Phase::Settled),
    ];
    let positions: Vec<_> = order.iter().map(|step| position(&steps, *step)).collect();
    assert!(positions.is_sorted(), "{steps:?}");
    assert!(!steps.contains(&LongPause) && !steps.contains(&Unpause), "{steps:?}");
}

#[test]
fn an_app_that_was_stopped_is_never_taken_for_one_that_somebody_else_moved() {
    let stopped = Past {
        phase: Some(Phase::Fenced),
        stopped: true,
        ..Past::default()
    };
    for app in [Points::Source, Points::Endpoint, Points::Mixed] {
        let world = World { app, ..unpausable() };
        for command in [Command::Promote, Command::SwitchApp] {
            let steps = steps(decide(command, &stopped, &world));
            // The change of the vars that was journaled before they were set must not be forgotten.
            assert!(!steps.contains(&Announce(Phase::Following)), "{steps:?}");
            assert!(position(&steps, SetVars) < position(&steps, Promote));
        }
        let back = steps(decide(Command::Back, &stopped, &world));
        assert!(position(&back, VarsBack) < position(&back, StartApp), "{back:?}");
    }
}

#[test]
fn going_back_wants_proof_that_the_new_side_is_unused() {
    for phase in [Phase::Switched, Phase::Settled] {
        for (ours, allowed) in [
            (Stillness::Still, true),
            (Stillness::Moved, false),
            (Stillness::Unknown, false),
        ] {
            let world = World {
                app: Points::Endpoint,
                ours,
                ..promoted()
            };
            let next = decide(Command::Back, &past(Some(phase)), &world);
            if allowed {
                let steps = steps(next);
                assert!(position(&steps, CloseAccess) < position(&steps, ProveUnwritten));
                assert!(position(&steps, ProveUnwritten) < position(&steps, VarsBack));
                assert!(position(&steps, VarsBack) < position(&steps, Follow));
            } else {
                assert_eq!(next, Next::Refuse(Refusal::WrittenSinceSwitch))
            }
        }
    }
}

#[test]
fn half_moved_apps_go_forward_while_the_source_is_still() {
    let mixed = |source| World {
        app: Points::Mixed,
        source,
        ours: Stillness::Moved,
        ..promoted()
    };
    let switching = past(Some(Phase::Switching));
    let steps = steps(decide(Command::SwitchApp, &switching, &mixed(Stillness::Still)));
    assert!(steps.contains(&SetVars) && !steps.contains(&Follow), "{steps:?}");
    assert_eq!(
        decide(Command::SwitchApp, &switching, &mixed(Stillness::Moved)),
        Next::Refuse(Refusal::BothSidesWritten)
    );
    assert_eq!(
        decide(
            Command::SwitchApp,
            &past(None),
            &World {
                app: Points::Mixed,
                ..world()
            }
        ),
        Next::Refuse(Refusal::PointsElsewhere)
    );
}

#[test]
fn a_switch_that_was_never_sent_goes_on_if_somebody_logged_in_meanwhile() {
    for ours in [Stillness::Moved, Stillness::Unknown] {
        let world = World { ours, ..promoted() };
        let steps = steps(decide(Command::SwitchApp, &past(Some(Phase::Switching)), &world));
        assert!(
            steps.contains(&SetVars) && !steps.contains(&ProveStill) && !steps.contains(&Follow),
            "{steps:?}"
        );
    }
}
