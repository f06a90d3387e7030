//! Programs of others that the tests talk to, where `scripts/setup test` puts them.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use uuid::Uuid;

use super::seconds;

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

/// Puts a script of `tests/peers/`, given by its text, beside the packages: there it finds them, and other scripts.
fn place(name: &str, text: &str) -> PathBuf {
    // Tests start them side by side: each sees all of it or none.
    let script = installed("node_modules").with_file_name(name);
    let partly = script.with_file_name(format!("{}.part", Uuid::now_v7()));
    std::fs::write(&partly, text).expect("a script beside its packages");
    std::fs::rename(&partly, &script).expect("a script beside its packages");
    script
}

/// A script, given by its text, run by node with the packages there.
pub(crate) fn node(name: &str, text: &str) -> Command {
    let mut command = Command::new(installed("python/bin/node"));
    command.arg(place(name, text)).stdin(Stdio::null());
    command
}

/// A script, given by its text, run by Python with the packages there.
pub(crate) fn python_script(name: &str, text: &str) -> Command {
    let mut command = Command::new(installed("python/bin/python"));
    command.arg(place(name, text)).stdin(Stdio::null());
    command
}

/// What a script saw that drives the browser, on a page of the application at `url`.
pub(crate) async fn drive(name: &str, text: &str, url: &str, login: &Value) -> Value {
    place("page.mjs", include_str!("../../peers/page.mjs"));
    let given = json!({"browser": browser(), "url": url, "login": login});
    let mut driver = tokio::process::Command::from(node(name, text));
    let driver = driver.arg(given.to_string()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let said = tokio::time::timeout(crate::support::shared(seconds(90)), driver.output())
        .await
        .expect("in time")
        .expect("runs");
    let text = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(said.status.success(), "{text}\n{}", String::from_utf8_lossy(&said.stderr));
    serde_json::from_str(text.trim()).expect("JSON")
}

/// Where the browser is.
fn browser() -> PathBuf {
    let places = [
        "/usr/bin/chromium-headless-shell",
        "/usr/bin/chromium",
        "/usr/bin/google-chrome",
        "/Applications/Chromium.app/Contents/MacOS/Chromium",
    ];
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
