//! What the files of a table are called: never as another table's, whatever the operator calls his, and on file systems
//! that do not tell `A` from `a` either.

use std::collections::HashSet;
use std::fmt::Write as _;

use crate::fleet::backup::contents::TableName;

/// A name longer than this is cut, so that a file system takes it with what follows.
const LONGEST: usize = 200;

/// The names that are taken in one export.
#[derive(Debug, Default)]
pub(super) struct Stems {
    taken: HashSet<String>,
}

impl Stems {
    /// A name for the files of a table, without what tells their form. Schema `public` goes without saying; what is no
    /// letter, digit, `_` or `-` of ASCII is percent-encoded. A name that is taken is numbered.
    pub(super) fn of(&mut self, table: &TableName) -> String {
        let mut stem = escaped(&table.name);
        if table.schema != "public" {
            stem = format!("{}.{stem}", escaped(&table.schema));
        }
        stem.truncate(LONGEST);
        let mut free = stem.clone();
        let mut number = 1;
        // No name has a `~` of its own.
        while !self.taken.insert(free.to_ascii_lowercase()) {
            number += 1;
            free = format!("{stem}~{number}");
        }
        free
    }
}

fn escaped(name: &str) -> String {
    let mut escaped = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-') {
            escaped.push(char::from(byte));
        } else {
            let _ = write!(escaped, "%{byte:02X}");
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stems(tables: &[(&str, &str)]) -> Vec<String> {
        let mut stems = Stems::default();
        let tables = tables.iter().map(|(schema, name)| TableName { schema: (*schema).into(), name: (*name).into() });
        tables.map(|table| stems.of(&table)).collect()
    }

    #[test]
    fn no_two_tables_have_one_name() {
        assert_eq!(stems(&[("public", "contacts"), ("books", "a-b_1")]), ["contacts", "books.a-b_1"]);
        assert_eq!(stems(&[("public", "a.b"), ("a", "b")]), ["a%2Eb", "a.b"]);
        assert_eq!(stems(&[("public", "x/y"), ("public", "x_y")]), ["x%2Fy", "x_y"]);
        assert_eq!(stems(&[("public", "x%2Fy"), ("public", "x/y"), ("public", "~")]), ["x%252Fy", "x%2Fy", "%7E"]);
        assert_eq!(
            stems(&[("public", "Users"), ("public", "users"), ("public", "USERS")]),
            ["Users", "users~2", "USERS~3"]
        );
        assert_eq!(stems(&[("public", ".."), ("public", "ü")]), ["%2E%2E", "%C3%BC"]);
    }

    #[test]
    fn a_long_name_is_cut_and_stays_one_table_s() {
        let (schema, one, other) = ("界".repeat(21), "界".repeat(21), format!("{}丌", "界".repeat(20)));
        let stems = stems(&[(schema.as_str(), one.as_str()), (schema.as_str(), other.as_str())]);
        assert_eq!((stems[0].len(), &stems[1]), (LONGEST, &format!("{}~2", stems[0])));
    }
}
