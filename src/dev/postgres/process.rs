//! The programs that make the data and run the server on it.

use std::fs::{self, OpenOptions};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Stdio};

use super::SUPERUSER;
use super::binaries::Binaries;
use super::error::{PostgresError, at};
use super::home::Home;

const WATCHDOG: &str = include_str!("watchdog.sh");
const LOG_LIMIT: u64 = 10 << 20;

/// Makes the data of a server, with a superuser of this password.
pub(super) fn init(binaries: &Binaries, home: &Home, data: &Path, password: &str) -> Result<(), PostgresError> {
    // Whatever an interrupted attempt left; a finished one has its PG_VERSION, and is not made again.
    let _ = fs::remove_dir_all(data);
    let password_file = home.path.join("password");
    home.account.write(&password_file, password.as_bytes()).map_err(at(&password_file))?;
    // Not every system has C.UTF-8; with plain C, only ASCII letters know their lower case.
    let mut result = Ok(());
    for locale in ["C.UTF-8", "C"] {
        let mut initdb = home.account.command(binaries.program("initdb"));
        initdb
            .arg("--pgdata")
            .arg(data)
            .arg("--pwfile")
            .arg(&password_file)
            .args(["--username", SUPERUSER, "--auth=scram-sha-256", "--encoding=UTF8", "--data-checksums", "--no-sync"])
            .arg(format!("--locale={locale}"));
        let done = initdb.output().map_err(at(&binaries.program("initdb")))?;
        if done.status.success() {
            result = Ok(());
            break;
        }
        result = Err(PostgresError::Init(String::from_utf8_lossy(&done.stderr).trim().to_owned()));
    }
    let _ = fs::remove_file(&password_file);
    result
}

/// Starts the server under its watchdog.
pub(super) fn watch(
    binaries: &Binaries,
    home: &Home,
    data: &Path,
    dir: &Path,
    ephemeral: bool,
) -> Result<Child, PostgresError> {
    let log_at = dir.join("postgres.log");
    let full = fs::metadata(&log_at).is_ok_and(|log| log.len() > LOG_LIMIT);
    let mut how = OpenOptions::new();
    let log = how.create(true).append(!full).write(true).truncate(full).open(&log_at).map_err(at(&log_at))?;
    let mut command = home.account.command("sh");
    command.args(["-c", WATCHDOG, "tenantry-watchdog"]).arg(binaries.program("postgres")).arg(data);
    if ephemeral {
        command.arg(&home.path).arg(dir);
    }
    command
        .stdin(Stdio::piped())
        .stdout(log.try_clone().map_err(at(&log_at))?)
        .stderr(log)
        // Ctrl-C in a terminal reaches every process of the group: the server must stop after us, not with us.
        .process_group(0)
        .spawn()
        .map_err(at(Path::new("sh")))
}

/// What a log ends with.
pub(super) fn last_lines(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(3)..].join("; ")
}
