//! PostgreSQL servers of one test's own, to stop, to start again, and to speak TLS.

use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;
use tenantry::dev::{LocalPostgres, LocalPostgresOptions, PostgresError};
use tenantry::router::Target;
use tenantry::testing::TestCluster;

/// How long a server's directory may still be held after its end.
const PATIENCE: Duration = Duration::from_secs(5);

/// A server that can be stopped and started again on the same port with the same data.
pub(crate) struct Server {
    options: LocalPostgresOptions,
    running: Option<LocalPostgres>,
    target: Target,
}

impl Server {
    pub(crate) async fn start() -> Self {
        Self::start_with(|options| options).await
    }

    pub(crate) async fn start_with(change: impl FnOnce(LocalPostgresOptions) -> LocalPostgresOptions) -> Self {
        let options = LocalPostgresOptions {
            durable: false,
            max_connections: 60,
            ..LocalPostgresOptions::new(TestCluster::scratch_dir())
        };
        let options = change(options);
        let running = run(&options).await;
        let target = running.target().clone();
        Self { options, running: Some(running), target }
    }

    /// The superuser, at database `postgres`.
    pub(crate) fn target(&self) -> Target {
        self.target.clone()
    }

    /// Stops it: clients are disconnected.
    pub(crate) async fn stop(&mut self) {
        let Some(running) = self.running.take() else { return };
        tokio::task::spawn_blocking(move || running.stop()).await.expect("no panic").expect("it stops");
    }

    /// Stops it, and starts it as a standby that has nobody to follow: what a failover leaves behind. `pg_promote()` makes
    /// it a primary again.
    pub(crate) async fn demote(&mut self) {
        let data = self.data();
        self.stop().await;
        let owner = std::fs::metadata(&data).expect("the server's data");
        let signal = data.join("standby.signal");
        std::fs::write(&signal, "").expect("a file in the server's data");
        std::os::unix::fs::chown(&signal, Some(owner.uid()), Some(owner.gid())).expect("the server's own");
        self.restart().await;
    }

    fn data(&self) -> PathBuf {
        let home = std::fs::read_to_string(self.options.dir.join("pgdata"));
        home.map_or_else(|_| self.options.dir.join("cluster"), |text| PathBuf::from(text.trim())).join("data")
    }

    /// Starts it again.
    pub(crate) async fn restart(&mut self) {
        let running = run(&self.options).await;
        assert_eq!(running.target().port, self.target.port, "somebody took the port");
        self.running = Some(running);
    }
}

async fn run(options: &LocalPostgresOptions) -> LocalPostgres {
    let options = options.clone();
    let started = tokio::task::spawn_blocking(move || {
        let begun = Instant::now();
        loop {
            match LocalPostgres::start(&options) {
                // A program that another test is just spawning holds all our files open until it is its own.
                Err(PostgresError::InUse(_)) if begun.elapsed() < PATIENCE => thread::sleep(PATIENCE / 100),
                started => return started,
            }
        }
    });
    started.await.expect("no panic").unwrap_or_else(|error| panic!("{error}"))
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.running.take());
        // What stays is swept by the next run of the tests.
        let _ = LocalPostgres::destroy(&self.options.dir);
    }
}

/// A server whose processes stand still; they go on when this is dropped.
pub(crate) struct Frozen(Vec<Pid>);

impl Server {
    /// The server's first process.
    fn postmaster(&self) -> i32 {
        let file = std::fs::read_to_string(self.data().join("postmaster.pid")).expect("a running server");
        file.lines().next().and_then(|pid| pid.trim().parse().ok()).expect("a process id")
    }

    /// Stops every process of the server where it stands: nobody is refused, and nobody is answered.
    pub(crate) fn freeze(&self) -> Frozen {
        let postmaster = self.postmaster();
        let mut frozen = Frozen(vec![Pid::from_raw(postmaster)]);
        signal::kill(frozen.0[0], Signal::SIGSTOP).expect("the postmaster stands still");
        // It starts no further children now.
        let children = children(postmaster).into_iter().map(Pid::from_raw);
        frozen.0.extend(children.filter(|pid| signal::kill(*pid, Signal::SIGSTOP).is_ok()));
        assert!(frozen.0.len() > 3, "only {} processes", frozen.0.len());
        frozen
    }

    /// No file of the server grows past so many bytes from here on, as on a disk that is full; or they do again. A number
    /// that is no multiple of a page makes the server call it by the same name, too.
    pub(crate) fn limit_files(&self, bytes: Option<u64>) {
        let limit = bytes.map_or_else(|| "unlimited".to_owned(), |bytes| bytes.to_string());
        let limit_one = |process: i32| {
            // The server's own user may, even where another one may not.
            let Ok(owner) = std::fs::metadata(format!("/proc/{process}")) else { return false };
            let mut command = std::process::Command::new("prlimit");
            command.uid(owner.uid()).gid(owner.gid());
            command.args(["--pid", &process.to_string(), &format!("--fsize={limit}:")]);
            command.output().expect("prlimit is part of every Linux").status.success()
        };
        let postmaster = self.postmaster();
        assert!(limit_one(postmaster));
        // One that ends meanwhile needs none.
        for child in children(postmaster) {
            limit_one(child);
        }
    }
}

fn children(of: i32) -> Vec<i32> {
    let entries = std::fs::read_dir("/proc").expect("/proc").flatten();
    let processes = entries.filter_map(|entry| {
        let pid = entry.file_name().to_str()?.parse::<i32>().ok()?;
        let stat = std::fs::read_to_string(entry.path().join("stat")).ok()?;
        // `pid (name) state parent …`: the name may hold anything, so count from its end.
        let parent = stat.rsplit(')').next()?.split_whitespace().nth(1)?.parse::<i32>().ok()?;
        (parent == of).then_some(pid)
    });
    processes.collect()
}

impl Drop for Frozen {
    fn drop(&mut self) {
        for pid in self.0.drain(..) {
            // One that ended meanwhile needs no signal.
            let _ = signal::kill(pid, Signal::SIGCONT);
        }
    }
}
