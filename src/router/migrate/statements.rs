//! A file's statements one by one, for those that run outside of a transaction.

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

/// The text without the white space and the comments that it begins with.
pub(in crate::router) fn past_blanks(mut text: &str) -> &str {
    loop {
        text = text.trim_start_matches([' ', '\t', '\n', '\r', '\x0b', '\x0c']);
        if !text.starts_with("--") && !text.starts_with("/*") {
            return text;
        }
        text = &text[skipped(text)..];
    }
}

/// How many bytes belong to what begins here: a quoted text, a comment, or one character. What is not closed goes to the
/// end: the server says what is wrong with it.
fn skipped(rest: &str) -> usize {
    let until = |end: &str, from: usize| rest[from..].find(end).map_or(rest.len(), |at| from + at + end.len());
    match rest.as_bytes()[0] {
        quote @ (b'\'' | b'"') => until(if quote == b'"' { "\"" } else { "'" }, 1),
        b'-' if rest.starts_with("--") => until("\n", 2),
        b'/' if rest.starts_with("/*") => comment(rest),
        b'$' => match rest[1..].find('$') {
            Some(end) if rest[1..=end].bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b >= 0x80) => {
                until(&rest[..end + 2], end + 2)
            }
            _ => 1,
        },
        _ => rest.chars().next().map_or(1, char::len_utf8),
    }
}

/// Comments of this kind hold one another.
fn comment(rest: &str) -> usize {
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
                return at;
            }
        } else {
            at += 1;
        }
    }
    rest.len()
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
    }
}
