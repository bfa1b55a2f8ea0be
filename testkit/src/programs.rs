//! The programs of this workspace, as cargo built them for the test that runs.

use std::path::{Path, PathBuf};

/// Returns a program that cargo built, such as `infra`.
pub fn built(name: &str) -> PathBuf {
    let path = path_of(name);
    assert!(
        path.exists(),
        "{} is missing: `cargo build --workspace` makes it",
        path.display()
    );
    path
}

/// Returns the path of a file beside `infra`; there may be none.
pub fn path_of(name: &str) -> PathBuf {
    // A test or measurement lies in the folder `deps`, which is beside the programs.
    let test = std::env::current_exe().unwrap();
    match test.parent() {
        Some(deps) if deps.ends_with("deps") => deps.with_file_name(name),
        _ => panic!("{} does not lie where cargo builds tests: `…/deps`", test.display()),
    }
}

/// Returns the folder of the package whose test runs; for tests of `infra` this is the checkout.
pub fn package() -> PathBuf {
    let folder = std::env::var_os("CARGO_MANIFEST_DIR");
    Path::new(&folder.expect("CARGO_MANIFEST_DIR is not set: cargo sets it for what it runs")).to_owned()
}
