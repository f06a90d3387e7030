//! `docs/security.md`: what is noted, and where.

use std::collections::BTreeSet;
use std::fs;

use syn::visit::Visit as _;

use super::{cells, root};
use crate::arrows::rust_files;

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
