//! What a statement in words may say on a connection on which others are, or will be.

use super::migrate::statements::tokens;

/// What one may begin with where others read.
const READING: [&str; 6] = ["SELECT", "WITH", "VALUES", "TABLE", "SHOW", "EXPLAIN"];
/// What one may not begin with in a transaction: it ends it, or stays when it has ended.
const LASTING: [&str; 12] = [
    "BEGIN",
    "START",
    "COMMIT",
    "END",
    "ROLLBACK",
    "ABORT",
    "PREPARE",
    "DEALLOCATE",
    "LISTEN",
    "DISCARD",
    "RESET",
    "LOAD",
];
/// What may be set in a transaction: it ends with it.
const ENDING: [&str; 3] = ["LOCAL", "CONSTRAINTS", "TRANSACTION"];

fn is_of(word: &str, list: &[&str]) -> bool {
    list.iter().any(|known| word.eq_ignore_ascii_case(known))
}

/// Whether a statement only reads, and leaves the session as it found it. A comment at its head is none that is known.
pub(super) fn only_reads(statement: &str) -> bool {
    let said = statement.trim_start_matches(|c: char| c.is_ascii_whitespace() || c == ';');
    let first = said.split(|c: char| !c.is_ascii_alphabetic()).next().unwrap_or_default();
    said.is_empty() || said.starts_with('(') || is_of(first, &READING)
}

/// Whether a statement leaves the end of its transaction to whoever began it, and what it sets ends then too.
pub(super) fn stays_within(statement: &str) -> bool {
    // PostgreSQL passes over statements that are empty.
    let mut said = tokens(statement).skip_while(|token| *token == ";");
    let first = said.next().unwrap_or_default();
    if first.eq_ignore_ascii_case("SET") {
        return said.next().is_some_and(|what| is_of(what, &ENDING));
    }
    if first.eq_ignore_ascii_case("DECLARE") {
        // The cursor's name comes first, which may be this very word.
        let after = said.skip(1).skip_while(|token| !token.eq_ignore_ascii_case("CURSOR")).nth(1);
        return after.is_none_or(|with| !with.eq_ignore_ascii_case("WITH"));
    }
    !is_of(first, &LASTING)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::router::migrate::statements::statements;

    #[test]
    fn readers_only_read() {
        for words in
            ["SELECT 1", " select(1) ; show all;", "(VALUES (1))", "", "SELECT string_agg(name, '; ') FROM t; TABLE t"]
        {
            assert!(statements(words).into_iter().all(only_reads), "{words}");
        }
        assert!(only_reads("SELECT string_agg(name, '; ') FROM t"));
        for words in [
            "BEGIN",
            "SELECT 1; COMMIT",
            "/* SELECT */ SET x = 1",
            "INSERT INTO t VALUES (1)",
            "SELECT ';'; /* */ BEGIN",
            "SELECTED",
        ] {
            assert!(!statements(words).into_iter().all(only_reads), "{words}");
        }
        assert!(!only_reads(" ; COMMIT"), "PostgreSQL passes over what is empty");
    }

    #[test]
    fn a_transaction_keeps_to_itself() {
        for words in [
            "INSERT INTO t VALUES ('x; COMMIT')",
            "SET LOCAL lock_timeout = 1; set constraints all deferred; SET TRANSACTION READ ONLY",
            "DO $$ BEGIN NULL; END $$; LOCK TABLE t",
            "SELECT 1; -- COMMIT",
            r"SELECT E'a\'; end'",
            "SET /* for now */ LOCAL lock_timeout = 1",
            "DECLARE c CURSOR FOR WITH hold AS (TABLE t) TABLE hold; DECLARE d SCROLL CURSOR WITHOUT HOLD FOR TABLE t",
            "",
        ] {
            assert!(statements(words).into_iter().all(stays_within), "{words}");
        }
        for words in [
            "COMMIT",
            "SELECT 1; end",
            r"SELECT E'\''; COMMIT",
            "-- now\n/* at last */ rollback;",
            "SET search_path = x",
            "SET SESSION x = 1",
            "SET /* local */ search_path = x",
            "set",
            "PREPARE TRANSACTION 'x'",
            "LISTEN x",
            "LOAD 'auto_explain'",
            "DECLARE c CURSOR WITH HOLD FOR SELECT 1",
            "declare cursor binary cursor with/**/hold for select 1",
        ] {
            assert!(!statements(words).into_iter().all(stays_within), "{words}");
        }
        for words in ["; COMMIT", "; -- now\nCOMMIT", "/* */ ;; /* */ commit"] {
            assert!(!stays_within(words), "{words}");
        }
    }
}
