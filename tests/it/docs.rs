//! The documents tell the truth where a machine can tell: links lead somewhere, and the commands exist.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use syn::visit::Visit as _;
use tenantry::config::{Config, Sources};
use tenantry::error::Code;

use crate::arrows::{module_path, rust_files};

/// How many requirements of levels 1 and 2 each section of OWASP ASVS 5.0.0 has, by chapter. They are numbered from 1;
/// those of level 3 come after them.
const ASVS: &[&[usize]] = &[
    &[2, 9, 11, 3, 2],
    &[3, 3, 4, 1],
    &[0, 2, 4, 6, 5, 0, 2],
    &[3, 1, 2, 4],
    &[1, 3, 2, 3],
    &[3, 12, 4, 4, 5, 3, 0, 4],
    &[3, 4, 2, 5, 2, 2],
    &[2, 3, 1, 1],
    &[3, 4],
    &[2, 2, 4, 11, 5, 2, 3],
    &[2, 3, 3, 4, 1, 1],
    &[3, 2, 4],
    &[1, 5, 2, 5],
    &[2, 4, 3],
    &[3, 3, 7],
    &[1, 5, 4, 3, 3],
    &[1, 4, 2],
];

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

/// The names of tests among `items` of a module, those of modules in it too.
fn tests_in(items: &[syn::Item], module: &str, found: &mut BTreeSet<String>) {
    let is_test = |attribute: &syn::Attribute| {
        attribute.path().segments.last().is_some_and(|last| last.ident == "test" || last.ident == "rstest")
    };
    for item in items {
        match item {
            syn::Item::Fn(function) if function.attrs.iter().any(is_test) => {
                found.insert(format!("{module}::{}", function.sig.ident));
            }
            syn::Item::Mod(inner) => {
                if let Some((_, items)) = &inner.content {
                    tests_in(items, &format!("{module}::{}", inner.ident), found);
                }
            }
            _ => {}
        }
    }
}

/// The tests of this binary and of the library, by the names that they are run under.
fn all_tests() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for base in ["tests/it", "src"].map(|folder| root().join(folder)) {
        let mut files = Vec::new();
        rust_files(&base, &mut files);
        for path in files {
            let name = path.strip_prefix(&base).expect("found there").to_string_lossy().replace('\\', "/");
            let text = fs::read_to_string(&path).expect("a readable source file");
            let file = syn::parse_file(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
            tests_in(&file.items, &module_path(&name).join("::"), &mut found);
        }
    }
    found
}

/// The numbers of the requirements, in their order.
fn requirements() -> Vec<String> {
    let mut numbers = Vec::new();
    for (chapter, sections) in (1..).zip(ASVS) {
        for (section, count) in (1..).zip(*sections) {
            numbers.extend((1..=*count).map(|number| format!("{chapter}.{section}.{number}")));
        }
    }
    numbers
}

/// `docs/asvs.md` has each requirement once and in its place, names tests that exist, and counts right.
#[test]
fn every_requirement_of_the_asvs_has_its_answer() {
    let text = fs::read_to_string(root().join("docs/asvs.md")).expect("docs/asvs.md");
    let is_row =
        |line: &&str| line.strip_prefix("| ").is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    let rows: Vec<Vec<&str>> = text.lines().filter(is_row).map(|line| cells(line).collect()).collect();
    let numbers: Vec<&str> = rows.iter().map(|row| row[0]).collect();
    assert_eq!(numbers, requirements(), "docs/asvs.md and the standard differ");

    let known = all_tests();
    assert!(known.len() > 500, "only {} tests found: is the reader broken?", known.len());
    let mut faults = Vec::new();
    for row in &rows {
        let [number, asks, shown] = row[..] else { panic!("not three cells: {row:?}") };
        let is_name = |part: &str| part.starts_with('`') && part.ends_with('`') && part.contains("::");
        if asks.is_empty() || (shown.starts_with('`') && !shown.split(", ").all(is_name)) {
            faults.push(format!("{number}: not only tests"));
        }
        let named = shown.split('`').skip(1).step_by(2).filter(|name| name.contains("::"));
        faults.extend(named.filter(|name| !known.contains(*name)).map(|name| format!("{number}: no test {name}")));
    }
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));

    let count = |start: &str| rows.iter().filter(|row| row[2].starts_with(start)).count();
    let (shown, aside) = (count("`"), count("not applicable: "));
    let (missing, elsewhere) = (count("exception (missing)"), count("exception (elsewhere): "));
    let (untested, documented) = (count("exception (untested): "), count("exception (documented): "));
    let exceptions = missing + elsewhere + untested + documented;
    assert_eq!(shown + aside + exceptions, rows.len(), "a row of docs/asvs.md begins in no way that is known");
    let said = format!(
        "Of {} requirements {shown} are shown by tests, {aside} are not applicable, and {exceptions} are exceptions: \
         {missing} are missing in whole or in part, {elsewhere} are guarded elsewhere, {untested} are done but not tested, \
         {documented} are documented.",
        rows.len()
    );
    assert!(text.replace('\n', " ").contains(&said), "the head of docs/asvs.md should say:\n{said}");
}

/// Reads the names of security events off the source: what goes into the audit.
#[derive(Default)]
struct Audited(BTreeSet<String>);

impl<'ast> syn::visit::Visit<'ast> for Audited {
    fn visit_field_value(&mut self, field: &'ast syn::FieldValue) {
        if matches!(&field.member, syn::Member::Named(name) if name == "action") {
            Literals(&mut self.0).visit_expr(&field.expr);
        }
        syn::visit::visit_field_value(self, field);
    }

    fn visit_local(&mut self, local: &'ast syn::Local) {
        if matches!(&local.pat, syn::Pat::Ident(name) if name.ident == "action") {
            Literals(&mut self.0).visit_local(local);
        }
        syn::visit::visit_local(self, local);
    }

    fn visit_expr_call(&mut self, call: &'ast syn::ExprCall) {
        if let syn::Expr::Path(function) = &*call.func
            && let Some(last) = function.path.segments.last()
            && (last.ident == "note" || last.ident.to_string().starts_with("note_"))
        {
            call.args.iter().for_each(|argument| Literals(&mut self.0).visit_expr(argument));
        }
        syn::visit::visit_expr_call(self, call);
    }
}

/// Every literal that is the name of an event.
struct Literals<'a>(&'a mut BTreeSet<String>);

impl<'ast> syn::visit::Visit<'ast> for Literals<'_> {
    fn visit_lit_str(&mut self, text: &'ast syn::LitStr) {
        if is_event(&text.value()) {
            self.0.insert(text.value());
        }
    }
}

/// Words with dots between them.
fn is_event(text: &str) -> bool {
    text.contains('.')
        && text.split('.').all(|word| !word.is_empty() && word.chars().all(|c| c.is_ascii_lowercase() || c == '_'))
}

/// The quoted words after each mark that are names of events.
fn quoted(text: &str, marks: &[&str]) -> BTreeSet<String> {
    let after = marks.iter().flat_map(|mark| text.match_indices(mark).map(|(at, mark)| &text[at + mark.len()..]));
    after.filter_map(|rest| rest.split('"').next()).filter(|word| is_event(word)).map(str::to_owned).collect()
}

/// `SecondFactorAdded` as it is written: `second-factor-added`.
fn kebab(name: &str) -> String {
    name.chars().fold(String::new(), |mut text, letter| {
        if letter.is_ascii_uppercase() && !text.is_empty() {
            text.push('-');
        }
        text.push(letter.to_ascii_lowercase());
        text
    })
}

/// `docs/security.md` lists every event that is audited in a tenant, mailed to a person, or logged to be alerted on.
#[test]
fn every_security_event_is_in_the_inventory() {
    let mut files = Vec::new();
    rust_files(&root().join("src"), &mut files);
    let (mut audited, mut logged, mut mailed) = (Audited::default(), BTreeSet::new(), BTreeSet::new());
    for path in files {
        let text = fs::read_to_string(&path).expect("a readable source file");
        let file = syn::parse_file(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        if path.starts_with(root().join("src/tenant")) {
            audited.visit_file(&file);
        }
        logged.extend(quoted(&text, &["event = \""]));
        if path.ends_with("rest/problem.rs") {
            logged.extend(quoted(&text, &["=> Some(\""]));
        }
        let notices = file.items.iter().filter_map(|item| match item {
            syn::Item::Enum(found) if found.ident == "SecurityNotice" => Some(found),
            _ => None,
        });
        mailed.extend(notices.flat_map(|found| &found.variants).map(|variant| kebab(&variant.ident.to_string())));
    }
    assert!(audited.0.len() > 10 && logged.len() > 5 && mailed.len() > 10, "is the reader broken?");
    let mut known = BTreeSet::new();
    for (place, names) in [("audit", audited.0), ("log", logged), ("mail", mailed)] {
        known.extend(names.into_iter().map(|name| (name, place.to_owned())));
    }
    let text = fs::read_to_string(root().join("docs/security.md")).expect("docs/security.md");
    let (_, section) = text.split_once("## Security events").expect("the inventory");
    let rows = section.split("\n## ").next().unwrap_or_default().lines().filter(|line| line.starts_with("| `"));
    let listed: BTreeSet<(String, String)> = rows
        .map(|row| {
            let cells: Vec<&str> = cells(row).collect();
            assert!(cells.len() == 3 && !cells[2].is_empty(), "{row}");
            (cells[0].trim_matches('`').to_owned(), cells[1].to_owned())
        })
        .collect();
    let (missing, stale): (Vec<_>, Vec<_>) = (known.difference(&listed).collect(), listed.difference(&known).collect());
    assert!(missing.is_empty() && stale.is_empty(), "not in docs/security.md: {missing:#?}\nonly there: {stale:#?}");
}

#[test]
fn the_readers_see_what_they_look_for() {
    assert_eq!(links("see [a](docs/a.md#part), `[no](x)` and [b](b.md)"), ["docs/a.md#part", "b.md"]);
    assert_eq!(make_targets("make lint test ARGS=\"-- x\""), ["lint", "test"]);
    assert!(make_targets("cmake x").is_empty());
    assert_eq!(cells("| `a` | b c |").collect::<Vec<_>>(), ["`a`", "b c"]);
    let source = "#[actix_web::test] async fn a() {} fn b() {} mod tests { #[rstest] #[case(1)] fn c() {} }";
    let mut found = BTreeSet::new();
    tests_in(&syn::parse_file(source).unwrap().items, "x", &mut found);
    assert_eq!(found.into_iter().collect::<Vec<_>>(), ["x::a", "x::tests::c"]);
}
