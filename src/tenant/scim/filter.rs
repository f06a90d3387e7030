//! Filters (RFC 7644, section 3.4.2.2), as a condition in SQL: what a client wrote is bound, never pasted.

use std::fmt::Write as _;

use chrono::{DateTime, Datelike as _, SecondsFormat, Timelike as _};

/// The longest filter, in bytes.
const LONGEST: usize = 2000;
/// How deep parentheses may go.
const DEEPEST: usize = 20;
/// Comparisons in one filter.
const MOST: usize = 50;

/// What stands for an attribute, by its name in lower case.
pub(super) type Column = fn(&str) -> Option<Attribute>;

/// How an attribute is compared.
#[derive(Debug, Clone, Copy)]
pub(super) enum Attribute {
    /// A text in SQL, compared without regard to case.
    Text(&'static str),
    /// The same, with a condition in SQL that an index answers for `eq`: `?` stands for what the function makes of the value.
    Keyed(&'static str, &'static str, fn(&str) -> String),
    /// A text in SQL, compared to the letter.
    Exact(&'static str),
    /// A truth in SQL.
    Truth(&'static str),
    /// A moment in SQL.
    Moment(&'static str),
    /// A condition in SQL with `?` where the value stands; for `eq` alone.
    Among(&'static str),
}

/// A condition with the values that it binds: the n-th is `($1)[n]`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Condition {
    pub sql: String,
    pub values: Vec<String>,
}

/// Reads a filter. `None` if it is none that can be answered.
pub(super) fn read(text: &str, column: Column) -> Option<Condition> {
    if text.len() > LONGEST || text.contains('\0') {
        return None;
    }
    let mut reader = Reader { rest: text, column, prefix: String::new(), found: Condition::default(), depth: 0 };
    reader.either()?;
    reader.skip();
    reader.rest.is_empty().then_some(reader.found)
}

struct Reader<'a> {
    rest: &'a str,
    column: Column,
    /// Of the attribute whose parts are being compared: `emails.`
    prefix: String,
    found: Condition,
    depth: usize,
}

impl<'a> Reader<'a> {
    fn skip(&mut self) {
        self.rest = self.rest.trim_start_matches(' ');
    }

    /// Takes a sign, if it comes next.
    fn sign(&mut self, sign: char) -> bool {
        self.skip();
        match self.rest.strip_prefix(sign) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    /// Takes a word, if it comes next.
    fn keyword(&mut self, wanted: &str) -> bool {
        self.skip();
        let end = self.rest.find([' ', '(']).unwrap_or(self.rest.len());
        let is = self.rest[..end].eq_ignore_ascii_case(wanted);
        if is {
            self.rest = &self.rest[end..];
        }
        is
    }

    fn word(&mut self) -> Option<&'a str> {
        self.skip();
        let end = self.rest.find([' ', '(', ')', '[', ']', '"']).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        (!word.is_empty()).then_some(word)
    }

    fn either(&mut self) -> Option<()> {
        self.found.sql.push('(');
        self.both()?;
        while self.keyword("or") {
            self.found.sql.push_str(" OR ");
            self.both()?;
        }
        self.found.sql.push(')');
        Some(())
    }

    fn both(&mut self) -> Option<()> {
        self.one()?;
        while self.keyword("and") {
            self.found.sql.push_str(" AND ");
            self.one()?;
        }
        Some(())
    }

    fn one(&mut self) -> Option<()> {
        if self.keyword("not") {
            self.found.sql.push_str("NOT ");
            return self.rest.trim_start().starts_with('(').then(|| self.one())?;
        }
        if self.sign('(') {
            return self.nested(')');
        }
        self.comparison()
    }

    fn nested(&mut self, end: char) -> Option<()> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return None;
        }
        self.either()?;
        self.depth -= 1;
        self.sign(end).then_some(())
    }

    fn comparison(&mut self) -> Option<()> {
        let name = attribute_name(self.word()?);
        if self.prefix.is_empty() && self.rest.starts_with('[') {
            self.rest = &self.rest[1..];
            self.prefix = format!("{name}.");
            self.nested(']')?;
            self.prefix.clear();
            return Some(());
        }
        let attribute = (self.column)(&format!("{}{name}", self.prefix))?;
        let how = self.word()?.to_lowercase();
        if how == "pr" {
            let (Attribute::Text(sql)
            | Attribute::Keyed(sql, ..)
            | Attribute::Exact(sql)
            | Attribute::Truth(sql)
            | Attribute::Moment(sql)) = attribute
            else {
                return None;
            };
            write!(self.found.sql, "{sql} IS NOT NULL").ok()?;
            return Some(());
        }
        let value = self.value()?;
        if self.found.values.len() == MOST {
            return None;
        }
        // PostgreSQL has no text with it.
        if value.text.contains('\0') {
            return None;
        }
        self.found.values.push(value.text);
        let bound = format!("($1)[{}]", self.found.values.len());
        let condition = match (attribute, how.as_str()) {
            (Attribute::Among(sql), "eq") if value.quoted => sql.replace('?', &bound),
            (Attribute::Truth(sql), "eq" | "ne")
                if self.found.values.last().is_some_and(|v| v == "true" || v == "false") =>
            {
                format!("({sql}) {} ({bound} = 'true')", if how == "eq" { "=" } else { "<>" })
            }
            (Attribute::Moment(sql), _) if value.quoted => {
                let said = self.found.values.last_mut()?;
                *said = moment(said)?;
                format!("{sql} {} {bound}::timestamptz", order(&how)?)
            }
            (Attribute::Keyed(_, sql, key), "eq") if value.quoted => {
                let said = self.found.values.last_mut()?;
                *said = key(said);
                sql.replace('?', &bound)
            }
            (Attribute::Text(sql) | Attribute::Keyed(sql, ..), how) if value.quoted => {
                compared(&format!("lower({sql})"), how, &format!("lower({bound})"))?
            }
            (Attribute::Exact(sql), how) if value.quoted => compared(sql, how, &bound)?,
            _ => return None,
        };
        self.found.sql.push_str(&condition);
        Some(())
    }

    fn value(&mut self) -> Option<Value> {
        self.skip();
        if !self.rest.starts_with('"') {
            return Some(Value { text: self.word()?.to_lowercase(), quoted: false });
        }
        let mut values = serde_json::Deserializer::from_str(self.rest).into_iter::<String>();
        let text = values.next()?.ok()?;
        self.rest = &self.rest[values.byte_offset()..];
        Some(Value { text, quoted: true })
    }
}

/// A moment as PostgreSQL reads it without fail: it knows neither leap seconds nor offsets as wide as RFC 3339 does, and writes
/// years before the first in another way.
fn moment(text: &str) -> Option<String> {
    let moment = DateTime::parse_from_rfc3339(text).ok()?.to_utc();
    let years = (1..=9999).contains(&moment.year());
    // A leap second is counted as a further fraction of the one before.
    let moment = moment.with_nanosecond(moment.nanosecond().min(999_999_999))?;
    years.then(|| moment.to_rfc3339_opts(SecondsFormat::Micros, true))
}

struct Value {
    text: String,
    quoted: bool,
}

/// An attribute's name in lower case, without the schema in front of it.
pub(super) fn attribute_name(text: &str) -> String {
    let text = text.to_lowercase();
    match text.strip_prefix("urn:") {
        Some(_) => text.rsplit_once(':').map_or(text.clone(), |(_, name)| name.to_owned()),
        None => text,
    }
}

fn order(how: &str) -> Option<&'static str> {
    Some(match how {
        "eq" => "=",
        "ne" => "<>",
        "gt" => ">",
        "ge" => ">=",
        "lt" => "<",
        "le" => "<=",
        _ => return None,
    })
}

fn compared(sql: &str, how: &str, bound: &str) -> Option<String> {
    Some(match how {
        "ne" => format!("{sql} IS DISTINCT FROM {bound}"),
        "co" => format!("position({bound} in {sql}) > 0"),
        "sw" => format!("starts_with({sql}, {bound})"),
        "ew" => format!("right({sql}, length({bound})) = {bound}"),
        other => format!("{sql} {} {bound}", order(other)?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(name: &str) -> Option<Attribute> {
        Some(match name {
            "username" => Attribute::Text("n"),
            "externalid" => Attribute::Exact("e"),
            "active" => Attribute::Truth("a"),
            "meta.lastmodified" => Attribute::Moment("m"),
            "emails.value" => Attribute::Text("v"),
            "emails.type" => Attribute::Exact("'work'"),
            "emails" => Attribute::Keyed("v", "k = ?", str::to_lowercase),
            "members.value" => Attribute::Among("? IN (x)"),
            _ => return None,
        })
    }

    fn read_all(text: &str) -> Option<(String, Vec<String>)> {
        read(text, column).map(|condition| (condition.sql, condition.values))
    }

    #[test]
    fn filters_become_conditions() {
        for (filter, sql, values) in [
            (r#"userName eq "Ada""#, "(lower(n) = lower(($1)[1]))", &["Ada"][..]),
            (r#"userName Eq "a\"b""#, "(lower(n) = lower(($1)[1]))", &["a\"b"]),
            (r#"externalId ne "x""#, "(e IS DISTINCT FROM ($1)[1])", &["x"]),
            (
                r#"userName co "x" and active eq true"#,
                "(position(lower(($1)[1]) in lower(n)) > 0 AND (a) = (($1)[2] = 'true'))",
                &["x", "true"],
            ),
            (
                r#"userName sw "x" or (externalId pr)"#,
                "(starts_with(lower(n), lower(($1)[1])) OR (e IS NOT NULL))",
                &["x"],
            ),
            (r#"not (active eq False)"#, "(NOT ((a) = (($1)[1] = 'true')))", &["false"]),
            // Some directories quote it.
            (r#"active eq "true""#, "((a) = (($1)[1] = 'true'))", &["true"]),
            (
                r#"emails[type eq "work" and value eq "x"]"#,
                "(('work' = ($1)[1] AND lower(v) = lower(($1)[2])))",
                &["work", "x"],
            ),
            (r#"urn:ietf:params:scim:schemas:core:2.0:User:userName eq "x""#, "(lower(n) = lower(($1)[1]))", &["x"]),
            (r#"members.value eq "1""#, "(($1)[1] IN (x))", &["1"]),
            (r#"emails eq "Ada""#, "(k = ($1)[1])", &["ada"]),
            (
                r#"emails ne "Ada" and emails pr"#,
                "(lower(v) IS DISTINCT FROM lower(($1)[1]) AND v IS NOT NULL)",
                &["Ada"],
            ),
            (
                r#"meta.lastModified gt "2026-01-01T00:00:00Z""#,
                "(m > ($1)[1]::timestamptz)",
                &["2026-01-01T00:00:00.000000Z"],
            ),
            (
                r#"meta.lastModified lt "2026-01-01T00:00:00+23:59""#,
                "(m < ($1)[1]::timestamptz)",
                &["2025-12-31T00:01:00.000000Z"],
            ),
            (
                r#"meta.lastModified le "2016-12-31T23:59:60Z""#,
                "(m <= ($1)[1]::timestamptz)",
                &["2016-12-31T23:59:59.999999Z"],
            ),
        ] {
            let (said, bound) = read_all(filter).unwrap_or_else(|| panic!("{filter}"));
            assert_eq!((said.as_str(), &bound), (sql, &values.iter().map(|&v| v.to_owned()).collect()), "{filter}");
        }
    }

    #[test]
    fn what_is_no_filter_is_none() {
        let deep = format!("{}active eq true{}", "(".repeat(30), ")".repeat(30));
        let wide = vec!["active eq true"; 60].join(" or ");
        for bad in [
            "",
            "userName",
            "userName eq",
            "userName eq x",
            "password eq \"x\"",
            "userName eq \"x",
            "(active eq true",
            "active eq true)",
            "active gt true",
            "userName xx \"a\"",
            "userName eq \"a\" userName",
            "emails[type eq \"work\"",
            "not active eq true",
            "meta.lastModified gt \"x\"",
            "meta.lastModified gt \"0000-06-01T00:00:00Z\"",
            "meta.lastModified gt \"0001-01-01T00:00:00+23:00\"",
            "meta.lastModified gt \"9999-12-31T23:59:59-23:00\"",
            "userName eq \"a\\u0000b\"",
            "emails[value sw \"\\u0000\"]",
            "active eq maybe",
            "emails eq true",
            "userName eq \"a\" or",
            "1=1; DROP TABLE users",
            &deep,
            &wide,
            &"x".repeat(3000),
        ] {
            assert_eq!(read_all(bad), None, "{bad}");
        }
    }
}
