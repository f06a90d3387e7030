//! `docs/asvs.md`: what OWASP asks for, and the tests that show it.

use std::collections::BTreeSet;
use std::fs;

use super::{cells, root};
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

#[test]
fn tests_are_found_in_modules_too() {
    let source = "#[actix_web::test] async fn a() {} fn b() {} mod tests { #[rstest] #[case(1)] fn c() {} }";
    let mut found = BTreeSet::new();
    tests_in(&syn::parse_file(source).unwrap().items, "x", &mut found);
    assert_eq!(found.into_iter().collect::<Vec<_>>(), ["x::a", "x::tests::c"]);
}
