//! PostgreSQL's own programs on this machine: where they are, and how a client among them is told its credentials, which
//! never stand on a command line.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{LazyLock, Mutex, PoisonError};

use secrecy::ExposeSecret as _;
use uuid::Uuid;

use crate::router::{Target, TlsMode, system_authorities};

/// What the names of private directories begin with.
const PREFIX: &str = "tenantry-";
/// The file among them that their process has locked.
const OWNER: &str = "owner";
/// How old one must be, in seconds, before it is seen as left behind.
const YOUNG: u64 = 60;
/// libpq reads these from no variable of their own: a server whose machine is gone is given up within half a minute.
const SERVICE: &str = "[tenantry]\nconnect_timeout=10\nkeepalives_idle=10\nkeepalives_interval=5\nkeepalives_count=3\n\
    tcp_user_timeout=20000\n";

/// A client program (`psql`, `pg_dump`, `pg_restore`), told where to connect. The files live as long as it runs.
///
/// # Errors
/// If it is not installed, or the private files cannot be written.
pub(crate) fn client(program: &str, target: &Target) -> io::Result<(tokio::process::Command, PrivateFiles)> {
    let missing = || io::Error::new(io::ErrorKind::NotFound, format!("{program} is not installed"));
    let path = find(program).ok_or_else(missing)?;
    let files = PrivateFiles::new()?;
    let mut command = tokio::process::Command::new(path);
    command.envs(environment(program, target, &files)?);
    Ok((command, files))
}

/// Where a client program is on this machine: looked for once, and again when it is there no more.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    static FOUND: LazyLock<Mutex<HashMap<String, PathBuf>>> = LazyLock::new(Mutex::default);
    let known = FOUND.lock().unwrap_or_else(PoisonError::into_inner).get(program).cloned();
    if let Some(path) = known.filter(|path| path.is_file()) {
        return Some(path);
    }
    let path = look_for(program)?;
    FOUND.lock().unwrap_or_else(PoisonError::into_inner).insert(program.to_owned(), path.clone());
    Some(path)
}

fn look_for(program: &str) -> Option<PathBuf> {
    let path = candidates().into_iter().map(|dir| dir.join(program)).find(|path| path.is_file());
    // A machine may have the client alone: then it is in PATH.
    path.or_else(|| on_path(program))
}

fn on_path(program: &str) -> Option<PathBuf> {
    output(Command::new("sh").args(["-c", "command -v \"$0\"", program])).map(PathBuf::from)
}

fn environment(program: &str, target: &Target, files: &PrivateFiles) -> io::Result<Vec<(&'static str, OsString)>> {
    let mut variables: Vec<(&'static str, OsString)> = vec![
        ("PGHOST", target.host.clone().into()),
        ("PGPORT", target.port.to_string().into()),
        ("PGDATABASE", target.database.clone().into()),
        ("PGUSER", target.user.clone().into()),
        ("PGPASSWORD", target.password.expose_secret().into()),
        ("PGSSLMODE", target.tls.mode.as_str().into()),
        ("PGAPPNAME", format!("tenantry-{program}").into()),
        ("PGSERVICE", "tenantry".into()),
        ("PGSERVICEFILE", files.write("service", SERVICE)?.into()),
    ];
    if let Some(ca) = &target.tls.ca {
        variables.push(("PGSSLROOTCERT", files.write("ca.pem", ca)?.into()));
    } else if matches!(target.tls.mode, TlsMode::VerifyCa | TlsMode::VerifyFull) {
        // By its name: `system` is a file's to libpq before 16, and refused with verify-ca since.
        let missing =
            "no file with the authorities that this machine trusts; install ca-certificates, or name a CA file";
        let file = system_authorities().ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, missing))?;
        variables.push(("PGSSLROOTCERT", file.into()));
    }
    if let (Some(chain), Some(key)) = (&target.tls.client_cert, &target.tls.client_key) {
        variables.push(("PGSSLCERT", files.write("client.pem", chain)?.into()));
        variables.push(("PGSSLKEY", files.write("client.key", key.expose_secret())?.into()));
    }
    Ok(variables)
}

/// A directory that only we can read, gone when dropped; if its process is killed, it goes when the next is made.
#[derive(Debug)]
pub(crate) struct PrivateFiles {
    path: PathBuf,
    /// Locked until the process ends, however it ends.
    _owner: File,
}

impl PrivateFiles {
    fn new() -> io::Result<Self> {
        sweep();
        let path = std::env::temp_dir().join(format!("{PREFIX}{}", Uuid::now_v7().simple()));
        std::fs::DirBuilder::new().mode(0o700).create(&path)?;
        let owner = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path.join(OWNER))?;
        owner.lock()?;
        Ok(Self { path, _owner: owner })
    }

    /// Where a file of this name lies, or will.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Writes one of its files.
    pub(crate) fn write(&self, name: &str, text: &str) -> io::Result<PathBuf> {
        let path = self.path.join(name);
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        file.write_all(text.as_bytes())?;
        Ok(path)
    }
}

impl Drop for PrivateFiles {
    fn drop(&mut self) {
        // What stays is readable by us alone.
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

/// Takes away the private directories that processes have left which are gone: a dump among them is a whole tenant.
pub(crate) fn sweep() {
    let entries = std::fs::read_dir(std::env::temp_dir()).into_iter().flatten().flatten();
    let left = entries.map(|entry| entry.path()).filter(|path| is_left(path));
    for path in left {
        match std::fs::remove_dir_all(&path) {
            Ok(()) => tracing::warn!(path = %path.display(), "files of a process that was killed were removed"),
            Err(error) => tracing::warn!(path = %path.display(), %error, "files of a killed process stay"),
        }
    }
}

/// Whether it is a private directory that nobody holds. One that was just made may not be held yet.
fn is_left(path: &Path) -> bool {
    let made = path.file_name().and_then(|name| Uuid::try_parse(name.to_str()?.strip_prefix(PREFIX)?).ok());
    let seconds = |id: Uuid| id.get_timestamp().map(|at| at.to_unix().0);
    let age = made.and_then(seconds).zip(seconds(Uuid::now_v7())).map(|(made, now)| now.saturating_sub(made));
    age.is_some_and(|age| age > YOUNG)
        && path.symlink_metadata().is_ok_and(|there| there.is_dir())
        && File::open(path.join(OWNER)).is_ok_and(|owner| owner.try_lock().is_ok())
}

/// `postgres (PostgreSQL) 15.12 (Debian 15.12-0+deb12u2)` is 15; `16devel` is 16.
pub(crate) fn parse_major(version: &str) -> Option<u32> {
    let number = version.split_once("(PostgreSQL) ")?.1;
    let digits = number.find(|c: char| !c.is_ascii_digit()).unwrap_or(number.len());
    number[..digits].parse().ok()
}

/// What a program prints, if it succeeds.
pub(crate) fn output(command: &mut Command) -> Option<String> {
    let done = command.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    done.status.success().then(|| String::from_utf8_lossy(&done.stdout).trim().to_owned())
}

/// Where PostgreSQL's programs may be, the likeliest first.
pub(crate) fn candidates() -> Vec<PathBuf> {
    let mut dirs = Vec::new();
    // The shell looks along PATH; distributions link single programs there, so the link is followed home.
    if let Some(initdb) = output(Command::new("sh").args(["-c", "command -v initdb"])) {
        dirs.extend(Path::new(&initdb).canonicalize().ok().and_then(|p| p.parent().map(Path::to_owned)));
    }
    dirs.extend(output(Command::new("pg_config").arg("--bindir")).map(PathBuf::from));
    dirs.extend(numbered("/usr/lib/postgresql", "", "bin"));
    dirs.extend(numbered("/usr", "pgsql-", "bin"));
    dirs.push("/usr/local/pgsql/bin".into());
    for brew in ["/opt/homebrew/opt", "/usr/local/opt", "/home/linuxbrew/.linuxbrew/opt"] {
        dirs.extend(numbered(brew, "postgresql@", "bin"));
        dirs.push(Path::new(brew).join("postgresql/bin"));
    }
    dirs.extend(numbered("/Applications/Postgres.app/Contents/Versions", "", "bin"));
    dirs
}

/// `<root>/<prefix><number>/<sub>`, highest number first.
fn numbered(root: &str, prefix: &str, sub: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(root).into_iter().flatten().flatten();
    let mut found: Vec<(u32, PathBuf)> = entries
        .filter_map(|entry| {
            let number = entry.file_name().to_str()?.strip_prefix(prefix)?.parse().ok()?;
            Some((number, entry.path().join(sub)))
        })
        .collect();
    found.sort_by_key(|(number, _)| std::cmp::Reverse(*number));
    found.into_iter().map(|(_, path)| path).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::router::TlsPolicy;

    #[test]
    fn what_a_killed_process_left_is_removed() {
        let tail = |id: Uuid| -> [u8; 10] { id.as_bytes()[6..].try_into().unwrap() };
        let of_old = || {
            let id = uuid::Builder::from_unix_timestamp_millis(1, &tail(Uuid::now_v7())).into_uuid();
            let path = std::env::temp_dir().join(format!("{PREFIX}{}", id.simple()));
            std::fs::create_dir(&path).unwrap();
            std::fs::write(path.join("archive"), "everything").unwrap();
            (File::create(path.join(OWNER)).unwrap(), path)
        };
        let ((left, gone), (held, stays)) = (of_old(), of_old());
        drop(left);
        held.lock().unwrap();
        let ours = PrivateFiles::new().unwrap();
        sweep();
        assert!(!gone.exists() && stays.exists() && ours.path.exists());
        drop(held);
        sweep();
        assert!(!stays.exists());
        let path = ours.path.clone();
        drop(ours);
        assert!(!path.exists());
    }

    #[test]
    fn authorities_are_a_file_to_a_client() {
        let root = |mode: TlsMode, ca: Option<&str>| {
            let tls = TlsPolicy { ca: ca.map(str::to_owned), ..TlsPolicy::mode(mode) };
            let url = "postgres://acme:secret@db.example:5432/acme";
            let target = Target::parse(&url.to_owned().into(), tls).unwrap();
            let files = PrivateFiles::new().unwrap();
            let variables = environment("psql", &target, &files)?;
            let found = variables.into_iter().find(|(name, _)| *name == "PGSSLROOTCERT");
            Ok::<_, io::Error>(found.map(|(_, file)| PathBuf::from(file)))
        };
        for mode in [TlsMode::VerifyCa, TlsMode::VerifyFull] {
            match system_authorities() {
                Some(file) => assert_eq!(root(mode, None).unwrap().as_deref(), Some(file), "{mode}"),
                None => assert!(root(mode, None).is_err(), "{mode}"),
            }
            let own = root(mode, Some("a CA")).unwrap().unwrap();
            assert!(own.is_absolute() && own.ends_with("ca.pem"), "{mode}: {own:?}");
        }
        assert_eq!(root(TlsMode::Require, None).unwrap(), None);
    }

    #[test]
    fn reads_versions() {
        assert_eq!(parse_major("postgres (PostgreSQL) 15.12 (Debian 15.12-0+deb12u2)"), Some(15));
        assert_eq!(parse_major("postgres (PostgreSQL) 19devel"), Some(19));
        assert_eq!(parse_major("something else"), None);
    }
}
