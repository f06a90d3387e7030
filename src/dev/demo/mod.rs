//! Demo data that looks like an office's own: a few colleagues, and the people and companies they deal with.

mod companies;
mod generator;
mod names;
mod places;

use chrono::{DateTime, Utc};
use diesel::QueryResult;
use diesel::pg::Pg;
use diesel::sql_types::{Array, Text, Uuid};
use diesel_async::{AsyncConnection, RunQueryDsl};

use crate::kernel::{Slug, UserId};
use crate::tenant::contacts;
use generator::{Generator, ascii};

const COLLEAGUES: usize = 4;

/// Somebody who works at the tenant.
#[derive(Debug)]
pub(super) struct Person {
    pub(super) first_name: &'static str,
    pub(super) last_name: &'static str,
}

/// The tenant's administrator: the first of its people.
pub(super) fn admin(slug: &Slug) -> Person {
    Generator::new(slug).person()
}

/// How many contacts a demo tenant has.
fn contact_count(slug: &Slug) -> usize {
    match slug.as_str() {
        "acme" => 400,
        "globex" => 300,
        _ => 50,
    }
}

/// Fills a tenant that has no contacts yet, in one transaction: the same data for the same tenant, but for the times.
/// Its people have role `user` and the given password.
///
/// # Errors
/// What the database answers.
pub(super) async fn fill<C>(conn: &mut C, slug: &Slug, password_hash: &str, now: DateTime<Utc>) -> QueryResult<()>
where
    C: AsyncConnection<Backend = Pg>,
{
    let mut generator = Generator::new(slug);
    let people: Vec<_> = (0..=COLLEAGUES).map(|_| generator.person()).skip(1).collect();
    let made = generator.contacts(contact_count(slug), now);
    conn.transaction(async move |conn| {
        if contacts::any(conn).await? {
            return Ok(());
        }
        insert_people(conn, slug, &people, password_hash).await?;
        contacts::import(conn, made).await
    })
    .await
}

async fn insert_people<C>(conn: &mut C, slug: &Slug, people: &[Person], password_hash: &str) -> QueryResult<()>
where
    C: AsyncConnection<Backend = Pg>,
{
    let address = |p: &Person| format!("{}.{}@{slug}.example", ascii(p.first_name), ascii(p.last_name));
    diesel::sql_query(
        "WITH made AS ( \
             INSERT INTO users (id, email, email_key, first_name, last_name, status, password_hash) \
             SELECT id, email, lower(email), first_name, last_name, 'active', $5 \
             FROM unnest($1, $2, $3, $4) AS person (id, email, first_name, last_name) \
             ON CONFLICT DO NOTHING RETURNING id) \
         INSERT INTO user_roles (user_id, role_id) \
         SELECT made.id, roles.id FROM made, roles WHERE roles.name = 'user'",
    )
    .bind::<Array<Uuid>, _>(people.iter().map(|_| UserId::generate()).collect::<Vec<_>>())
    .bind::<Array<Text>, _>(people.iter().map(address).collect::<Vec<_>>())
    .bind::<Array<Text>, _>(people.iter().map(|p| p.first_name).collect::<Vec<_>>())
    .bind::<Array<Text>, _>(people.iter().map(|p| p.last_name).collect::<Vec<_>>())
    .bind::<Text, _>(password_hash)
    .execute(conn)
    .await
    .map(drop)
}
