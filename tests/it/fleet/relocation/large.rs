//! A tenant of a gigabyte. Not of every run: it takes a minute or two, and three gigabytes of disk.

use std::time::Instant;

use futures_util::future::join_all;
use tenantry::router::Target;

use super::writes::{every_number_once, under_writes};
use super::{Ground, filler, is_moved};
use crate::support::{db, say};

/// Bytes that the tenant's database has at least.
const SIZE: u64 = 1_000_000_000;

/// Rows of random letters: small ones that stand in the table itself, and large ones that do not.
async fn fill(database: &Target) {
    let parts = [filler(8, 180_000), filler(40, 45_000), filler(40, 45_000)];
    join_all(parts.iter().map(|part| db::execute(database, part))).await;
}

/// Each contact takes a number from a sequence of the database.
async fn number(database: &Target, role: &str) {
    let ledger = format!(
        "SET ROLE \"{role}\"; \
         CREATE TABLE ledger (number bigserial PRIMARY KEY, contact uuid NOT NULL UNIQUE); \
         CREATE FUNCTION take_number() RETURNS trigger LANGUAGE plpgsql AS \
             $$ BEGIN INSERT INTO public.ledger (contact) VALUES (NEW.id); RETURN NEW; END $$; \
         CREATE TRIGGER take_number AFTER INSERT ON contacts FOR EACH ROW EXECUTE FUNCTION take_number()"
    );
    db::execute(database, &ledger).await;
}

#[actix_web::test]
#[ignore = "fills a gigabyte and moves it: a minute or two, and three gigabytes of disk"]
async fn a_gigabyte_moves_under_writes_and_loses_nothing() {
    let ground = Ground::new().await;
    let tenant = ground.app.tenant_on("east", "large").await;
    let [source, target] = ["east", "west"].map(|name| ground.server(name).with_database(tenant.role()));
    fill(&source).await;
    number(&source, tenant.role()).await;
    let size = db::word(&source, "SELECT pg_database_size(current_database())::text AS word").await;
    let size: u64 = size.parse().expect("a number");
    assert!(size >= SIZE, "{size}");
    let begun = Instant::now();
    let (said, written) = under_writes(&tenant, 0, ground.moving(&tenant, &["--to", "west"])).await;
    let (view, whole) = (said.expect(0).json(), begun.elapsed());
    is_moved(&view, "west");
    assert_eq!(view["method"], "replicate", "too large for a dump");
    say(&format!("{} MB in {whole:?}, held for {} ms; {}", size / 1_000_000, view["pauseMs"], view["steps"]));
    assert_eq!(ground.there(&tenant).await.0, ["west"]);
    every_number_once(&target, written, 4).await;
    // The sequence goes on where it was: each number is one contact's, and none comes again.
    tenant.admin().contact("last").await;
    let unlike = "SELECT count(*)::text AS word FROM ledger l FULL JOIN \
                  (SELECT id FROM contacts WHERE last_name <> 'filler') c ON c.id = l.contact \
                  WHERE l.contact IS NULL OR c.id IS NULL";
    assert_eq!(db::word(&target, unlike).await, "0");
    let gaps = "SELECT (max(number) - count(*))::text AS word FROM ledger";
    say(&format!("numbers that were taken and not used: {}", db::word(&target, gaps).await));
}
