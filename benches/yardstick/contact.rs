//! The rows that everyone answers, by diesel and by tokio-postgres.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

/// Rows of one page; one more is read to know whether there is a next one.
const PAGE: i64 = 20;

/// The query in SQL, as diesel writes it.
pub const QUERY: &str = "SELECT id, first_name, last_name, company, title, emails, phones, addresses, notes, tags, \
     created_at, updated_at, version FROM contacts ORDER BY created_at DESC, id DESC LIMIT 21";

diesel::table! {
    contacts (id) {
        id -> Uuid,
        first_name -> Nullable<Text>,
        last_name -> Nullable<Text>,
        company -> Nullable<Text>,
        title -> Nullable<Text>,
        emails -> Jsonb,
        phones -> Jsonb,
        addresses -> Jsonb,
        notes -> Nullable<Text>,
        tags -> Array<Text>,
        created_at -> Timestamptz,
        updated_at -> Timestamptz,
        version -> BigInt,
    }
}

/// An entry of the address book.
#[derive(Debug, Queryable, Selectable, Serialize)]
#[diesel(table_name = contacts)]
#[serde(rename_all = "camelCase")]
pub struct Contact {
    id: Uuid,
    first_name: Option<String>,
    last_name: Option<String>,
    company: Option<String>,
    title: Option<String>,
    emails: Value,
    phones: Value,
    addresses: Value,
    notes: Option<String>,
    tags: Vec<String>,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
    version: i64,
}

/// The newest twenty, by diesel.
pub async fn load(conn: &mut AsyncPgConnection) -> QueryResult<Vec<Contact>> {
    let mut rows = contacts::table
        .select(Contact::as_select())
        .order((contacts::created_at.desc(), contacts::id.desc()))
        .limit(PAGE + 1)
        .load(conn)
        .await?;
    rows.truncate(PAGE as usize);
    Ok(rows)
}

/// The newest twenty of what [`QUERY`] answered.
pub fn from_rows(rows: &[tokio_postgres::Row]) -> Result<Vec<Contact>, tokio_postgres::Error> {
    rows.iter()
        .take(PAGE as usize)
        .map(|row| {
            Ok(Contact {
                id: row.try_get(0)?,
                first_name: row.try_get(1)?,
                last_name: row.try_get(2)?,
                company: row.try_get(3)?,
                title: row.try_get(4)?,
                emails: row.try_get(5)?,
                phones: row.try_get(6)?,
                addresses: row.try_get(7)?,
                notes: row.try_get(8)?,
                tags: row.try_get(9)?,
                created_at: row.try_get(10)?,
                updated_at: row.try_get(11)?,
                version: row.try_get(12)?,
            })
        })
        .collect()
}
