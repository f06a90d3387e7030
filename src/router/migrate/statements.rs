//! A file's statements one by one, for those that run outside of a transaction.

use std::iter;

/// Splits at the semicolons that are not within quotes, dollar quotes or comments. Statements of comments alone are
/// left out.
pub(in crate::router) fn statements(sql: &str) -> Vec<&str> {
    let bytes = sql.as_bytes();
    let (mut found, mut start, mut at, mut says_something) = (Vec::new(), 0, 0, false);
    while at < bytes.len() {
        let rest = &sql[at..];
        let skipped = skipped(rest);
        match bytes[at] {
            b';' => {
                if says_something {
                    found.push(sql[start..at].trim());
                }
                (start, says_something) = (at + 1, false);
            }
            byte if !byte.is_ascii_whitespace() => says_something |= !rest.starts_with("--") && !rest.starts_with("/*"),
            _ => {}
        }
        at += skipped;
    }
    if says_something {
        found.push(sql[start..].trim());
    }
    found
}

/// What a text consists of, without white space and comments: words, quoted texts, and characters that stand alone.
pub(in crate::router) fn tokens(mut text: &str) -> impl Iterator<Item = &str> {
    iter::from_fn(move || {
        text = past_blanks(text);
        if text.is_empty() {
            return None;
        }
        let (token, rest) = text.split_at(skipped(text));
        text = rest;
        Some(token)
    })
}

/// The text without the white space and the comments that it begins with.
pub(super) fn past_blanks(mut text: &str) -> &str {
    loop {
        text = text.trim_start_matches([' ', '\t', '\n', '\r', '\x0b', '\x0c']);
        if !text.starts_with("--") && !text.starts_with("/*") {
            return text;
        }
        text = &text[skipped(text)..];
    }
}

/// Where a quoted text or a comment begins that nothing closes.
pub(super) fn unclosed(sql: &str) -> Option<usize> {
    let mut at = 0;
    while at < sql.len() {
        let Some(length) = closed(&sql[at..]) else { return Some(at) };
        at += length;
    }
    None
}

/// How many bytes belong to what begins here. What is not closed goes to the end: the server says what is wrong with it.
fn skipped(rest: &str) -> usize {
    closed(rest).unwrap_or(rest.len())
}

/// How many bytes belong to what begins here: a quoted text, a comment, a word, or one character. None if it is not closed.
fn closed(rest: &str) -> Option<usize> {
    let until = |end: &str, from: usize| rest[from..].find(end).map(|at| from + at + end.len());
    match rest.as_bytes()[0] {
        quote @ (b'\'' | b'"') => until(if quote == b'"' { "\"" } else { "'" }, 1),
        b'-' if rest.starts_with("--") => Some(rest.find(['\n', '\r']).map_or(rest.len(), |at| at + 1)),
        b'/' if rest.starts_with("/*") => comment(rest),
        b'$' => match rest[1..].find('$') {
            Some(end) if rest[1..=end].bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b >= 0x80) => {
                until(&rest[..end + 2], end + 2)
            }
            _ => Some(1),
        },
        b'e' | b'E' if rest[1..].starts_with('\'') => escaped(rest),
        // Whole, since an E or a $ within it begins nothing.
        byte if is_of_word(byte) && !byte.is_ascii_digit() => {
            Some(rest.bytes().position(|b| !is_of_word(b) && b != b'$').unwrap_or(rest.len()))
        }
        _ => Some(1),
    }
}

const fn is_of_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

/// A text of the kind `E'…'`, in which a backslash takes what follows along. What is quoted on a line further on, with
/// nothing in between, belongs to it.
fn escaped(rest: &str) -> Option<usize> {
    let (bytes, mut at) = (rest.as_bytes(), 2);
    while at < bytes.len() {
        at += match bytes[at] {
            b'\\' => 2,
            b'\'' => {
                let after = past_blanks(&rest[at + 1..]);
                let blanks = &rest[at + 1..rest.len() - after.len()];
                if !after.starts_with('\'') || !(blanks.is_empty() || blanks.contains(['\n', '\r'])) {
                    return Some(at + 1);
                }
                blanks.len() + 2
            }
            _ => 1,
        };
    }
    None
}

/// Comments of this kind hold one another.
fn comment(rest: &str) -> Option<usize> {
    let (mut depth, mut at) = (0_u32, 0);
    while at < rest.len() {
        let here = &rest.as_bytes()[at..];
        if here.starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if here.starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return Some(at);
            }
        } else {
            at += 1;
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_at_semicolons_outside_of_quotes_and_comments() {
        let sql = "-- first; of all\nSELECT 'a;b' || \"c;d\"; /* x; /* y */ ; */ SELECT $f$ ; $$ $f$;;\n\
                   DO $$ BEGIN NULL; END $$;\n-- the end";
        let found = statements(sql);
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(found[0].ends_with("\"c;d\"") && found[1].ends_with("$f$") && found[2].starts_with("DO $$"));
        assert_eq!(statements("SELECT $1; SELECT 'ü''s;'"), ["SELECT $1", "SELECT 'ü''s;'"]);
        assert_eq!(statements("SELECT 'open"), ["SELECT 'open"]);
        assert!(statements(" ;\n-- nothing\n").is_empty());
        assert_eq!(statements("SELECT 1 AS é$x$; -- a\rCOMMIT; SELECT $é$;$é$").len(), 3);
    }

    #[test]
    fn what_nothing_closes_is_found_where_it_begins() {
        for whole in ["", "SELECT 'it''s', E'\\'', \"a\"\"b\", $f$ ' $f$ /* /* ' */ */ -- it's", "SELECT $1 - 'ü'"] {
            assert_eq!(unclosed(whole), None, "{whole}");
        }
        for open in ["'a", "'", "\"a", "$f$ $$", "E'\\'", "E'a\\", "/* /* */"] {
            assert_eq!(unclosed(&format!("SELECT 'ü'; {open}")), Some(13), "{open}");
        }
    }

    #[test]
    fn tokens_are_what_is_said() {
        let sql = "; -- now\nSET/* x */lock_timeout='1 s'--";
        assert_eq!(tokens(sql).collect::<Vec<_>>(), [";", "SET", "lock_timeout", "=", "'1 s'"]);
    }

    #[test]
    fn a_backslash_takes_a_quote_along_where_postgresql_says_so() {
        for sql in [r"SELECT E'a\'; end'", r"SELECT e'\\''; ü\'; end'", "SELECT E'a' -- b\n '\\'; end'"] {
            assert_eq!(statements(sql), [sql]);
        }
        for sql in
            [r"SELECT E'\''; COMMIT", r"SELECT E'\\'; COMMIT", r"SELECT type'\'; COMMIT", r"SELECT E'' '\'; COMMIT"]
        {
            assert_eq!(statements(sql).len(), 2, "{sql}");
        }
    }
}
