//! What reads and transactions may do, and what PostgreSQL keeps them from.

use std::sync::Arc;

use diesel::dsl::sql;
use diesel::pg::Pg;
use diesel::query_builder::{AstPass, QueryFragment, QueryId};
use diesel::sql_types::Integer;
use diesel_async::{RunQueryDsl, SimpleAsyncConnection};
use futures_util::future::join_all;
use tenantry::router::{
    ClaimsOnly, ControlPlaneRegistry, Error, Router, RouterConfig, TenantConn, TenantDb, TenantHints, TenantTx,
};
use tenantry::testing::{Tenant, TestApp};

use crate::support::db;

const ROWS: &str = "SELECT count(*)::text AS word FROM contacts";

fn insert(name: &str) -> String {
    format!("INSERT INTO contacts (id, last_name) VALUES (gen_random_uuid(), '{name}')")
}

async fn own_router(tenant: &Tenant, ceiling: u32) -> (Router, TenantDb) {
    let control = TestApp::shared().await.control();
    let registry = Arc::new(ControlPlaneRegistry::new(control.db, control.keys));
    let config = RouterConfig { tenant_max_connections: ceiling, ..RouterConfig::new("http://tenantry.test") };
    let router = Router::start(registry, Arc::new(ClaimsOnly), config).await.expect("a router");
    let db = router.named(Some(tenant.slug.as_str()), &TenantHints::default()).await.expect("an active tenant");
    (router, db)
}

async fn read(db: &TenantDb, sql: &str) -> Result<usize, Error> {
    db.read(async |conn: &mut TenantConn| -> Result<usize, Error> { Ok(diesel::sql_query(sql).execute(conn).await?) })
        .await
}

/// Reads share a connection, so none may write on it or leave its session another.
#[actix_web::test]
async fn a_read_neither_writes_nor_changes_the_session() {
    let acme = TestApp::shared().await.tenant("acme").await;
    let (router, db) = own_router(&acme, 2).await;
    let writes = format!("WITH new AS ({} RETURNING id) SELECT id FROM new", insert("Sneaky"));
    let refused = read(&db, &writes).await.unwrap_err();
    assert!(matches!(&refused, Error::Query(cause) if cause.to_string().contains("read-only")), "{refused:?}");
    for words in ["BEGIN", "SET search_path = other", "begin read write", "DISCARD ALL", "LISTEN acme", &insert("x")] {
        let refused = read(&db, words).await.unwrap_err();
        assert!(matches!(&refused, Error::Query(cause) if cause.to_string().contains("transaction")), "{words}");
    }
    for batch in ["SELECT 1; COMMIT; BEGIN", "SELECT 'a; b'; BEGIN"] {
        let batch = db
            .read(async |conn: &mut TenantConn| -> Result<(), Error> { Ok(conn.batch_execute(batch).await?) })
            .await
            .unwrap_err();
        assert!(matches!(&batch, Error::Query(cause) if cause.to_string().contains("transaction")), "{batch:?}");
    }
    assert_eq!(db::word(acme.database(), ROWS).await, "0");
    // What is quoted says nothing.
    read(&db, "SELECT string_agg(last_name, '; ') FROM contacts").await.unwrap();
    router.shutdown().await;
}

/// A query of an application's own. diesel takes it to be the same each time.
#[derive(QueryId)]
struct Own;

impl QueryFragment<Pg> for Own {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> diesel::QueryResult<()> {
        out.push_sql("BEGIN READ WRITE");
        Ok(())
    }
}

#[actix_web::test]
async fn words_are_words_in_whatever_type_they_come() {
    let acme = TestApp::shared().await.tenant("acme").await;
    let (router, db) = own_router(&acme, 2).await;
    for words in ["BEGIN READ WRITE", "SET search_path = other", "LISTEN acme", "DISCARD ALL"] {
        let executed = db.read(async |conn: &mut TenantConn| -> Result<usize, Error> {
            Ok(sql::<Integer>(words).execute(conn).await?)
        });
        let bound = db.read(async |conn: &mut TenantConn| -> Result<usize, Error> {
            Ok(sql::<Integer>(words).bind::<Integer, _>(1).execute(conn).await?)
        });
        let loaded = db.read(async |conn: &mut TenantConn| -> Result<usize, Error> {
            Ok(sql::<Integer>(words).load::<i32>(conn).await?.len())
        });
        for refused in [executed.await, bound.await, loaded.await] {
            let refused = refused.unwrap_err();
            let by_us = matches!(&refused, Error::Query(cause) if cause.to_string().contains("TenantDb::transaction"));
            assert!(by_us, "{words}: {refused:?}");
        }
    }
    let own = db.read(async |conn: &mut TenantConn| -> Result<usize, Error> { Ok(Own.execute(conn).await?) }).await;
    assert!(matches!(&own, Err(Error::Query(cause)) if cause.to_string().contains("TenantDb::transaction")), "{own:?}");
    // What reads may come as it likes.
    let one = db.read(async |conn: &mut TenantConn| -> Result<i32, Error> {
        Ok(sql::<Integer>("SELECT 1").get_result(conn).await?)
    });
    assert_eq!(one.await.unwrap(), 1);
    router.shutdown().await;
}

/// As many reads as come at once go over one connection.
#[actix_web::test]
async fn reads_of_one_tenant_share_a_connection() {
    let acme = TestApp::shared().await.tenant("acme").await;
    let (router, db) = own_router(&acme, 1).await;
    for done in join_all((0..24).map(|_| read(&db, "SELECT count(*) FROM contacts"))).await {
        done.unwrap();
    }
    assert_eq!(router.pools().opened(), 1);
    router.shutdown().await;
}

/// Between them, writing transactions have the connection alone, each in its turn, and none waits for ever.
#[actix_web::test]
async fn readers_and_writers_take_turns_on_one_connection() {
    let acme = TestApp::shared().await.tenant("acme").await;
    let (router, db) = own_router(&acme, 1).await;
    let reads = join_all((0..40).map(|_| read(&db, "SELECT count(*) FROM contacts")));
    let writes = join_all((0..10).map(|n| {
        let db = &db;
        async move {
            let sql = insert(&format!("Writer {n}"));
            db.transaction(async |tx: &mut TenantTx| -> Result<(), Error> { Ok(tx.batch_execute(&sql).await?) }).await
        }
    }));
    let (reads, writes) = futures_util::join!(reads, writes);
    for done in reads {
        done.unwrap();
    }
    for done in writes {
        done.unwrap();
    }
    assert_eq!(db::word(acme.database(), ROWS).await, "10");
    assert_eq!(router.pools().opened(), 1);
    router.shutdown().await;
}

#[actix_web::test]
async fn a_savepoint_undoes_its_own_part_alone() {
    let acme = TestApp::shared().await.tenant("acme").await;
    let (router, db) = own_router(&acme, 1).await;
    let work = db.transaction(async |tx: &mut TenantTx| -> Result<(), Error> {
        tx.batch_execute(&insert("Before")).await?;
        let failed = tx
            .savepoint(async |tx: &mut TenantTx| -> Result<(), Error> {
                tx.batch_execute(&insert("Within")).await?;
                Ok(tx.batch_execute("SELECT 1/0").await?)
            })
            .await;
        assert!(failed.is_err());
        Ok(tx.batch_execute(&insert("After")).await?)
    });
    work.await.unwrap();
    let names = "SELECT string_agg(last_name, ' ' ORDER BY last_name) AS word FROM contacts";
    assert_eq!(db::word(acme.database(), names).await, "After Before");
    router.shutdown().await;
}

/// PostgreSQL answers COMMIT of a failed transaction with a silent ROLLBACK; the caller is told.
#[actix_web::test]
async fn a_failure_that_was_overlooked_is_not_taken_for_a_commit() {
    let acme = TestApp::shared().await.tenant("acme").await;
    let (router, db) = own_router(&acme, 1).await;
    let work = db.transaction(async |tx: &mut TenantTx| -> Result<(), Error> {
        tx.batch_execute(&insert("Lost")).await?;
        let _ = tx.batch_execute("SELECT 1/0").await;
        Ok(())
    });
    assert!(matches!(work.await, Err(Error::Query(diesel::result::Error::RollbackTransaction))));
    assert_eq!(db::word(acme.database(), ROWS).await, "0");
    router.shutdown().await;
}
