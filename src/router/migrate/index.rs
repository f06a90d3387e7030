//! Which index a statement makes, read as the server reads it.

use std::fmt::Write as _;

use super::statements::past_blanks;

/// The server cuts names to so many bytes.
const LONGEST: usize = 63;

/// The index that a `CREATE INDEX CONCURRENTLY` makes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NewIndex {
    /// As the catalogue has it. It is in the schema of its table.
    pub(super) name: String,
    /// Quoted, with its schema if the statement has one.
    pub(super) table: String,
    pub(super) unique: bool,
    /// Its key, where that is plain columns: of anything else the catalogue has another spelling.
    pub(super) columns: Option<Vec<String>>,
}

impl NewIndex {
    /// What a statement makes; `None` if that is no index, is not made concurrently, or has no plain name.
    pub(super) fn of(statement: &str) -> Option<Self> {
        let mut words = Words(statement);
        if !words.take("create") {
            return None;
        }
        let unique = words.take("unique");
        if !(words.take("index") && words.take("concurrently")) {
            return None;
        }
        words.index(unique)
    }
}

/// What is left of a statement.
#[derive(Clone, Copy)]
struct Words<'s>(&'s str);

impl Words<'_> {
    /// From behind `CONCURRENTLY`.
    fn index(mut self, unique: bool) -> Option<NewIndex> {
        let mut ahead = self;
        // `if` alone may be a name.
        if ahead.take("if") && ahead.take("not") && ahead.take("exists") {
            self = ahead;
        }
        if self.take("on") {
            return None;
        }
        let name = self.name()?;
        if !self.take("on") {
            return None;
        }
        self.take("only");
        self.sign('(');
        let mut table = quoted(&self.name()?);
        while self.sign('.') {
            let _ = write!(table, ".{}", quoted(&self.name()?));
        }
        self.sign(')');
        Some(NewIndex { name, table, unique, columns: self.columns() })
    }

    /// From behind the table. None for expressions, and for columns with a collation, an order or an operator class.
    fn columns(mut self) -> Option<Vec<String>> {
        if self.take("using") {
            self.name()?;
        }
        if !self.sign('(') {
            return None;
        }
        let mut columns = vec![self.name()?];
        while self.sign(',') {
            columns.push(self.name()?);
        }
        self.sign(')').then_some(columns)
    }

    /// Goes past a keyword, if it comes next.
    fn take(&mut self, keyword: &str) -> bool {
        let mut ahead = *self;
        let is_next = ahead.word().is_some_and(|word| word == keyword);
        if is_next {
            *self = ahead;
        }
        is_next
    }

    /// Goes past a sign, if it comes next.
    fn sign(&mut self, sign: char) -> bool {
        let rest = past_blanks(self.0).strip_prefix(sign);
        self.0 = rest.unwrap_or(self.0);
        rest.is_some()
    }

    /// A name as the catalogue has it.
    fn name(&mut self) -> Option<String> {
        let Some(mut rest) = past_blanks(self.0).strip_prefix('"') else { return self.word().map(cut) };
        let mut name = String::new();
        loop {
            let (part, after) = rest.split_once('"')?;
            name.push_str(part);
            let Some(more) = after.strip_prefix('"') else {
                self.0 = after;
                return Some(cut(name));
            };
            name.push('"');
            rest = more;
        }
    }

    /// A word without quotes, folded as the server does in UTF-8. `U&"…"`, which has escapes of its own, is none.
    fn word(&mut self) -> Option<String> {
        let text = past_blanks(self.0);
        let begins = |c: char| c.is_ascii_alphabetic() || c == '_' || !c.is_ascii();
        let goes_on = |c: char| begins(c) || c.is_ascii_digit() || c == '$';
        let (word, rest) = text.split_at(text.find(|c: char| !goes_on(c)).unwrap_or(text.len()));
        if !word.starts_with(begins) || rest.starts_with("&\"") {
            return None;
        }
        self.0 = rest;
        Some(word.to_ascii_lowercase())
    }
}

fn cut(mut name: String) -> String {
    let end = name.floor_char_boundary(LONGEST);
    name.truncate(end);
    name
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(statement: &str) -> (String, String, bool) {
        let index = NewIndex::of(statement).unwrap();
        (index.name, index.table, index.unique)
    }

    #[test]
    fn names_are_those_of_the_catalogue() {
        let is = |name: &str, table: &str, unique| (name.to_owned(), table.to_owned(), unique);
        let said = read("CREATE UNIQUE INDEX CONCURRENTLY Contacts_By_Mail ON Contacts (mail)");
        assert_eq!(said, is("contacts_by_mail", "\"contacts\"", true));
        let said = read("-- why\ncreate index/* at /* once */ */concurrently\n if not exists i$1 on only s.T(a)");
        assert_eq!(said, is("i$1", "\"s\".\"t\"", false));
        let said = read("CREATE INDEX CONCURRENTLY\"By \"\"Mail\"ON\"S\" . \"T\"\"x\" USING btree (a)");
        assert_eq!(said, is("By \"Mail", "\"S\".\"T\"\"x\"", false));
        assert_eq!(read("CREATE INDEX CONCURRENTLY if ON ONLY (t) (a)"), is("if", "\"t\"", false));
        assert_eq!(read("CREATE INDEX CONCURRENTLY Äh ON t (a)"), is("Äh", "\"t\"", false));
    }

    #[test]
    fn a_key_is_read_where_it_is_plain_columns() {
        let key = |rest: &str| NewIndex::of(&format!("CREATE INDEX CONCURRENTLY i ON {rest}")).unwrap().columns;
        let is = |columns: &[&str]| Some(columns.iter().map(|&column| column.to_owned()).collect::<Vec<_>>());
        assert_eq!(key("t (Title)"), is(&["title"]));
        assert_eq!(key("ONLY (s.t) USING btree (id,/* and */ \"By, you\")\nINCLUDE (b)"), is(&["id", "By, you"]));
        assert_eq!(key("t (a) WHERE (b) IS NULL"), is(&["a"]));
        for other in ["(lower(a))", "(a DESC)", "(a, b text_pattern_ops)", "((a || b))", "(a COLLATE \"C\")", "(a", ""]
        {
            assert_eq!(key(&format!("t {other}")), None, "{other}");
        }
    }

    #[test]
    fn long_names_are_cut_at_a_character() {
        let name = |name: &str| read(&format!("CREATE INDEX CONCURRENTLY {name} ON t (a)")).0;
        assert_eq!(name(&"X".repeat(70)), "x".repeat(63));
        assert_eq!(name(&format!("\"{}üü\"", "X".repeat(62))), "X".repeat(62));
        assert_eq!(name(&format!("{}ü", "x".repeat(61))), format!("{}ü", "x".repeat(61)));
    }

    #[test]
    fn what_has_no_plain_name_cannot_be_looked_for() {
        let unnamed = ["ON t (a)", "", "IF NOT EXISTS ON t (a)", "U&\"i\" ON t (a)", "\"open ON t (a)", "i (a)"];
        for rest in unnamed {
            assert_eq!(NewIndex::of(&format!("CREATE INDEX CONCURRENTLY {rest}")), None, "{rest}");
        }
        for other in
            ["CREATE TABLE t (a int)", "CREATE INDEX ON t (a)", "DROP INDEX CONCURRENTLY i", "", "\"create\" x"]
        {
            assert_eq!(NewIndex::of(other), None, "{other}");
        }
    }
}
