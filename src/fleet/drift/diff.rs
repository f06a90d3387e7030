//! Two catalogs, and what is between them.

use std::fmt;

use serde::Serialize;

use super::catalog::Catalog;
use crate::router::tenant::words;

/// The most of a value that a line shows, in characters.
const SHOWN: usize = 160;

words! {
    /// How an object differs from what the migrations make.
    DriftKind {
        /// The migrations do not make it.
        Extra = "extra",
        /// The migrations make it, and it is not there.
        Missing = "missing",
        /// It is there, and is another.
        Differs = "differs",
    }
}

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Difference {
    /// In which way.
    pub kind: DriftKind,
    /// Kind and name: `table public.users`, `column public.users.email`.
    pub object: String,
    /// What of it, where it differs: `type`, `definition`, `grants to everybody`.
    pub aspect: Option<String>,
    /// What the migrations make of it.
    pub expected: Option<String>,
    /// What it is.
    pub found: Option<String>,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let object = &self.object;
        let none = "nothing".to_owned();
        let (expected, found) = (self.expected.as_ref().unwrap_or(&none), self.found.as_ref().unwrap_or(&none));
        match (self.kind, &self.aspect) {
            (DriftKind::Extra, _) => write!(f, "+ {object}"),
            (DriftKind::Missing, _) => write!(f, "- {object}"),
            (DriftKind::Differs, aspect) => {
                let aspect = aspect.as_deref().unwrap_or("is");
                let [expected, found] = apart(expected, found);
                write!(f, "~ {object} {aspect}: expected {expected}, found {found}")
            }
        }
    }
}

/// Both on one line, from where they begin to differ if they are long.
fn apart(expected: &str, found: &str) -> [String; 2] {
    let lines = [expected, found].map(|text| text.split_whitespace().collect::<Vec<_>>().join(" "));
    let same = lines[0].chars().zip(lines[1].chars()).take_while(|(a, b)| a == b).count();
    let longest = lines[0].chars().count().max(lines[1].chars().count());
    let from = if longest > SHOWN { same.saturating_sub(SHOWN / 4) } else { 0 };
    lines.map(|line| {
        if line.is_empty() {
            return "nothing".to_owned();
        }
        let shown: String = line.chars().skip(from).take(SHOWN).collect();
        let (before, after) =
            (if from > 0 { "…" } else { "" }, if line.chars().count() > from + SHOWN { "…" } else { "" });
        format!("{before}{shown}{after}")
    })
}

/// What of `found` is not as in `expected`. Of an object that is missing or extra, its parts are not told apart.
pub(super) fn differences(expected: &Catalog, found: &Catalog) -> Vec<Difference> {
    let mut all = Vec::new();
    for (name, object) in &found.0 {
        if expected.0.contains_key(name) || is_part_of_a_difference(found, expected, &object.part_of) {
            continue;
        }
        all.push(whole(DriftKind::Extra, name));
    }
    for (name, object) in &expected.0 {
        let Some(there) = found.0.get(name) else {
            if !is_part_of_a_difference(expected, found, &object.part_of) {
                all.push(whole(DriftKind::Missing, name));
            }
            continue;
        };
        let aspects =
            object.aspects.keys().chain(there.aspects.keys().filter(|key| !object.aspects.contains_key(*key)));
        for aspect in aspects {
            let (expected, found) = (object.aspects.get(aspect), there.aspects.get(aspect));
            if expected != found {
                all.push(Difference {
                    kind: DriftKind::Differs,
                    object: name.clone(),
                    aspect: Some(aspect.clone()),
                    expected: expected.cloned(),
                    found: found.cloned(),
                });
            }
        }
    }
    all.sort_by(|a, b| (&a.object, &a.aspect).cmp(&(&b.object, &b.aspect)));
    all
}

fn whole(kind: DriftKind, object: &str) -> Difference {
    Difference { kind, object: object.to_owned(), aspect: None, expected: None, found: None }
}

/// Whether the object that it is part of is in the one catalog only.
fn is_part_of_a_difference(here: &Catalog, there: &Catalog, part_of: &str) -> bool {
    here.0.contains_key(part_of) && !there.0.contains_key(part_of)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn catalog(facts: &[(&str, &str, &str, &str)]) -> Catalog {
        let mut catalog = Catalog::default();
        facts.iter().for_each(|(object, part_of, aspect, value)| catalog.say(object, part_of, aspect, value));
        catalog
    }

    fn lines(expected: &Catalog, found: &Catalog) -> Vec<String> {
        differences(expected, found).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn each_difference_is_a_line() {
        let expected = catalog(&[
            ("table public.users", "", "owner", "its role"),
            ("column public.users.email", "table public.users", "type", "text"),
            ("table public.gone", "", "owner", "its role"),
            ("column public.gone.id", "table public.gone", "type", "uuid"),
        ]);
        let found = catalog(&[
            ("table public.users", "", "owner", "its role"),
            ("table public.users", "", "grants to everybody", "SELECT"),
            ("column public.users.email", "table public.users", "type", "varchar(10)"),
            ("column public.users.age", "table public.users", "type", "integer"),
            ("table public.mine", "", "owner", "its role"),
            ("column public.mine.id", "table public.mine", "type", "uuid"),
        ]);
        assert_eq!(
            lines(&expected, &found),
            [
                "+ column public.users.age",
                "~ column public.users.email type: expected text, found varchar(10)",
                "- table public.gone",
                "+ table public.mine",
                "~ table public.users grants to everybody: expected nothing, found SELECT",
            ]
        );
        assert!(lines(&found, &found).is_empty());
    }

    #[test]
    fn long_definitions_are_shown_from_where_they_differ() {
        let [long, other] = ["x", "y"].map(|end| format!("{}\n  {end}", "word ".repeat(100)));
        let [a, b] = apart(&long, &other);
        assert!(a.starts_with('…') && a.ends_with('x') && b.ends_with('y') && a.chars().count() < 200, "{a} {b}");
    }
}
