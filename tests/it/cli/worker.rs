//! `tenantry worker`: background work in a process of its own, which can be watched like any other.

use std::process::Stdio;

use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;
use tenantry::testing::TestApp;
use tokio::process::Child;

use crate::support::binary::{free_port, program, run_with};
use crate::support::{eventually, seconds, shared};

#[actix_web::test]
async fn a_worker_is_watched_on_its_management_listener() {
    let app = TestApp::shared().await;
    let (nowhere, management) = (free_port(), free_port());
    let mut environment = app.environment();
    environment.extend([
        ("TENANTRY_LISTEN".into(), format!("127.0.0.1:{nowhere}")),
        ("TENANTRY_MANAGEMENT_LISTEN".into(), format!("127.0.0.1:{management}")),
    ]);
    let said = run_with(&environment, &["healthcheck"]).await.expect(1);
    assert!(said.stderr.contains(&format!("nor from 127.0.0.1:{management}")), "{said:#?}");

    let worker = || program(&environment, &["worker"]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let first = worker();
    let there = app.anonymous().at(&format!("http://127.0.0.1:{management}"));
    let has_worked = async || {
        let answer = there.try_send(reqwest::Method::GET, "/metrics", None).await;
        answer.is_ok_and(|answer| {
            answer.text.contains("tenantry_job_duration_seconds_count") && answer.text.contains("outcome=\"done\"")
        })
    };
    eventually(seconds(30), "it tells what it has done", has_worked).await;
    run_with(&environment, &["healthcheck"]).await.expect(0);
    there.get("/api/v1/contacts").await.expect(404);

    // One more, or a server, on the same machine: it works, and says what it lacks.
    let second = worker();
    let process = format!("/proc/{}/status", second.id().expect("it runs"));
    eventually(seconds(30), "it would end well", async || handles_terminate(&process)).await;
    let said = end(second).await;
    assert!(said.contains("shows no metrics"), "{said}");
    let said = end(first).await;
    assert!(!said.contains("shows no metrics"), "{said}");
    run_with(&environment, &["healthcheck"]).await.expect(1);
}

/// Tells a process to end, which it does well; what it has logged.
async fn end(process: Child) -> String {
    let pid = i32::try_from(process.id().expect("it runs")).expect("a process id");
    signal::kill(Pid::from_raw(pid), Signal::SIGTERM).expect("sent");
    let output = tokio::time::timeout(shared(seconds(30)), process.wait_with_output()).await.expect("it ends").unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{said}");
    said
}

/// Whether a process has a handler for SIGTERM, by its `/proc/PID/status`.
fn handles_terminate(status: &str) -> bool {
    let text = std::fs::read_to_string(status).unwrap_or_default();
    let caught = text.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    let caught = caught.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default();
    caught & (1 << (Signal::SIGTERM as u64 - 1)) != 0
}
