//! `tenantry doctor`: this installation, seen from this machine.

use std::error::Error as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::statvfs::statvfs;
use secrecy::ExposeSecret as _;
use url::Url;

use super::fleet::{conclude, tell};
use super::{Context, Output};
use crate::config::Config;
use crate::fleet::doctor::{Finding, Installed, Severity};
use crate::fleet::programs;
use crate::http::Node;
use crate::router::migrate::{MigrationSet, OPERATOR_HISTORY};

/// Less of a disk than this is little, in percent …
const LITTLE_PERCENT: u64 = 10;
/// … unless it is more than this, in bytes.
const ENOUGH_BYTES: u64 = 20 * 1024 * 1024 * 1024;
const PROGRAMS: [&str; 3] = ["psql", "pg_dump", "pg_restore"];

/// Looks at everything; exit code 3 if anything is to be done.
///
/// # Errors
/// `Partial` if there are findings.
pub async fn run(context: &Context) -> anyhow::Result<()> {
    let config = &context.config;
    let mut seen = match Node::open(config) {
        Ok(node) => node.fleet.examine().await,
        Err(error) => Installed {
            findings: vec![Finding::error(
                "not_configured",
                "configuration",
                error.to_string(),
                "tenantry config show",
            )],
            ..Installed::default()
        },
    };
    settings(config, &mut seen);
    client_programs(&mut seen);
    disks(config, &mut seen);
    seen.findings.sort_by_key(|finding| finding.severity == Severity::Warning);
    match context.output {
        Output::Json => context.say(&serde_json::to_string_pretty(&seen)?)?,
        Output::Table => {
            for check in &seen.checks {
                context.say(&format!("ok  {}: {}", check.name, check.said))?;
            }
            tell(context, &seen.findings)?;
        }
    }
    conclude(context, &seen.findings, "the installation was looked at")
}

/// Settings that each are allowed, and together unwise.
fn settings(config: &Config, seen: &mut Installed) {
    let url = config.public_url();
    let local = ["//127.", "//localhost", "//[::1]"].iter().any(|host| url.contains(host));
    let clear = (url.starts_with("http://") && !local).then(|| {
        let said = format!("tokens would travel in clear: the public URL is {url}");
        Finding::warning("public_url_without_tls", "TENANTRY_PUBLIC_URL", said, "tenantry config show")
    });
    seen.judge("public URL", url, clear);
    let management = config.management_listen();
    let open = (management.ip().is_unspecified() && !config.listen().ip().is_loopback()).then(|| {
        let said = format!("metrics at {management} have no authentication and listen everywhere");
        Finding::warning("management_open", "TENANTRY_MANAGEMENT_LISTEN", said, "tenantry config show")
    });
    seen.judge("management listener", management.to_string(), open);
    if let Some(directory) = config.tenant_migrations() {
        let wrong = if directory.is_dir() {
            let fault = MigrationSet::read(OPERATOR_HISTORY, directory).err();
            fault.map(|fault| {
                let why = fault.source().map(|why| format!(": {why}")).unwrap_or_default();
                ("migrations_unusable", format!("{fault}{why}"), "tenantry config check")
            })
        } else {
            Some(("migrations_missing", format!("{} is no directory", directory.display()), "tenantry config show"))
        };
        let wrong = wrong.map(|(code, said, remedy)| Finding::error(code, "TENANTRY_TENANT_MIGRATIONS", said, remedy));
        seen.judge("your migrations", directory.display().to_string(), wrong);
    }
}

/// Backups, moves and `tenant psql` need PostgreSQL's own programs, no older than the servers; newer ones do.
fn client_programs(seen: &mut Installed) {
    for name in PROGRAMS {
        let found = programs::find(name);
        let version = found.as_deref().and_then(version);
        let wanted = seen.newest_server.unwrap_or(0);
        let install = format!("apt-get install postgresql-client-{}", if wanted > 0 { wanted } else { 17 });
        let wrong = match (&found, version) {
            (None, _) => Some(Finding::warning("program_missing", name, "is not on this machine", install)),
            (Some(path), Some(version)) if i64::from(version) < i64::from(wanted) => {
                let said = format!("{} is of PostgreSQL {version}, the newest server is {wanted}", path.display());
                Some(Finding::warning("program_too_old", name, said, install))
            }
            _ => None,
        };
        let said = found.as_deref().map(|path| path.display().to_string()).unwrap_or_default();
        seen.judge(name, said, wrong);
    }
}

fn version(path: &Path) -> Option<u32> {
    programs::parse_major(&programs::output(Command::new(path).arg("--version"))?)
}

/// Where this machine writes: the data directory, the registry's snapshot, and a storage on its own disks.
fn disks(config: &Config, seen: &mut Installed) {
    let snapshot = config.snapshot_path().and_then(|path| path.parent().map(Path::to_owned));
    let storage = config.storage_url().and_then(|url| Url::parse(url.expose_secret()).ok());
    let storage = storage.filter(|url| url.scheme() == "file").and_then(|url| url.to_file_path().ok());
    // It is made by the first backup.
    let storage = storage.and_then(|path| path.ancestors().find(|path| path.is_dir()).map(Path::to_owned));
    let named = config.data_dir().map(Path::to_owned).into_iter().chain(snapshot).chain(storage);
    let mut places: Vec<PathBuf> = named.filter_map(|path| std::path::absolute(path).ok()).collect();
    places.sort();
    places.dedup();
    for place in places {
        let name = place.display().to_string();
        match statvfs(&place) {
            Ok(disk) => {
                let size = wide(disk.fragment_size());
                let (free, all) = (wide(disk.blocks_available()) * size, wide(disk.blocks()) * size);
                let percent = free.saturating_mul(100) / all.max(1);
                let said = format!("{percent} % free ({} MiB)", free / 1024 / 1024);
                let little = (percent < LITTLE_PERCENT && free < ENOUGH_BYTES)
                    .then(|| Finding::warning("disk_nearly_full", &name, said.clone(), format!("df -h {name}")));
                seen.judge(format!("disk of {name}"), said, little);
            }
            Err(error) => {
                let said = format!("cannot be looked at: {error}");
                seen.findings.push(Finding::error("directory_unusable", &name, said, format!("ls -ld {name}")));
            }
        }
    }
}

/// Systems count blocks in numbers of their own width.
fn wide(count: impl Into<u64>) -> u64 {
    count.into()
}
