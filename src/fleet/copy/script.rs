//! `pg_restore` since 17 begins with a setting that servers before 17 do not know, and ends there. For those it prints what it
//! would have said, and `psql` says it, but for that setting. The names and rows in such a script are a tenant's: the key that
//! it begins with makes `psql` take none of it for a command of its own (`\!` runs a program). Without it nothing is loaded.

use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

use crate::error::{ApiError, ApiResult};
use crate::fleet::backup::dump::{Program, complaints};
use crate::fleet::{admin, programs, refused};
use crate::router::{AdminConn, Target};

/// The first version whose `pg_restore` says so.
const SINCE: u32 = 17;
const KNOWS: &str = "SELECT current_setting('server_version_num')::int >= 170000 AS yes";
const UNKNOWN: &[u8] = b"SET transaction_timeout = 0;\n";
const PSQL: [&str; 6] =
    ["--no-psqlrc", "--quiet", "--no-password", "--set=ON_ERROR_STOP=1", "--output=/dev/null", "--file=-"];
/// How long `psql` may take to say why it reads no further.
const LAST_WORDS: Duration = Duration::from_secs(10);
/// How long `pg_restore` may take to say its version.
const ITS_VERSION: Duration = Duration::from_secs(30);

/// Whether this machine's `pg_restore` can load into a server in this way alone.
pub(in crate::fleet) async fn is_needed(server: &mut AdminConn) -> ApiResult<bool> {
    if admin::ask(server, KNOWS).await? {
        return Ok(false);
    }
    let Some(path) = programs::find("pg_restore") else { return Ok(false) };
    Ok(major(Command::new(path), ITS_VERSION).await?.is_some_and(|major| major >= SINCE))
}

/// The version that `pg_restore` says it is of.
async fn major(mut pg_restore: Command, within: Duration) -> ApiResult<Option<u32>> {
    pg_restore.arg("--version").stdin(Stdio::null()).kill_on_drop(true);
    let printed = timeout(within, pg_restore.output()).await.map_err(|late| {
        refused(
            "pg_restore does not say its version on this node. Look at what keeps `pg_restore --version` from its end there, \
             and ask for the same again.",
        )
        .caused_by(late)
    })?;
    let printed = printed.map_err(ApiError::internal)?;
    Ok(programs::parse_major(&String::from_utf8_lossy(&printed.stdout)))
}

/// A `psql` that loads what is poured into it.
pub(in crate::fleet) fn begin(target: &Target) -> ApiResult<(Program, ChildStdin)> {
    let mut psql = Program::start("psql", target, &PSQL, None)?;
    let stdin = psql.child.stdin.take().ok_or_else(|| ApiError::internal("psql takes no input"))?;
    Ok((psql, stdin))
}

/// Sees `psql` to its end while something is `poured` into it. Where both fail, its complaint is the cause of the other's.
pub(in crate::fleet) async fn end(mut psql: Program, poured: impl Future<Output = ApiResult<()>>) -> ApiResult<()> {
    let stderr = psql.child.stderr.take();
    let mut hangs = false;
    let poured = async {
        let poured = poured.await;
        if poured.is_err() && timeout(LAST_WORDS, psql.child.wait()).await.is_err() {
            hangs = true;
            // One that has ended cannot be killed.
            let _ = psql.child.start_kill();
        }
        poured
    };
    let (poured, said) = futures_util::join!(poured, complaints(stderr));
    if hangs {
        return poured;
    }
    psql.end(&said).await?;
    poured
}

/// Passes on what `pg_restore` prints, until either ends.
pub(in crate::fleet) async fn pour(script: Option<ChildStdout>, mut psql: ChildStdin) -> ApiResult<()> {
    let script = script.ok_or_else(|| ApiError::internal("pg_restore has no output"))?;
    let mut script = BufReader::new(script);
    let head = head(&mut script).await?;
    psql.write_all(&head).await.map_err(ApiError::internal)?;
    tokio::io::copy_buf(&mut script, &mut psql).await.map_err(ApiError::internal)?;
    Ok(())
}

/// The beginning of a script, which is `pg_restore`'s own, without what the server does not know.
async fn head(script: &mut (impl AsyncBufRead + Unpin)) -> ApiResult<Vec<u8>> {
    let (mut head, mut is_restricted) = (Vec::new(), false);
    loop {
        let begun = head.len();
        if script.read_until(b'\n', &mut head).await.map_err(ApiError::internal)? == 0 {
            return Ok(head);
        }
        let line = &head[begun..];
        let says_something = !line.trim_ascii().is_empty() && !line.starts_with(b"--");
        if says_something && !is_restricted {
            if !line.starts_with(b"\\restrict ") {
                return Err(refused(
                    "PostgreSQL's client programs on this machine are newer than the database server, and do not protect \
                     themselves from what is in a dump. Install those of 17.6 or newer, or of the server's version.",
                ));
            }
            is_restricted = true;
        } else if line == UNKNOWN {
            head.truncate(begun);
        } else if says_something && !line.starts_with(b"SET ") {
            return Ok(head);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Code;

    #[actix_web::test]
    async fn only_the_beginning_is_changed() {
        let begins = "--\n-- PostgreSQL database dump\n--\n\n\\restrict abc\n\nSET lock_timeout = 0;\n";
        let row = "SET transaction_timeout = 0;\n";
        let after = "SET row_security = off;\nSELECT pg_catalog.set_config('search_path', '', false);\n";
        let script = format!("{begins}{row}{after}COPY public.notes (note) FROM stdin;\n{row}\\.\n");
        let mut rest = script.as_bytes();
        let head = head(&mut rest).await.unwrap();
        assert_eq!(String::from_utf8(head).unwrap(), format!("{begins}{after}"));
        assert_eq!(rest, format!("COPY public.notes (note) FROM stdin;\n{row}\\.\n").as_bytes());
    }

    #[actix_web::test]
    async fn a_program_that_does_not_say_its_version_is_not_waited_for() {
        let mut says = Command::new("sh");
        says.args(["-c", "echo 'pg_restore (PostgreSQL) 17.6'"]);
        assert_eq!(major(says, ITS_VERSION).await.unwrap(), Some(17));
        let mut hangs = Command::new("sh");
        hangs.args(["-c", "exec tail -f /dev/null"]);
        let refused = major(hangs, Duration::from_millis(1)).await.unwrap_err();
        assert_eq!(refused.code(), Code::Conflict);
        assert!(refused.client_detail().contains("pg_restore --version"), "{refused:?}");
    }

    #[actix_web::test]
    async fn a_script_that_does_not_bind_psql_is_refused() {
        let head = head(&mut "--\n\nSET lock_timeout = 0;\n\\restrict abc\n".as_bytes()).await;
        assert_eq!(head.unwrap_err().code(), Code::Conflict);
    }
}
