//! The schema of a live tenant changes under traffic, past the product: no wrong answer, and no error that stays.

use std::cell::Cell;
use std::io::Write as _;
use std::time::Duration;

use diesel::deserialize::{self, FromSql};
use diesel::pg::{Pg, PgValue};
use diesel::prelude::*;
use diesel::serialize::{self, IsNull, Output, ToSql};
use diesel_async::RunQueryDsl;
use futures_util::future::join_all;
use serde_json::json;
use tenantry::router::{Error, TenantConn, TenantDb};
use tenantry::testing::{Tenant, TestApp};

use super::ground::{PATIENCE, Tx, assert_refused, database, embedded, read};
use crate::support::{db, eventually, say};

const CHANGES: usize = 6;
/// Another type for a column, and the first one again: what prepared statements give changes with it.
const TITLE: [&str; 2] =
    ["ALTER TABLE contacts ALTER COLUMN title TYPE varchar(200)", "ALTER TABLE contacts ALTER COLUMN title TYPE text"];
/// A change of the schema meets connections that were used before and after the last one.
const SERVED_BETWEEN: u32 = 20;

/// Runs `ask` over and over, several at once, while the schema changes again and again.
async fn while_the_schema_changes(tenant: &Tenant, changes: [&str; 2], ask: impl AsyncFn()) {
    let asked = Cell::new(0_u32);
    let asking = join_all((0..4).map(|_| async {
        loop {
            ask().await;
            asked.set(asked.get() + 1);
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }));
    let changing = async {
        for number in 0..CHANGES {
            let enough = asked.get() + SERVED_BETWEEN;
            eventually(PATIENCE, "they are served", async || asked.get() >= enough).await;
            db::execute(tenant.database(), changes[number % 2]).await;
        }
        let enough = asked.get() + SERVED_BETWEEN;
        eventually(PATIENCE, "served at the end", async || asked.get() >= enough).await;
    };
    tokio::select! {
        () = changing => {}
        endless = asking => { let _: Vec<std::convert::Infallible> = endless; unreachable!("they ask on and on") }
    }
    say(&format!("{} answers through {CHANGES} changes of the schema", asked.get()));
}

/// On every node: the same requests before, through and after, each with its right answer.
#[actix_web::test]
async fn a_column_s_type_changes_under_readers_of_two_nodes() {
    let app = TestApp::builder().start().await;
    let other = TestApp::builder().beside(&app).start().await;
    let acme = app.tenant("acme").await;
    let admin = acme.admin();
    let ada = json!({"lastName": "Lovelace", "title": "Countess"});
    admin.post("/api/v1/contacts", ada).await.expect(201);
    let nodes = [admin.clone(), admin.at(other.url())];
    while_the_schema_changes(&acme, TITLE, async || {
        for node in &nodes {
            let answer = read(node).await.expect(200);
            let row = &answer.data()[0];
            assert_eq!((&row["lastName"], &row["title"]), (&json!("Lovelace"), &json!("Countess")), "{answer:?}");
        }
    })
    .await;
}

/// A write that the change struck may be refused, to be repeated; none is done twice, and none is refused for good.
#[actix_web::test]
async fn a_column_s_type_changes_under_writers() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let (admin, written, refused) = (acme.admin(), Cell::new(0), Cell::new(0));
    while_the_schema_changes(&acme, TITLE, async || {
        let answer = admin.post("/api/v1/contacts", json!({"lastName": "Struck"})).await;
        if answer.status == 201 {
            written.set(written.get() + 1);
            admin.get(&format!("/api/v1/contacts/{}", answer.id())).await.expect(200);
        } else {
            assert_refused(&answer);
            refused.set(refused.get() + 1);
        }
    })
    .await;
    // At most each connection once per change.
    assert!(refused.get() <= CHANGES * 10, "{} writes were refused", refused.get());
    // Those under way at the end may have been written without an answer.
    let rows = db::word(acme.database(), "SELECT count(*)::text AS word FROM contacts").await;
    let rows: usize = rows.parse().unwrap();
    assert!((written.get()..=written.get() + 4).contains(&rows), "{} answered, {rows} written", written.get());
}

diesel::table! {
    use diesel::sql_types::Integer;
    use super::MoodSql;

    moods (id) {
        id -> Integer,
        mood -> MoodSql,
    }
}

/// An enum of the operator's own.
#[derive(Debug, diesel::sql_types::SqlType, diesel::query_builder::QueryId)]
#[diesel(postgres_type(name = "mood"))]
pub struct MoodSql;

#[derive(Debug, Clone, PartialEq, Eq, diesel::expression::AsExpression, diesel::deserialize::FromSqlRow)]
#[diesel(sql_type = MoodSql)]
struct Mood(String);

impl ToSql<MoodSql, Pg> for Mood {
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Pg>) -> serialize::Result {
        out.write_all(self.0.as_bytes())?;
        Ok(IsNull::No)
    }
}

impl FromSql<MoodSql, Pg> for Mood {
    fn from_sql(bytes: PgValue<'_>) -> deserialize::Result<Self> {
        Ok(Self(String::from_utf8(bytes.as_bytes().to_vec())?))
    }
}

async fn happy_ones(db: &TenantDb) -> Result<Vec<(i32, Mood)>, Error> {
    db.read(async |conn: &mut TenantConn| -> Result<_, Error> {
        let happy = moods::table.filter(moods::mood.eq(Mood("happy".into()))).order(moods::id);
        Ok(happy.load::<(i32, Mood)>(conn).await?)
    })
    .await
}

async fn one_more(db: &TenantDb) -> Result<(), Error> {
    db.transaction(async |conn: &mut Tx| -> Result<(), Error> {
        let id = diesel::dsl::sql::<diesel::sql_types::Integer>("(SELECT max(id) + 1 FROM moods)");
        diesel::insert_into(moods::table)
            .values((moods::id.eq(id), moods::mood.eq(Mood("sad".into()))))
            .execute(conn)
            .await?;
        Ok(())
    })
    .await
}

/// A type that is made anew has another number, which connections remember: whoever meets the old one gets a new
/// connection, not an error.
#[actix_web::test]
async fn an_enum_is_made_anew_under_readers() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let make = format!(
        "SET ROLE {}; CREATE TYPE mood AS ENUM ('happy', 'sad'); CREATE TABLE moods (id int, mood mood); \
         INSERT INTO moods VALUES (1, 'happy'), (2, 'sad'), (3, 'happy')",
        acme.role()
    );
    db::execute(acme.database(), &make).await;
    let anew = |values: &str| {
        format!(
            "SET ROLE {}; BEGIN; ALTER TABLE moods ALTER COLUMN mood TYPE text; DROP TYPE mood; \
             CREATE TYPE mood AS ENUM ({values}); ALTER TABLE moods ALTER COLUMN mood TYPE mood USING mood::mood; \
             COMMIT",
            acme.role()
        )
    };
    let changes = [anew("'sad', 'meh', 'happy'"), anew("'happy', 'sad'")];
    let router = embedded(app, |config| config).await;
    let own = database(&router, &acme).await;
    let happy = Mood("happy".into());
    let expected = vec![(1, happy.clone()), (3, happy)];
    while_the_schema_changes(&acme, [&changes[0], &changes[1]], async || {
        assert_eq!(happy_ones(&own).await.expect("served"), expected);
    })
    .await;
    one_more(&own).await.expect("writers are well afterwards");
    router.shutdown().await;
}
