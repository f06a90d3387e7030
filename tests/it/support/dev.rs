//! An installation of `tenantry dev`, as a child process.

use std::net::TcpStream;
use std::path::Path;
use std::process::Stdio;

use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;
use serde_json::Value;
use tokio::process::Child;
use url::Url;

use super::binary::program;
use super::{eventually, seconds};

pub(crate) async fn start(directory: &Path) -> (Child, Value) {
    start_with(directory, Stdio::null()).await
}

pub(crate) async fn start_with(directory: &Path, stdout: impl Into<Stdio>) -> (Child, Value) {
    let ready = directory.join("ready.json");
    let arguments = ["dev", "--port", "0", "--data-dir", &directory.to_string_lossy()];
    let environment = [
        ("TENANTRY_MANAGEMENT_LISTEN".to_owned(), "127.0.0.1:0".to_owned()),
        ("TENANTRY_LOG__LEVEL".to_owned(), "warn,tenantry::mail=info".to_owned()),
    ];
    // A pipe that nobody reads would fill, and whoever writes to it would wait for ever.
    let log = directory.with_extension("log");
    std::fs::create_dir_all(log.parent().unwrap()).unwrap();
    let log = std::fs::File::create(log).unwrap();
    let mut child = program(&environment, &arguments).stdout(stdout).stderr(log).spawn().unwrap();
    let mut found = Value::Null;
    eventually(seconds(90), "dev is ready", async || {
        assert!(child.try_wait().unwrap().is_none(), "it has ended");
        found =
            std::fs::read_to_string(&ready).ok().and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
        found.is_object()
    })
    .await;
    (child, found)
}

pub(crate) async fn interrupt(mut child: Child, ready: &Value) {
    let pid = i32::try_from(child.id().expect("it runs")).expect("a process id");
    signal::kill(Pid::from_raw(pid), Signal::SIGINT).expect("sent");
    let status =
        tokio::time::timeout(crate::support::shared(seconds(40)), child.wait()).await.expect("it ends").unwrap();
    assert_eq!(status.code(), Some(0));
    for name in ["databaseUrl", "url"] {
        let url: Url = ready[name].as_str().expect(name).parse().expect("a URL");
        let port = url.port().expect("a port");
        let silent = async || TcpStream::connect(("127.0.0.1", port)).is_err();
        eventually(seconds(5), "nobody listens any more", silent).await;
    }
}
