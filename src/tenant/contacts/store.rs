//! Rows and queries.

use chrono::{DateTime, Utc};
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel_async::{AsyncConnection, RunQueryDsl};
use serde::Serialize;
use utoipa::ToSchema;

use super::json::RawJson;
use super::rules::{Address, Draft, Email, Phone};
use crate::kernel::ContactId;
use crate::kernel::page::Seek;
use crate::rest::Versioned;
use crate::rest::sorted::{self, KeyValue, sorted};
use crate::router::{TenantConn, TenantTx};

/// Rows of one statement: PostgreSQL takes 65,535 parameters.
const BATCH: usize = 200;

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
        last_name_key -> Text,
        company_key -> Text,
        search -> Text,
    }
}

#[diesel::declare_sql_function]
extern "SQL" {
    /// The database's own: what counts as the lower case of a letter depends on its locale.
    fn lower(text: diesel::sql_types::Text) -> diesel::sql_types::Text;
}

/// An entry of the address book.
#[derive(Debug, Clone, Queryable, Selectable, Serialize, ToSchema)]
#[diesel(table_name = contacts, check_for_backend(Pg))]
#[serde(rename_all = "camelCase")]
pub struct Contact {
    /// Its id.
    pub id: ContactId,
    /// Given name.
    pub first_name: Option<String>,
    /// Family name.
    pub last_name: Option<String>,
    /// Organisation.
    pub company: Option<String>,
    /// Position there.
    pub title: Option<String>,
    /// E-mail addresses, the preferred one first.
    #[schema(value_type = Vec<Email>)]
    pub emails: RawJson,
    /// Phone numbers, the preferred one first.
    #[schema(value_type = Vec<Phone>)]
    pub phones: RawJson,
    /// Postal addresses, the preferred one first.
    #[schema(value_type = Vec<Address>)]
    pub addresses: RawJson,
    /// Free text.
    pub notes: Option<String>,
    /// Words to find it by.
    pub tags: Vec<String>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it last changed.
    pub updated_at: DateTime<Utc>,
    /// Grows with every change; the ETag.
    pub version: i64,
}

impl Contact {
    /// Where it stands in a list sorted so.
    pub fn position(&self, order: &[(SortKey, bool)]) -> Position {
        let value = |key: SortKey| match key {
            SortKey::CreatedAt => KeyValue::Time(self.created_at),
            SortKey::UpdatedAt => KeyValue::Time(self.updated_at),
            SortKey::LastName => KeyValue::Text(self.last_name.clone().unwrap_or_default()),
            SortKey::Company => KeyValue::Text(self.company.clone().unwrap_or_default()),
        };
        Position { keys: order.iter().map(|(key, _)| value(*key)).collect(), id: self.id }
    }
}

impl Versioned for Contact {
    fn version(&self) -> i64 {
        self.version
    }
}

/// What a client may write of a row.
#[derive(Insertable, AsChangeset)]
#[diesel(table_name = contacts, treat_none_as_null = true)]
struct Content {
    first_name: Option<String>,
    last_name: Option<String>,
    company: Option<String>,
    title: Option<String>,
    emails: RawJson,
    phones: RawJson,
    addresses: RawJson,
    notes: Option<String>,
    tags: Vec<String>,
}

impl Content {
    fn of(draft: Draft) -> QueryResult<Self> {
        let json = |error: serde_json::Error| diesel::result::Error::SerializationError(Box::new(error));
        Ok(Self {
            first_name: draft.first_name,
            last_name: draft.last_name,
            company: draft.company,
            title: draft.title,
            emails: RawJson::of(&draft.emails).map_err(json)?,
            phones: RawJson::of(&draft.phones).map_err(json)?,
            addresses: RawJson::of(&draft.addresses).map_err(json)?,
            notes: draft.notes,
            tags: draft.tags,
        })
    }
}

/// What a list is narrowed to. All of it has to hold.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Words that all occur, whatever their case, in names, company, e-mail addresses, phone numbers, notes or tags.
    pub words: Vec<String>,
    /// The company's name, whatever the case.
    pub company: Option<String>,
    /// Has this tag.
    pub tag: Option<String>,
    /// Has an address in this city.
    pub city: Option<String>,
    /// Made after this time.
    pub created_after: Option<DateTime<Utc>>,
    /// Made before this time.
    pub created_before: Option<DateTime<Utc>>,
    /// Changed after this time.
    pub updated_after: Option<DateTime<Utc>>,
}

/// What a list is sorted by; equal keys by id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SortKey {
    /// When it was made.
    CreatedAt,
    /// When it last changed.
    UpdatedAt,
    /// Family name, whatever the case; those without one first.
    LastName,
    /// Company, whatever the case; those without one first.
    Company,
}

/// Where a row stands in a sorted list; texts in whatever case.
pub type Position = sorted::Position<ContactId>;

/// Which part of a list is wanted.
#[derive(Debug)]
pub struct Window {
    /// What it is sorted by, and whether the greatest of each key comes first.
    pub order: Vec<(SortKey, bool)>,
    /// Starts beside this row, and reads on in this direction.
    pub from: Seek<Position>,
    /// Leaves out so many rows at the beginning.
    pub offset: i64,
    /// At most so many rows.
    pub limit: i64,
}

fn filtered(filter: &Filter) -> contacts::BoxedQuery<'_, Pg> {
    let mut query = contacts::table.into_boxed();
    for word in &filter.words {
        query = query.filter(contacts::search.like(lower(format!("%{}%", escape_like(word)))));
    }
    if let Some(company) = &filter.company {
        query = query.filter(contacts::company_key.eq(lower(company)));
    }
    if let Some(tag) = &filter.tag {
        query = query.filter(contacts::tags.contains(vec![tag.as_str()]));
    }
    if let Some(city) = &filter.city {
        query = query.filter(contacts::addresses.contains(serde_json::json!([{ "city": city }])));
    }
    if let Some(after) = filter.created_after {
        query = query.filter(contacts::created_at.gt(after));
    }
    if let Some(before) = filter.created_before {
        query = query.filter(contacts::created_at.lt(before));
    }
    if let Some(after) = filter.updated_after {
        query = query.filter(contacts::updated_at.gt(after));
    }
    query
}

/// `%` and `_` are letters like any other here.
fn escape_like(text: &str) -> String {
    text.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_")
}

/// One part of the sorted list in one statement; read backwards, the rows come the other way round.
pub async fn list(conn: &mut TenantConn, filter: &Filter, window: &Window) -> QueryResult<Vec<Contact>> {
    let query = sorted!(filtered(filter), contacts of contacts::table, window.order, window.from.as_ref(), {
        SortKey::CreatedAt => Time in contacts::created_at, by std::convert::identity;
        SortKey::UpdatedAt => Time in contacts::updated_at, by std::convert::identity;
        SortKey::LastName => Text in contacts::last_name_key, by lower;
        SortKey::Company => Text in contacts::company_key, by lower;
    });
    let query = if window.offset > 0 { query.offset(window.offset) } else { query };
    query.limit(window.limit).select(Contact::as_select()).load(conn).await
}

/// How many there are.
pub async fn count(conn: &mut TenantConn, filter: &Filter) -> QueryResult<i64> {
    filtered(filter).count().get_result(conn).await
}

/// One, if it exists.
pub async fn find(conn: &mut TenantConn, id: ContactId) -> QueryResult<Option<Contact>> {
    contacts::table.find(id).select(Contact::as_select()).first(conn).await.optional()
}

/// One, if it exists, kept from changing until the transaction ends.
pub async fn find_for_update(conn: &mut TenantTx, id: ContactId) -> QueryResult<Option<Contact>> {
    contacts::table.find(id).select(Contact::as_select()).for_update().first(conn).await.optional()
}

/// Adds one.
pub async fn insert(conn: &mut TenantTx, draft: Draft, now: DateTime<Utc>) -> QueryResult<Contact> {
    diesel::insert_into(contacts::table)
        .values((
            contacts::id.eq(ContactId::generate()),
            Content::of(draft)?,
            contacts::created_at.eq(now),
            contacts::updated_at.eq(now),
        ))
        .returning(Contact::as_returning())
        .get_result(conn)
        .await
}

/// A contact that was made elsewhere, with its times.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    /// What is in it.
    pub draft: Draft,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it last changed.
    pub updated_at: DateTime<Utc>,
}

/// Adds many, in a few statements.
///
/// # Errors
/// What the database answers.
pub async fn import<C>(conn: &mut C, imported: Vec<Imported>) -> QueryResult<()>
where
    C: AsyncConnection<Backend = Pg>,
{
    let mut rows = Vec::with_capacity(imported.len());
    for Imported { draft, created_at, updated_at } in imported {
        rows.push((
            contacts::id.eq(ContactId::generate()),
            Content::of(draft)?,
            contacts::created_at.eq(created_at),
            contacts::updated_at.eq(updated_at),
        ));
    }
    while !rows.is_empty() {
        let batch: Vec<_> = rows.drain(..rows.len().min(BATCH)).collect();
        diesel::insert_into(contacts::table).values(batch).execute(conn).await?;
    }
    Ok(())
}

/// Whether there is one at all.
///
/// # Errors
/// What the database answers.
pub async fn any<C>(conn: &mut C) -> QueryResult<bool>
where
    C: AsyncConnection<Backend = Pg>,
{
    diesel::select(diesel::dsl::exists(contacts::table.select(contacts::id))).get_result(conn).await
}

/// Replaces what a client may write.
pub async fn update(conn: &mut TenantTx, id: ContactId, draft: Draft, now: DateTime<Utc>) -> QueryResult<Contact> {
    diesel::update(contacts::table.find(id))
        .set((Content::of(draft)?, contacts::updated_at.eq(now), contacts::version.eq(contacts::version + 1)))
        .returning(Contact::as_returning())
        .get_result(conn)
        .await
}

/// Removes one.
pub async fn remove(conn: &mut TenantTx, id: ContactId) -> QueryResult<()> {
    diesel::delete(contacts::table.find(id)).execute(conn).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_are_letters() {
        assert_eq!(escape_like(r"50%_\x"), r"50\%\_\\x");
    }
}
