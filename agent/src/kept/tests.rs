//! A crash at any step leaves a state that the next start finishes.

use super::*;
use std::os::unix::fs::MetadataExt;

/// A folder as an engine writes it: one base, one increment, a manifest.
fn engine(folder: &Path, number: u64, content: &str) -> Generation {
    let _ = fs::remove_dir_all(folder);
    fs::create_dir_all(folder).unwrap();
    fs::write(folder.join(format!("{number}.base")), content).unwrap();
    fs::write(folder.join(format!("{number}.incr")), content).unwrap();
    fs::write(
        folder.join(FILE),
        format!("file {number}.base seq {number} type b\nfile {number}.incr seq {number} type i\n"),
    )
    .unwrap();
    Generation::read(folder).unwrap().unwrap()
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

fn moment(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

#[test]
fn a_rewrite_moves_the_names_on_and_a_full_copy_sets_them_aside() {
    let folder = tempfile::tempdir().unwrap();
    let (data, home) = (folder.path().join("data"), folder.path().join("kept"));
    let mut kept = Kept::open(home.clone()).unwrap();
    assert!(kept.replace(&engine(&data, 1, "one"), &data).unwrap());
    assert!(kept.replace(&engine(&data, 2, "two"), &data).unwrap());
    assert_eq!(names(&home), ["current"]);
    assert_eq!(names(&home.join("current/appendonlydir")), ["2.base", "2.incr", FILE]);
    assert!(
        kept.set_aside(&engine(&data, 3, "three"), &data, moment(1_764_000_000))
            .unwrap()
    );
    let last = kept.last().unwrap().clone();
    assert_eq!((last.at, last.bytes), (moment(1_764_000_000), 6));
    assert_eq!(fs::read_to_string(within(&last.folder).join("2.incr")).unwrap(), "two");
    // The next set replaces it, and a restarted agent finds that one.
    assert!(
        kept.set_aside(&engine(&data, 4, "four"), &data, moment(1_764_000_009))
            .unwrap()
    );
    assert_eq!(names(&home), ["current", "last-20251124T160009.000Z"]);
    let mut kept = Kept::open(home.clone()).unwrap();
    assert_eq!(kept.last().unwrap().at, moment(1_764_000_009));
    assert_eq!(kept.current(), Generation::read(&data).unwrap().as_ref());
    kept.let_go().unwrap();
    assert_eq!(names(&home), ["current"]);
    assert_eq!(fs::metadata(data.join("4.base")).unwrap().nlink(), 2, "no copy");
}

#[test]
fn a_set_that_changes_while_it_is_linked_is_not_kept() {
    let folder = tempfile::tempdir().unwrap();
    let (data, home) = (folder.path().join("data"), folder.path().join("kept"));
    let mut kept = Kept::open(home.clone()).unwrap();
    assert!(kept.replace(&engine(&data, 1, "one"), &data).unwrap());
    let old = Generation::read(&data).unwrap().unwrap();
    engine(&data, 2, "two");
    assert!(!kept.set_aside(&old, &data, moment(1)).unwrap(), "its files are gone");
    fs::write(data.join("1.base"), "").unwrap();
    fs::write(data.join("1.incr"), "").unwrap();
    assert!(!kept.set_aside(&old, &data, moment(1)).unwrap(), "they are not listed");
    assert_eq!(kept.last(), None);
    assert_eq!(
        fs::read_to_string(home.join("current/appendonlydir/1.base")).unwrap(),
        "one"
    );
}

#[test]
fn a_crash_at_any_step_is_finished_by_the_next_start() {
    let folder = tempfile::tempdir().unwrap();
    let (data, home) = (folder.path().join("data"), folder.path().join("kept"));
    let begin = || {
        let _ = fs::remove_dir_all(&home);
        let mut kept = Kept::open(home.clone()).unwrap();
        assert!(kept.replace(&engine(&data, 1, "one"), &data).unwrap());
        engine(&data, 2, "two");
        home.clone()
    };
    let copy = |to: &str, names: &[&str]| {
        let to = within(&home.join(to));
        fs::create_dir_all(&to).unwrap();
        for name in names {
            fs::hard_link(data.join(name), to.join(name)).unwrap();
        }
    };
    let current = |kept: &Kept| kept.current().map(|one| one.names().next().unwrap().to_string());

    // The new set is not whole: the old one stays current.
    begin();
    copy("new", &["2.base"]);
    let kept = Kept::open(home.clone()).unwrap();
    assert_eq!(
        (current(&kept).as_deref(), names(&home)),
        (Some("1.base"), vec!["current".into()])
    );

    // The old set is being removed: the new one becomes current, and nothing is set aside.
    let home_now = begin();
    copy("new", &["2.base", "2.incr", FILE]);
    fs::rename(home_now.join("current"), home_now.join("gone-current")).unwrap();
    let kept = Kept::open(home.clone()).unwrap();
    assert_eq!(
        (current(&kept).as_deref(), names(&home)),
        (Some("2.base"), vec!["current".into()])
    );

    // The old set was set aside, and an older one is not removed yet.
    let home_now = begin();
    copy("new", &["2.base", "2.incr", FILE]);
    copy("last-20251124T160000.000Z", &["2.base", FILE]);
    fs::rename(home_now.join("current"), home_now.join("last-20251124T160009.000Z")).unwrap();
    let kept = Kept::open(home.clone()).unwrap();
    assert_eq!(current(&kept).as_deref(), Some("2.base"));
    assert_eq!(kept.last().unwrap().bytes, 6);
    assert_eq!(names(&home), ["current", "last-20251124T160009.000Z"]);

    // A removal was interrupted.
    begin();
    copy("gone-last-20251124T160000.000Z", &["2.incr"]);
    let kept = Kept::open(home.clone()).unwrap();
    assert_eq!((kept.last(), names(&home)), (None, vec!["current".to_string()]));
}
