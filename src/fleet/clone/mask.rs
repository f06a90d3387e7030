//! Rules that take personal data out of a copy.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::marker::PhantomData;

use diesel_async::SimpleAsyncConnection;
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserializer, MapAccess, Unexpected, Visitor};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::error::{ApiError, ApiResult};
use crate::fleet::backup::contents::TableName;
use crate::fleet::{admin, refused, sql};
use crate::kernel::crypto::{hex, random};
use crate::router::AdminConn;
use crate::router::tenant::words;

/// The rules for the built-in schema.
const DEFAULT: &str = include_str!("../../../config/mask.toml");

words! {
    /// What becomes of a column's values.
    Rule {
        /// Nothing is left.
        Null = "null",
        /// An empty text, list or object.
        Empty = "empty",
        /// An address at example.invalid.
        Email = "email",
        /// A made-up name.
        Name = "name",
        /// A made-up number.
        Phone = "phone",
        /// Made-up text.
        Text = "text",
        /// A digest.
        Hash = "hash",
        /// In a list of `{label, value}`: every value.
        Values = "values",
    }
}

/// What becomes of a table as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
enum WholeTable {
    /// No row is left.
    #[serde(rename = "remove")]
    Remove,
}

/// What becomes of a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(untagged)]
enum TableRule {
    /// All of it.
    Whole(WholeTable),
    /// Its columns, by their names.
    Columns(BTreeMap<String, Rule>),
}

/// The rules, by table: `contacts`, or `"schema.table"`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Mask(BTreeMap<String, TableRule>);

impl<'de> Deserialize<'de> for Mask {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Distinct::deserialize(from).map(|Distinct(tables)| Self(tables))
    }
}

/// Rules that have a name.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum NamedMask {
    /// Those for the built-in schema.
    Default,
}

/// Which rules: those of a name, or one's own.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(untagged)]
pub enum MaskChoice {
    /// Those of a name.
    Named(NamedMask),
    /// One's own, by table.
    Own(Mask),
}

impl From<MaskChoice> for Mask {
    fn from(choice: MaskChoice) -> Self {
        match choice {
            MaskChoice::Named(NamedMask::Default) => Self::built_in(),
            MaskChoice::Own(own) => own,
        }
    }
}

impl<'de> Deserialize<'de> for MaskChoice {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let own = WordOr::read(from, "default", "\"default\", or rules by table")?;
        Ok(own.map_or(Self::Named(NamedMask::Default), |Distinct(own)| Self::Own(Mask(own))))
    }
}

impl<'de> Deserialize<'de> for TableRule {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let columns: Option<Distinct<Written>> = WordOr::read(from, "remove", "\"remove\", or rules by column")?;
        Ok(columns.map_or(Self::Whole(WholeTable::Remove), |Distinct(columns)| {
            Self::Columns(columns.into_iter().map(|(column, Written(rule))| (column, rule)).collect())
        }))
    }
}

/// A rule by its word. Where an enum is wanted, to serde_json a null is no JSON at all.
struct Written(Rule);

impl<'de> Deserialize<'de> for Written {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse::<Rule>().map(Self).map_err(|_| {
            let words = format!("one of {}", kinds());
            de::Error::invalid_value(Unexpected::Other("another word"), &words.as_str())
        })
    }
}

/// What a column's rule can be.
fn kinds() -> String {
    Rule::ALL.iter().map(|rule| rule.as_str()).collect::<Vec<_>>().join(", ")
}

/// Members, none of them twice: of two rules for one place, one would be lost, and what it was for be left as it is.
struct Distinct<V>(BTreeMap<String, V>);

impl<'de, V: Deserialize<'de>> Deserialize<'de> for Distinct<V> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_map(DistinctVisitor(PhantomData))
    }
}

struct DistinctVisitor<V>(PhantomData<V>);

impl<'de, V: Deserialize<'de>> Visitor<'de> for DistinctVisitor<V> {
    type Value = Distinct<V>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("rules by name")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Distinct<V>, A::Error> {
        let mut all = BTreeMap::new();
        while let Some((name, value)) = members.next_entry::<String, V>()? {
            if all.contains_key(&name) {
                return Err(de::Error::custom(format_args!("duplicate field `{name}`")));
            }
            all.insert(name, value);
        }
        Ok(Distinct(all))
    }
}

/// One word, or members. Told apart as they are read, so that what is wrong with a member is said of its place.
struct WordOr<M> {
    word: &'static str,
    expected: &'static str,
    members: PhantomData<M>,
}

impl<M> WordOr<M> {
    /// The members; none for the word.
    fn read<'de, D>(from: D, word: &'static str, expected: &'static str) -> Result<Option<M>, D::Error>
    where
        D: Deserializer<'de>,
        M: Deserialize<'de>,
    {
        from.deserialize_any(Self { word, expected, members: PhantomData })
    }
}

impl<'de, M: Deserialize<'de>> Visitor<'de> for WordOr<M> {
    type Value = Option<M>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expected)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Option<M>, E> {
        if text == self.word { Ok(None) } else { Err(E::invalid_value(Unexpected::Other("another word"), &self)) }
    }

    fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<Option<M>, A::Error> {
        M::deserialize(MapAccessDeserializer::new(members)).map(Some)
    }
}

impl Mask {
    /// The rules for the built-in schema.
    ///
    /// # Panics
    /// Never: they are compiled in, and read by a test.
    #[must_use]
    pub fn built_in() -> Self {
        toml::from_str(DEFAULT).expect("the embedded rules are rules")
    }

    /// Rules from TOML or JSON.
    ///
    /// # Errors
    /// 409 with what is wrong.
    pub fn parse(text: &str) -> ApiResult<Self> {
        let json = text.trim_start().starts_with('{');
        let read: Result<Self, String> = if json {
            serde_json::from_str(text).map_err(|error| error.to_string())
        } else {
            toml::from_str(text).map_err(|error| error.message().to_owned())
        };
        read.map_err(|fault| {
            let remedy = format!("Write table by table: column = one of {}; or table = \"remove\".", kinds());
            refused(format!("The masking rules cannot be used. {remedy}")).caused_by(fault)
        })
    }

    /// The statements, for the tables and columns that there are.
    ///
    /// # Errors
    /// 422 if a rule names a table or a column that is not there: a typing error must not leave data as it is.
    async fn statements(&self, conn: &mut AdminConn, salt: &str) -> ApiResult<Vec<String>> {
        let mut statements = Vec::new();
        for (name, rule) in &self.0 {
            let (schema, table) = name.split_once('.').unwrap_or(("public", name));
            let place = TableName { schema: schema.to_owned(), name: table.to_owned() }.quoted();
            let columns = format!(
                "SELECT attname || ' ' || format_type(atttypid, NULL) AS word FROM pg_attribute \
                 WHERE attrelid = to_regclass({}) AND attnum > 0 AND NOT attisdropped AND attgenerated = ''",
                sql::literal(&place)
            );
            let columns = admin::words(conn, &columns).await?;
            let columns: BTreeMap<_, _> = columns.iter().filter_map(|column| column.split_once(' ')).collect();
            if columns.is_empty() {
                return Err(not_there(&format!("the table {name}"), name));
            }
            match rule {
                TableRule::Whole(WholeTable::Remove) => statements.push(format!("DELETE FROM {place}")),
                TableRule::Columns(rules) => {
                    let mut set = String::new();
                    for (column, rule) in rules {
                        let whole = format!("{name}.{column}");
                        let kind = columns.get(column.as_str()).ok_or_else(|| not_there(&whole, &whole))?;
                        let comma = if set.is_empty() { "" } else { ", " };
                        let _ = write!(
                            set,
                            "{comma}{} = {}",
                            sql::ident(column),
                            rule.value(&sql::ident(column), kind, salt)
                        );
                    }
                    if !set.is_empty() {
                        statements.push(format!("UPDATE {place} SET {set}"));
                    }
                }
            }
        }
        Ok(statements)
    }

    /// Whether every table and column is there. For an original whose schema is behind, the built-in rules may be ahead of it,
    /// and nothing is asked of them: its copy is migrated before they are applied.
    pub(super) async fn check(&self, conn: &mut AdminConn, is_behind: bool) -> ApiResult<()> {
        if is_behind && *self == Self::built_in() {
            return Ok(());
        }
        self.statements(conn, "").await.map(drop)
    }

    /// Masks a copy, with digests that nobody can compare with those of another. Done again, it masks what is masked.
    pub(super) async fn apply(&self, conn: &mut AdminConn) -> ApiResult<()> {
        let salt = hex(&random::<16>());
        let statements = self.statements(conn, &salt).await?;
        conn.batch_execute(&format!("BEGIN; {}; COMMIT", statements.join("; "))).await.map_err(|error| {
            ApiError::internal(error).detail("The masking rules could not be applied: a column does not take its rule.")
        })
    }
}

/// 422 for a rule, by its place in a request's `mask`.
fn not_there(what: &str, place: &str) -> ApiError {
    let said = format!("The masking rules name {what}, which is not there. Correct them.");
    ApiError::invalid_field(format!("mask.{place}"), "not_found", said.clone()).detail(said)
}

impl Rule {
    /// The value in the place of `column`, which stays null where it is.
    fn value(self, column: &str, kind: &str, salt: &str) -> String {
        let digest = |of: &str| format!("md5({} || lower(trim({of})))", sql::literal(salt));
        let made_up = match self {
            Self::Null => return "NULL".to_owned(),
            Self::Empty if kind == "jsonb" || kind == "json" => format!("'[]'::{kind}"),
            Self::Empty if kind.ends_with("[]") => format!("'{{}}'::{kind}"),
            Self::Empty => "''".to_owned(),
            Self::Email => format!("left({}, 16) || '@example.invalid'", digest(&format!("{column}::text"))),
            Self::Name => format!("'Name ' || left({}, 8)", digest(&format!("{column}::text"))),
            Self::Phone => {
                format!("'+000' || translate(left({}, 10), 'abcdef', '012345')", digest(&format!("{column}::text")))
            }
            Self::Text => format!("'Text ' || left({}, 8)", digest(&format!("{column}::text"))),
            Self::Hash => digest(&format!("{column}::text")),
            Self::Values => {
                let value = format!(
                    "jsonb_build_object('value', left({}, 16) || '@example.invalid')",
                    digest("entry->>'value'")
                );
                format!(
                    "(SELECT coalesce(jsonb_agg(CASE WHEN jsonb_typeof(entry) = 'object' THEN entry || {value} ELSE '{{}}' END), '[]') \
                     FROM jsonb_array_elements({column}) AS entry)"
                )
            }
        };
        format!("CASE WHEN {column} IS NULL THEN NULL ELSE {made_up} END")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_in_both_forms() {
        let rules = Mask::parse("[people]\nmail = \"email\"\n[\"app.notes\"]\nbody = \"null\"").unwrap();
        assert_eq!(rules, Mask::parse(r#"{"people": {"mail": "email"}, "app.notes": {"body": "null"}}"#).unwrap());
        assert!(Mask::parse("[people]\nmail = \"shuffle\"").is_err());
        assert!(Mask::parse("people = \"keep\"").is_err());
        assert!(Mask::built_in().0.len() > 3);
    }

    #[test]
    fn a_choice_is_a_name_or_rules_and_the_journal_keeps_either() {
        let read = |text: &str| serde_json::from_str::<MaskChoice>(text).map(Mask::from).map_err(|e| e.to_string());
        assert_eq!(read("\"default\""), Ok(Mask::built_in()));
        let own = read(r#"{"people": {"mail": "email"}, "notes": "remove"}"#).unwrap();
        assert_eq!(own, Mask::parse("notes = \"remove\"\n[people]\nmail = \"email\"").unwrap());
        for mask in [own, Mask::built_in()] {
            let kept = serde_json::to_value(&mask).unwrap();
            assert_eq!(serde_json::from_value::<Mask>(kept).unwrap(), mask);
        }
        for twice in [
            r#"{"people": {"mail": "email"}, "people": {"notes": "null"}}"#,
            r#"{"people": {"mail": "email", "mail": "null"}}"#,
        ] {
            assert!(read(twice).unwrap_err().contains("duplicate field `"), "{twice}");
            assert!(Mask::parse(twice).is_err(), "{twice}");
        }
        for wrong in ["\"none\"", "1", "[]", r#"{"people": "keep"}"#, r#"{"people": {"mail": "shuffle"}}"#] {
            let said = read(wrong).unwrap_err();
            assert!(said.contains("expected "), "{wrong}: {said}");
        }
    }

    #[test]
    fn null_stays_null_and_salts_differ() {
        let value = Rule::Email.value("\"email\"", "text", "s");
        assert!(value.starts_with("CASE WHEN \"email\" IS NULL THEN NULL") && value.contains("example.invalid"));
        assert_ne!(value, Rule::Email.value("\"email\"", "text", "t"));
    }
}
