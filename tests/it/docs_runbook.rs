//! The runbook tells the truth: every command of `docs/operations.md` is run, in its order, on an installation of
//! `tenantry dev`.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use tenantry::testing::TestCluster;
use tokio::process::Command;

use crate::support::dev::{interrupt, start};
use crate::support::say;

/// Commands of the document that are not run, and why. They stand in `sh` blocks; a `console` block has none.
const NOT_RUN: &[(&str, &str)] = &[
    ("cp .env.example", "the compose file's own installation"),
    ("docker compose", "needs docker"),
    ("export TENANTRY_DATABASE_URL", "another installation's environment"),
    ("tenantry migrate", "`dev` has done it; tests/it/cli/serve.rs runs it"),
    ("tenantry config check", "tests/it/cli/config.rs runs it"),
    ("tenantry serve", "runs until it is stopped; tests/it/cli/serve.rs runs it"),
    ("tenantry operator create", "runs in the runbook with another address"),
    ("tenantry cluster add", "needs a second server; the runbook changes the one that is there"),
    ("tenantry tenant create acme", "`dev` has made it; runs in the runbook with another slug"),
    ("TENANTRY_MASTER_KEY=", "another installation's environment"),
    ("tenantry tenant signups", "needs somebody who waits; tests/it/fleet/approval.rs runs it"),
    ("tenantry key rotate", "runs in the runbook"),
    ("tenantry fleet migrate", "tests/it/fleet runs it, with migrations to apply"),
    ("tenantry fleet status", "tests/it/fleet runs it"),
    ("tenantry tenant signups", "needs somebody who waits; tests/it/fleet runs it"),
    ("tenantry tenant rotate-credentials", "runs in the runbook; a customer's own database is tests/it/fleet's"),
    ("tenantry tenant move", "needs a second server; tests/it/fleet runs it"),
    ("tenantry cluster drain", "needs a second server; tests/it/fleet runs it"),
    ("tenantry pool top", "runs in the runbook with --once; the others run until Ctrl-C, or need a server elsewhere"),
];

struct Block {
    line: usize,
    commands: Vec<String>,
}

/// The blocks of a fence, each with its commands. In `console` blocks these begin with `$ `; a line that ends in `\` goes
/// on with the next.
fn blocks(text: &str, fence: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut block: Option<Block> = None;
    for (at, line) in text.lines().enumerate() {
        match &mut block {
            None if line.trim() == format!("```{fence}") => block = Some(Block { line: at + 1, commands: Vec::new() }),
            Some(_) if line.trim() == "```" => blocks.extend(block.take()),
            Some(block) => {
                let goes_on = block.commands.last().is_some_and(|last| last.ends_with('\\'));
                match (block.commands.last_mut(), line.strip_prefix("$ ")) {
                    (Some(last), _) if goes_on => {
                        last.pop();
                        last.push_str(line.trim_start());
                    }
                    (_, Some(command)) => block.commands.push(command.to_owned()),
                    (_, None) if fence == "sh" && !line.trim().is_empty() => block.commands.push(line.to_owned()),
                    // What a command prints.
                    _ => {}
                }
            }
            None => {}
        }
    }
    blocks
}

/// A block as one script, so that a variable set by one line is known to the next. A command whose comment speaks of
/// `exits 3` may end with it; every other one has to succeed.
fn script(block: &Block) -> String {
    let lines = block.commands.iter().map(|command| {
        let tolerated = if command.contains("# exits 3") { "0|3" } else { "0" };
        let shown = command.replace('\'', "'\\''");
        format!("{command}\ncase $? in {tolerated}) ;; *) printf '%s\\n' 'failed: {shown}' >&2; exit 1 ;; esac\n")
    });
    lines.collect()
}

fn document() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/operations.md");
    fs::read_to_string(path).expect("docs/operations.md")
}

#[actix_web::test]
async fn every_command_of_the_runbook_works() {
    let text = document();
    let runbook = blocks(&text, "console");
    let count: usize = runbook.iter().map(|block| block.commands.len()).sum();
    assert!(count >= 30, "only {count} commands found: is the reader broken?");
    let home = TestCluster::scratch_dir();
    fs::create_dir_all(&home).unwrap();
    // Where `tenantry` looks for an installation by itself.
    let (child, ready) = start(&home.join(".tenantry")).await;
    let program = Path::new(env!("CARGO_BIN_EXE_tenantry")).parent().unwrap().to_string_lossy().into_owned();
    let postgres = "/usr/lib/postgresql/18/bin:/usr/lib/postgresql/17/bin:/usr/lib/postgresql/16/bin:\
                    /usr/lib/postgresql/15/bin:/usr/lib/postgresql/14/bin";
    let mut failed = Vec::new();
    for block in &runbook {
        let output = Command::new("sh")
            .args(["-c", &script(block)])
            .env_clear()
            .env("PATH", format!("{program}:/usr/local/bin:/usr/bin:/bin:{postgres}"))
            .env("CLUSTER_ADMIN_URL", ready["clusterAdminUrl"].as_str().unwrap())
            .env("ACME_ADMIN", ready["tenants"][0]["adminEmail"].as_str().unwrap())
            .env("TENANTRY_LOG__LEVEL", "warn")
            .current_dir(&home)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await
            .expect("a shell");
        if !output.status.success() {
            let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
            failed.push(format!("docs/operations.md:{}\n{}\n{}", block.line, said[0], said[1]));
        }
    }
    interrupt(child, &ready).await;
    assert!(failed.is_empty(), "{}", failed.join("\n---\n"));
    say(&format!("runbook: {count} commands in {} blocks", runbook.len()));
}

#[test]
fn what_is_not_run_is_listed_with_its_reason() {
    let text = document();
    let others = blocks(&text, "sh");
    let commands = others.iter().flat_map(|block| &block.commands);
    let unlisted: Vec<_> =
        commands.filter(|command| !NOT_RUN.iter().any(|(begin, _)| command.trim_start().starts_with(begin))).collect();
    assert!(unlisted.is_empty(), "put them into a console block, or into the list: {unlisted:#?}");
    assert!(NOT_RUN.iter().all(|(_, reason)| !reason.is_empty()));
}

#[test]
fn the_reader_sees_what_it_looks_for() {
    let text = "```console\n$ one \\\n    two\nits output\n$ three    # exits 3\n```\n```sh\nfour\n```\n";
    let found = blocks(text, "console");
    assert_eq!(found[0].commands, ["one two", "three    # exits 3"]);
    assert_eq!(blocks(text, "sh")[0].commands, ["four"]);
    assert!(script(&found[0]).contains("0|3"));
}
