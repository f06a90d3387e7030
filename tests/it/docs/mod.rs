//! The documents tell the truth where a machine can tell: links lead somewhere, and the commands exist.

mod asvs;
mod embedding;
mod events;

use std::fs;
use std::path::{Path, PathBuf};

use tenantry::config::{Config, Sources};
use tenantry::error::Code;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every Markdown file of the repository, built and installed things aside.
fn documents() -> Vec<PathBuf> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).expect("a readable folder") {
            let path = entry.expect("a readable entry").path();
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            if path.is_dir() {
                if !name.starts_with('.') && name != "target" && name != "node_modules" {
                    walk(&path, found);
                }
            } else if name.ends_with(".md") {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    walk(root(), &mut found);
    found
}

/// The lines outside fenced blocks, or those inside.
fn lines(text: &str, fenced: bool) -> impl Iterator<Item = &str> {
    let mut inside = false;
    text.lines().filter(move |line| {
        if line.trim_start().starts_with("```") {
            inside = !inside;
            return false;
        }
        inside == fenced
    })
}

/// The targets of `[text](target)` in a line, those in `code` aside.
fn links(line: &str) -> Vec<String> {
    let prose: String = line.split('`').step_by(2).collect::<Vec<_>>().join("code");
    prose
        .match_indices("](")
        .filter_map(|(at, mark)| prose[at + mark.len()..].split_once(')').map(|(target, _)| target.to_owned()))
        .collect()
}

/// The cells of a row of a table.
fn cells(line: &str) -> impl Iterator<Item = &str> {
    line.trim_matches('|').split(" | ").map(str::trim)
}

/// The words after `make` in a line of shell, up to the next that is no target (`ARGS=…`, `#`).
fn make_targets(line: &str) -> Vec<&str> {
    let mut words = line.split_whitespace();
    if words.next() != Some("make") {
        return Vec::new();
    }
    words.take_while(|word| word.chars().all(|c| c.is_ascii_lowercase() || c == '-')).collect()
}

#[test]
fn every_relative_link_leads_somewhere() {
    let mut broken = Vec::new();
    let mut seen = 0;
    for document in documents() {
        let text = fs::read_to_string(&document).expect("a readable document");
        for link in lines(&text, false).flat_map(links) {
            let target = link.split('#').next().unwrap_or_default();
            if target.is_empty() || target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            seen += 1;
            if !document.parent().unwrap_or(root()).join(target).exists() {
                broken.push(format!("{}: {link}", document.strip_prefix(root()).unwrap_or(&document).display()));
            }
        }
    }
    assert!(seen > 10, "only {seen} links found: is the reader broken?");
    assert!(broken.is_empty(), "\n{}\n", broken.join("\n"));
}

#[test]
fn every_make_command_in_the_documents_is_a_target() {
    let makefile = fs::read_to_string(root().join("Makefile")).expect("the Makefile");
    let exists = |target: &str| makefile.lines().any(|line| line.starts_with(&format!("{target}:")));
    let mut unknown = Vec::new();
    let mut seen = Vec::new();
    for document in documents() {
        let text = fs::read_to_string(&document).expect("a readable document");
        let in_prose = lines(&text, false).flat_map(|line| line.split('`').skip(1).step_by(2));
        for target in lines(&text, true).chain(in_prose).flat_map(make_targets) {
            seen.push(target.to_owned());
            if !exists(target) {
                unknown.push(format!("{}: make {target}", document.display()));
            }
        }
    }
    assert!(["dev", "test"].iter().all(|needed| seen.iter().any(|target| target == needed)), "README names {seen:?}");
    assert!(unknown.is_empty(), "\n{}\n", unknown.join("\n"));
}

#[test]
fn the_table_of_errors_is_the_server_s_own() {
    let text = fs::read_to_string(root().join("docs/errors.md")).expect("docs/errors.md");
    let rows: Vec<Vec<&str>> = text
        .lines()
        .filter(|line| line.starts_with("| `"))
        .map(|line| cells(line).map(|cell| cell.trim_matches('`')).collect())
        .collect();
    let written: Vec<(String, String)> = rows.iter().map(|row| (row[0].to_owned(), row[1].to_owned())).collect();
    let known: Vec<_> = Code::ALL.iter().map(|code| (code.as_str().to_owned(), code.status().to_string())).collect();
    assert_eq!(written, known, "docs/errors.md and src/error/codes.rs differ");
    for (row, code) in rows.iter().zip(Code::ALL) {
        assert!(
            row.len() == 4 && row[3].contains(code.fix().trim_matches('`')),
            "{row:?} does not say: {}",
            code.fix()
        );
    }
}

/// Every setting of the embedded file is one that the program takes by its variable, and says something of itself.
#[test]
fn every_default_is_a_setting_with_a_comment() {
    let text = fs::read_to_string(root().join("config/default.toml")).expect("config/default.toml");
    let described = Config::load(&Sources::from_variables(&[])).expect("the defaults").describe();
    let (mut section, mut commented, mut seen) = (String::new(), false, 0);
    for line in text.lines() {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = format!("{name}.");
        }
        let setting = line.trim_start_matches("# ").split_once(" = ").map(|(key, _)| key);
        if let Some(key) = setting.filter(|key| key.chars().all(|c| c.is_ascii_lowercase() || c == '_')) {
            seen += 1;
            let key = format!("{section}{key}");
            assert!(commented, "{key} has no comment");
            let variable = format!("TENANTRY_{}", key.replace('.', "__").to_uppercase());
            let known = described.iter().any(|setting| setting.key == key && setting.variable == variable);
            assert!(known, "{key} is no setting ({variable})");
        }
        commented = line.starts_with('#') || commented && setting.is_some();
    }
    assert!(seen >= 20, "only {seen} settings found");
    assert!(described.len() <= seen, "{} settings, {seen} of them in the file", described.len());
}

/// The words after `tenantry` in the documents' commands, up to the first that is no word of a command.
fn program_commands(line: &str) -> Option<Vec<&str>> {
    let (_, rest) = line.split_once("tenantry ")?;
    if !line.trim_start().starts_with(['t', '.', '$']) && !line.contains("-- ") {
        return None;
    }
    let words = rest.split_whitespace();
    Some(
        words
            .take_while(|word| word.chars().all(|c| c.is_ascii_lowercase() || c == '-') && !word.starts_with('-'))
            .collect(),
    )
}

#[test]
fn every_command_in_the_documents_is_one() {
    let mut unknown = Vec::new();
    let mut seen = 0;
    for document in documents() {
        let text = fs::read_to_string(&document).expect("a readable document");
        for words in lines(&text, true).filter_map(program_commands).filter(|words| !words.is_empty()) {
            let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_tenantry"));
            // The noun and the verb; what follows may be a slug.
            let output = command.args(words.iter().take(2)).arg("--help").output().expect("the program runs");
            seen += 1;
            if !output.status.success() {
                unknown.push(format!("{}: tenantry {}", document.display(), words.join(" ")));
            }
        }
    }
    assert!(seen >= 3, "only {seen} commands found");
    assert!(unknown.is_empty(), "\n{}\n", unknown.join("\n"));
}

#[test]
fn the_readers_see_what_they_look_for() {
    assert_eq!(links("see [a](docs/a.md#part), `[no](x)` and [b](b.md)"), ["docs/a.md#part", "b.md"]);
    assert_eq!(make_targets("make lint test ARGS=\"-- x\""), ["lint", "test"]);
    assert!(make_targets("cmake x").is_empty());
    assert_eq!(cells("| `a` | b c |").collect::<Vec<_>>(), ["`a`", "b c"]);
}
