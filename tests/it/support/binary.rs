//! The program itself, as a child process.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Output, Stdio};

use serde_json::Value;
use tenantry::testing::TestApp;
use tokio::process::Command;

/// What a command said, and how it ended.
#[derive(Debug)]
pub(crate) struct Said {
    /// The exit code; none if it was killed.
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Said {
    fn of(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    #[track_caller]
    pub(crate) fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:#?}");
        self
    }

    /// Standard output as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:#?}"))
    }

    /// Everything it said.
    pub(crate) fn all(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }
}

/// A port that was free a moment ago.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).and_then(|listener| listener.local_addr()).expect("a free port").port()
}

/// The program with nothing of this process's environment but `PATH`, in an empty directory.
pub(crate) fn program(environment: &[(String, String)], arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tenantry"));
    command.env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin").env("TENANTRY_LOG__LEVEL", "warn");
    command.envs(environment.iter().map(|(name, value)| (name, value)));
    command.args(arguments).current_dir(Path::new("/")).stdin(Stdio::null()).kill_on_drop(true);
    command
}

/// Runs a command for an installation, to its end.
pub(crate) async fn run(app: &TestApp, arguments: &[&str]) -> Said {
    run_with(&app.environment(), arguments).await
}

/// Runs a command with these variables, to its end.
pub(crate) async fn run_with(environment: &[(String, String)], arguments: &[&str]) -> Said {
    let output = program(environment, arguments).output().await.expect("the program runs");
    Said::of(output)
}
