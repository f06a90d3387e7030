//! Programs of others that the tests talk to, where `scripts/setup test` puts them.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use uuid::Uuid;

fn installed(what: &str) -> PathBuf {
    // target/debug/deps/it-… → target/peers
    let binary = std::env::current_exe().expect("the test binary's path");
    let target = binary.ancestors().nth(3).expect("a target directory");
    let path = target.join("peers").join(what);
    assert!(path.exists(), "{what} is not installed: run scripts/setup test");
    path
}

/// A module of `tests/peers/requirements.txt`, run by Python.
pub(crate) fn python(module: &str) -> Command {
    let mut command = Command::new(installed("python/bin/python"));
    command.args(["-m", module]).stdin(Stdio::null());
    command
}

/// A script of `tests/peers/`, given by its text, run by node with the packages there.
pub(crate) fn node(name: &str, text: &str) -> Command {
    // Node looks for packages beside the script. Tests start it side by side: each sees all of it or none.
    let script = installed("node_modules").with_file_name(name);
    let partly = script.with_file_name(format!("{}.part", Uuid::now_v7()));
    std::fs::write(&partly, text).expect("a script beside its packages");
    std::fs::rename(&partly, &script).expect("a script beside its packages");
    let mut command = Command::new(installed("python/bin/node"));
    command.arg(script).stdin(Stdio::null());
    command
}

/// Where the browser is.
pub(crate) fn browser() -> PathBuf {
    let places =
        ["/usr/bin/chromium-headless-shell", "/usr/bin/chromium", "/Applications/Chromium.app/Contents/MacOS/Chromium"];
    let found = places.iter().map(Path::new).find(|path| path.exists());
    found.expect("no Chromium: run scripts/setup test").to_owned()
}

#[test]
fn the_peers_are_installed() {
    let script = "import 'jose'; import 'oidc-provider'; import 'playwright-core'; console.log('here');";
    let said = node("installed.js", script).output().expect("node runs");
    assert!(said.stdout.ends_with(b"here\n"), "{said:?}");
    let said = python("aiosmtpd").arg("--version").output().expect("python runs");
    assert!(said.status.success(), "{said:?}");
    let said = Command::new(browser()).arg("--version").output().expect("the browser runs");
    assert!(said.status.success(), "{said:?}");
}
