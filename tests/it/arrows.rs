//! The layers of `src/` point one way, and raw connections stay inside `router/`.
//!
//! Read from the source itself: `use` items, paths written in place, and paths inside macros. The crate's root and
//! `main.rs` may name everything; every other file belongs to the room (first folder) that it lies in.

use std::fs;
use std::path::Path;

use rstest::rstest;
use syn::visit::{self, Visit};

/// Who may name whom. A room that is missing here fails the test: decide where it stands first.
const ROOMS: &[(&str, &str)] = &[
    ("kernel", ""),
    ("config", "kernel"),
    ("error", "kernel"),
    ("telemetry", "kernel config"),
    ("storage", ""),
    ("mailer", ""),
    ("outbound", "config"),
    ("router", "kernel"),
    ("rest", "router kernel config error telemetry"),
    ("control", "rest router kernel config error telemetry"),
    ("tenant", "rest router outbound mailer kernel config error telemetry"),
    ("fleet", "control tenant rest router storage outbound mailer kernel config error telemetry"),
    ("jobs", "fleet control tenant rest router storage outbound mailer kernel config error telemetry"),
    ("http", "fleet control tenant rest router storage outbound mailer kernel config error telemetry"),
    ("dev", "http jobs fleet control tenant rest router storage outbound mailer kernel config error telemetry"),
    ("cli", "dev http jobs fleet control tenant rest router storage outbound mailer kernel config error telemetry"),
    (
        "testing",
        "cli dev http jobs fleet control tenant rest router storage outbound mailer kernel config error telemetry",
    ),
];

/// The types that speak to a database without saying whose it is.
const RAW_CONNECTIONS: &[&[&str]] = &[&["AsyncPgConnection"], &["tokio_postgres", "Client"]];

#[test]
fn every_file_keeps_to_the_arrows() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    rust_files(&src, &mut files);
    assert!(files.len() > 5, "found {} files under {}", files.len(), src.display());

    let complaints: Vec<String> = files
        .iter()
        .flat_map(|file| {
            let name = file.strip_prefix(&src).expect("found under src").to_string_lossy().replace('\\', "/");
            complaints(&name, &fs::read_to_string(file).expect("a readable source file"))
        })
        .collect();
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

#[rstest]
#[case::a_use("tenant/users/store.rs", "use crate::control::tenants;", "tenant may not use control")]
#[case::a_grouped_use("control/mod.rs", "use crate::{kernel::Clock, tenant::users};", "control may not use tenant")]
#[case::a_renamed_use("router/pools.rs", "use crate::config as settings;", "router may not use config")]
#[case::a_type_in_place("router/mod.rs", "fn f(_: crate::error::ApiError) {}", "router may not use error")]
#[case::a_call_in_place("rest/mod.rs", "fn f() { crate::fleet::migrate(); }", "rest may not use fleet")]
#[case::a_relative_path("kernel/ids.rs", "use super::super::router::Tenant;", "kernel may not use router")]
#[case::from_an_inline_module(
    "tenant/mod.rs",
    "mod inner { use super::super::control::X; }",
    "tenant may not use control"
)]
#[case::inside_a_macro("error/mod.rs", "fn f() { println!(\"{}\", crate::http::NAME); }", "error may not use http")]
#[case::visibility("rest/mod.rs", "pub(in crate::rest) fn f() { let _ = crate::cli::run; }", "rest may not use cli")]
#[case::a_detour_over_the_root("tenant/mod.rs", "use crate::TenantDb;", "`crate::TenantDb` is not a room")]
#[case::a_room_nobody_placed("shed/mod.rs", "", "shed is not a room")]
#[case::raw_diesel("fleet/provision.rs", "use diesel_async::AsyncPgConnection;", "AsyncPgConnection belongs to router")]
#[case::raw_client("control/mod.rs", "fn f(_: &tokio_postgres::Client) {}", "tokio_postgres::Client belongs to router")]
#[case::raw_client_by_use(
    "dev/mod.rs",
    "use tokio_postgres::{Client, Row};",
    "tokio_postgres::Client belongs to router"
)]
fn a_wrong_source_is_seen(#[case] file: &str, #[case] source: &str, #[case] expected: &str) {
    let complaints = complaints(file, source);
    assert!(complaints.iter().any(|complaint| complaint.contains(expected)), "{complaints:?}");
}

#[rstest]
#[case(
    "tenant/users/store.rs",
    "use crate::router::TenantConn; use super::rules; use self::inner::X; use crate::tenant::roles;"
)]
#[case(
    "router/connect.rs",
    "use diesel_async::AsyncPgConnection; use tokio_postgres::Client; use crate::kernel::Clock;"
)]
#[case("cli/mod.rs", "fn f() { crate::dev::run(); crate::kernel::Clock::system(); }")]
#[case("http/app.rs", "/// See [`crate::cli`].\nfn f(_: reqwest::Client) {}")]
#[case("lib.rs", "pub use crate::router::TenantDb; pub mod cli;")]
fn a_right_source_passes(#[case] file: &str, #[case] source: &str) {
    assert_eq!(complaints(file, source), Vec::<String>::new());
}

/// What is wrong with the file `name` (relative to `src/`), one line each.
fn complaints(name: &str, source: &str) -> Vec<String> {
    let Some((room, _)) = name.split_once('/').or_else(|| Some((name.strip_suffix(".rs")?, ""))) else {
        return vec![format!("{name}: neither a room nor a Rust file")];
    };
    if matches!(room, "lib" | "main") {
        return Vec::new();
    }
    let Some((_, may_use)) = ROOMS.iter().find(|(known, _)| *known == room) else {
        return vec![format!("{name}: {room} is not a room; give it its place in tests/it/arrows.rs")];
    };
    let file = match syn::parse_file(source) {
        Ok(file) => file,
        Err(error) => return vec![format!("{name}: does not parse: {error}")],
    };
    let mut reader = Reader { module: module_path(name), paths: Vec::new() };
    reader.visit_file(&file);

    let mut found = Vec::new();
    for path in reader.paths {
        if path.first().is_some_and(|first| first == "crate") {
            match path.get(1).map(String::as_str) {
                None => {}
                Some(other) if other == room || may_use.split(' ').any(|room| room == other) => {}
                Some(other) if ROOMS.iter().any(|(known, _)| *known == other) => {
                    found.push(format!("{name}: {room} may not use {other} (`{}`)", path.join("::")));
                }
                Some(_) => found.push(format!("{name}: `{}` is not a room's path; name the room", path.join("::"))),
            }
        } else if room != "router"
            && let Some(raw) = RAW_CONNECTIONS.iter().find(|raw| ends_in(&path, raw))
        {
            found.push(format!("{name}: {} belongs to router alone", raw.join("::")));
        }
    }
    found.dedup();
    found
}

fn ends_in(path: &[String], end: &[&str]) -> bool {
    path.len() >= end.len() && path[path.len() - end.len()..].iter().zip(end).all(|(a, b)| a == b)
}

/// `tenant/users/store.rs` is the module `tenant::users::store`, `tenant/mod.rs` is `tenant`.
pub(crate) fn module_path(name: &str) -> Vec<String> {
    let stem = name.trim_end_matches(".rs");
    stem.split('/').filter(|part| *part != "mod").map(str::to_owned).collect()
}

/// The Rust files under a folder.
pub(crate) fn rust_files(folder: &Path, files: &mut Vec<std::path::PathBuf>) {
    for entry in fs::read_dir(folder).expect("a readable folder") {
        let path = entry.expect("a readable entry").path();
        if path.is_dir() {
            rust_files(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// Collects every path of a file, those relative to it made absolute (beginning with `crate`).
struct Reader {
    module: Vec<String>,
    paths: Vec<Vec<String>>,
}

impl Reader {
    fn add(&mut self, path: Vec<String>) {
        let supers = path.iter().take_while(|part| matches!(part.as_str(), "super" | "self")).count();
        if supers == 0 {
            self.paths.push(path);
            return;
        }
        let up = path[..supers].iter().filter(|part| *part == "super").count();
        let base = self.module.len().saturating_sub(up);
        let mut absolute = vec!["crate".to_owned()];
        absolute.extend_from_slice(&self.module[..base]);
        absolute.extend_from_slice(&path[supers..]);
        self.paths.push(absolute);
    }

    fn use_tree(&mut self, tree: &syn::UseTree, prefix: &[String]) {
        let with = |name: &syn::Ident| [prefix, &[name.to_string()]].concat();
        match tree {
            syn::UseTree::Path(path) => self.use_tree(&path.tree, &with(&path.ident)),
            syn::UseTree::Name(name) if name.ident == "self" => self.add(prefix.to_vec()),
            syn::UseTree::Name(name) => self.add(with(&name.ident)),
            syn::UseTree::Rename(rename) => self.add(with(&rename.ident)),
            syn::UseTree::Glob(_) => self.add(prefix.to_vec()),
            syn::UseTree::Group(group) => group.items.iter().for_each(|item| self.use_tree(item, prefix)),
        }
    }
}

impl<'ast> Visit<'ast> for Reader {
    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.use_tree(&item.tree, &[]);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        self.add(path.segments.iter().map(|segment| segment.ident.to_string()).collect());
        visit::visit_path(self, path);
    }

    fn visit_item_mod(&mut self, module: &'ast syn::ItemMod) {
        self.module.push(module.ident.to_string());
        visit::visit_item_mod(self, module);
        self.module.pop();
    }

    fn visit_visibility(&mut self, _: &'ast syn::Visibility) {}

    /// A macro's arguments are tokens, not syntax: look for `crate::room` among them.
    fn visit_macro(&mut self, invocation: &'ast syn::Macro) {
        visit::visit_macro(self, invocation);
        let text: String = invocation.tokens.to_string().split_whitespace().collect();
        for (at, start) in text.match_indices("crate::") {
            let rest = &text[at + start.len()..];
            let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
            self.paths.push(vec!["crate".to_owned(), rest[..end].to_owned()]);
        }
    }
}
