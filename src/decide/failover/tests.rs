use super::*;
use Position::{Master, Replica};

fn up(file: Position, runs: Position, access: bool) -> Side {
    Side::Up { file, runs, access }
}

#[test]
fn a_failover_begins_from_a_pair_alone() {
    let pair = World {
        old: up(Master, Master, true),
        new: up(Replica, Replica, true),
    };
    assert_eq!(decide(None, &pair), Next::Do(WHOLE.to_vec()));
    for (old, new, refusal) in [
        (Side::Absent, up(Replica, Replica, true), Refusal::MasterAbsent),
        (up(Master, Master, true), Side::Absent, Refusal::ReplicaAbsent),
        (
            up(Replica, Replica, true),
            up(Replica, Replica, true),
            Refusal::OtherRoles,
        ),
        (up(Master, Master, true), up(Master, Master, false), Refusal::OtherRoles),
        (
            up(Master, Master, true),
            up(Master, Master, true),
            Refusal::BothTakeWrites,
        ),
    ] {
        assert_eq!(
            decide(None, &World { old, new }),
            Next::Refuse(refusal),
            "{old:?} {new:?}"
        );
    }
}

#[test]
fn a_master_that_is_gone_ends_every_stage_before_the_roles_changed() {
    for stage in [None, Some(Stage::Preparing), Some(Stage::Yielding)] {
        let world = World {
            old: Side::Absent,
            new: up(Master, Master, false),
        };
        assert_eq!(decide(stage, &world), Next::Refuse(Refusal::MasterAbsent), "{stage:?}");
    }
}

#[test]
fn the_old_master_decides_the_way_while_it_is_one() {
    for new in [
        up(Master, Replica, false),
        up(Master, Master, false),
        up(Replica, Replica, false),
    ] {
        for old in [up(Replica, Master, true), up(Master, Master, true)] {
            let next = decide(Some(Stage::Yielding), &World { old, new });
            let ready = old == up(Master, Master, true) && new == up(Replica, Replica, false);
            let wanted = if ready {
                Next::Do(WHOLE.to_vec())
            } else {
                Next::Then(BACK.to_vec())
            };
            assert_eq!(next, wanted, "{old:?} {new:?}");
        }
    }
}

#[test]
fn once_the_old_master_follows_the_way_is_forward() {
    for new in [
        up(Master, Master, false),
        up(Master, Replica, false),
        up(Master, Master, true),
    ] {
        let world = World {
            old: up(Replica, Replica, true),
            new,
        };
        assert_eq!(
            decide(Some(Stage::Yielding), &world),
            Next::Do(FORWARD.to_vec()),
            "{new:?}"
        );
    }
    let settling = World {
        old: Side::Absent,
        new: Side::Absent,
    };
    assert_eq!(decide(Some(Stage::Settling), &settling), Next::Do(SETTLING.to_vec()));
}

#[test]
fn the_app_is_let_in_after_the_role_has_moved_and_before_the_address() {
    let at = |step: Step| WHOLE.iter().position(|other| *other == step).unwrap();
    assert!(at(Step::CloseAccess) < at(Step::Arm));
    assert!(at(Step::Arm) < at(Step::Yield));
    assert!(at(Step::TakeOver) < at(Step::OpenAccess));
    assert!(at(Step::OpenAccess) < at(Step::MoveAddress));
    assert!(at(Step::MoveAddress) < at(Step::Swap));
    assert!(at(Step::Announce(Stage::Yielding)) < at(Step::Yield));
}

#[test]
fn nothing_is_promoted_before_the_fence_is_proven() {
    let at = |step: Step| steps::FORCED.iter().position(|other| *other == step).unwrap();
    for step in [
        Step::TakeOverAlone,
        Step::OpenAccess,
        Step::MoveAddress,
        Step::SwapAlone,
    ] {
        assert!(at(Step::Fence) < at(step), "{step:?}");
    }
    assert!(at(Step::TakeOverAlone) < at(Step::MoveAddress));
    assert!(at(Step::MoveAddress) < at(Step::SwapAlone));
}

#[test]
fn every_step_has_a_name_of_its_own_and_says_what_it_does() {
    let all: Vec<Step> = [WHOLE, BACK].concat();
    let names: std::collections::BTreeSet<String> = all.iter().map(|step| step.name()).collect();
    // Both lists end with the same two steps.
    assert_eq!(names.len(), all.len() - 2);
    assert!(all.iter().all(|step| !step.describe().is_empty()));
}
