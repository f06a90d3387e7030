//! A `jsonb` column whose text goes to the client as it is: lists are read far more often than written, and nobody
//! on the way looks inside.

use diesel::deserialize::{self, FromSql, FromSqlRow};
use diesel::expression::AsExpression;
use diesel::pg::{Pg, PgValue};
use diesel::serialize::{self, IsNull, Output, ToSql};
use diesel::sql_types::Jsonb;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::io::Write as _;

/// The version byte of `jsonb`'s binary form; the rest is text.
const JSONB_VERSION: u8 = 1;

/// JSON as PostgreSQL wrote it.
#[derive(Debug, Clone, Serialize, FromSqlRow, AsExpression)]
#[diesel(sql_type = Jsonb)]
#[serde(transparent)]
pub struct RawJson(Box<RawValue>);

impl RawJson {
    /// The JSON of a value.
    ///
    /// # Errors
    /// If the value has no JSON form.
    pub fn of(value: &impl Serialize) -> serde_json::Result<Self> {
        serde_json::value::to_raw_value(value).map(Self)
    }

    /// Reads it as a type.
    ///
    /// # Errors
    /// If it is of another shape.
    pub fn parse<'a, T: Deserialize<'a>>(&'a self) -> serde_json::Result<T> {
        serde_json::from_str(self.0.get())
    }
}

impl FromSql<Jsonb, Pg> for RawJson {
    fn from_sql(value: PgValue<'_>) -> deserialize::Result<Self> {
        let Some((&JSONB_VERSION, text)) = value.as_bytes().split_first() else {
            return Err("unknown version of jsonb".into());
        };
        let text = std::str::from_utf8(text)?.to_owned();
        Ok(Self(RawValue::from_string(text)?))
    }
}

impl ToSql<Jsonb, Pg> for RawJson {
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Pg>) -> serialize::Result {
        out.write_all(&[JSONB_VERSION])?;
        out.write_all(self.0.get().as_bytes())?;
        Ok(IsNull::No)
    }
}
