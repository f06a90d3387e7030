//! Where PostgreSQL's programs are on this machine.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::PostgresError;

/// The oldest major version that is taken.
const OLDEST: u32 = 14;

/// One installed PostgreSQL.
#[derive(Debug, Clone)]
pub(super) struct Binaries {
    dir: PathBuf,
    /// Major version, `15`.
    pub(super) major: u32,
}

impl Binaries {
    /// The first usable one by `PATH`, `pg_config --bindir`, the usual directories (newest first); of this major
    /// version, where data of it exists already.
    pub(super) fn find(major: Option<u32>) -> Result<Self, PostgresError> {
        let found = candidates().into_iter().filter_map(Self::at).collect::<Vec<_>>();
        match major {
            None => found.into_iter().find(|b| b.major >= OLDEST).ok_or(PostgresError::NotInstalled),
            Some(major) => found.into_iter().find(|b| b.major == major).ok_or(PostgresError::OtherVersion(major)),
        }
    }

    fn at(dir: PathBuf) -> Option<Self> {
        if !dir.join("initdb").is_file() {
            return None;
        }
        let version = output(Command::new(dir.join("postgres")).arg("--version"))?;
        Some(Self { dir, major: parse_major(&version)? })
    }

    /// The path of one program.
    pub(super) fn program(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }
}

/// `postgres (PostgreSQL) 15.12 (Debian 15.12-0+deb12u2)` is 15; `16devel` is 16.
fn parse_major(version: &str) -> Option<u32> {
    let number = version.split_once("(PostgreSQL) ")?.1;
    let digits = number.find(|c: char| !c.is_ascii_digit()).unwrap_or(number.len());
    number[..digits].parse().ok()
}

fn output(command: &mut Command) -> Option<String> {
    let done = command.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    done.status.success().then(|| String::from_utf8_lossy(&done.stdout).trim().to_owned())
}

fn candidates() -> Vec<PathBuf> {
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

    #[test]
    fn reads_versions() {
        assert_eq!(parse_major("postgres (PostgreSQL) 15.12 (Debian 15.12-0+deb12u2)"), Some(15));
        assert_eq!(parse_major("postgres (PostgreSQL) 19devel"), Some(19));
        assert_eq!(parse_major("something else"), None);
    }
}
