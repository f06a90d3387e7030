//! A tenant that is written to and read from while it moves.

use std::cell::Cell;
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::Value;
use tenantry::router::Target;
use tenantry::testing::Tenant;

use super::{CONTACTS, Ground, is_moved};
use crate::support::{db, say};

/// Owners and grants of everything in a database, and who may connect: what distinguishes a tenant's from any other.
async fn catalog(database: &Target) -> Vec<String> {
    let query = "SELECT 'table ' || relnamespace::regnamespace || ' ' || relname || ' ' || pg_get_userbyid(relowner) || ' ' \
                     || coalesce(relacl::text, '') AS word FROM pg_class WHERE relnamespace IN \
                     ('public'::regnamespace, 'tenantry'::regnamespace) \
                 UNION ALL SELECT 'schema ' || nspname || ' ' || coalesce((SELECT string_agg(acl::text, ',' ORDER BY \
                     acl::text) FROM unnest(nspacl) acl), '') FROM pg_namespace WHERE nspname IN ('public', 'tenantry') \
                 UNION ALL SELECT 'constraint ' || conname || ' ' || pg_get_constraintdef(oid) FROM pg_constraint \
                     WHERE connamespace = 'public'::regnamespace \
                 UNION ALL SELECT 'database ' || pg_get_userbyid(datdba) || ' ' || coalesce(datacl::text, '') \
                     FROM pg_database WHERE datname = current_database() ORDER BY 1";
    db::words(database, query).await
}

/// Writes numbers one after the other and reads on and on while `work` runs; every answer is a good one. Gives how many
/// were written.
pub(super) async fn under_writes<T>(tenant: &Tenant, from: u32, work: impl Future<Output = T>) -> (T, u32) {
    let (next, slowest) = (Cell::new(from), Cell::new(Duration::ZERO));
    let (next_of, slowest_of, admin) = (&next, &slowest, tenant.admin());
    let write = |admin: tenantry::testing::Persona| async move {
        loop {
            let (number, begun) = (next_of.get(), std::time::Instant::now());
            next_of.set(number + 1);
            admin.contact(&format!("n{number}")).await;
            slowest_of.set(slowest_of.get().max(begun.elapsed()));
        }
    };
    let read = |admin: tenantry::testing::Persona| async move {
        loop {
            admin.get(CONTACTS).await.expect(200);
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    let writing = join_all((0..2).map(|_| write(admin.clone())));
    let reading = join_all((0..3).map(|_| read(admin.clone())));
    let done = tokio::select! {
        done = work => done,
        endless = writing => { let _: Vec<std::convert::Infallible> = endless; unreachable!("they write on and on") }
        endless = reading => { let _: Vec<std::convert::Infallible> = endless; unreachable!("they read on and on") }
    };
    say(&format!("{} writes, the slowest {:?}", next.get() - from, slowest.get()));
    (done, next.get())
}

/// Every number is there once; but for those that were under way when their writers ended, one of each writer.
pub(super) async fn every_number_once(database: &Target, written: u32, under_way: u32) {
    let numbers = "SELECT last_name AS word FROM contacts WHERE last_name ~ '^n[0-9]+$'";
    let mut found: Vec<u32> =
        db::words(database, numbers).await.iter().map(|name| name[1..].parse().unwrap()).collect();
    found.sort_unstable();
    let expected: Vec<u32> = (0..written).collect();
    let doubled = found.windows(2).any(|pair| pair[0] == pair[1]);
    assert!(!doubled, "a row is doubled");
    let lost: Vec<_> = expected.iter().filter(|number| !found.contains(number)).collect();
    assert!(lost.len() <= under_way as usize, "lost of {written}: {lost:?}");
}

#[actix_web::test]
async fn a_tenant_moves_under_writes_and_loses_nothing() {
    let ground = Ground::new().await;
    let tenant = ground.app.tenant_on("east", "moving").await;
    tenant.admin().contact("n0").await;
    let before = catalog(&ground.server("east").with_database(tenant.role())).await;
    let mut written = 1;
    for (from, to, method) in [("east", "west", "dump"), ("west", "east", "replicate")] {
        let arguments = ["--to", to, "--method", method];
        let (said, so_far) = under_writes(&tenant, written, ground.moving(&tenant, &arguments)).await;
        let view = said.expect(0).json();
        is_moved(&view, to);
        say(&format!("{method}: held for {} ms", view["pauseMs"]));
        assert_eq!((&view["from"], &view["method"]), (&Value::from(from), &Value::from(method)));
        for _ in 0..3 {
            tenant.admin().get(CONTACTS).await.expect(200);
        }
        let here = ground.server(to).with_database(tenant.role());
        written = so_far;
        every_number_once(&here, written, 4).await;
        // The numbers that were on their way when the writers ended may or may not be there: begin anew.
        db::execute(
            &here,
            &format!(
                "DELETE FROM contacts WHERE last_name ~ '^n' AND substr(last_name, 2)::int >= {}",
                written.saturating_sub(4)
            ),
        )
        .await;
        written = written.saturating_sub(4);
        let (open, databases) = ground.there(&tenant).await;
        assert_eq!((open, databases), (vec![to], vec!["east", "west"]), "the old copy is fenced, and kept");
        assert_eq!(catalog(&here).await, before, "{method}");
        assert!(ground.leftovers(&tenant).await.is_empty());
        // Asked again, it says the same; moving back has to wait for the copy to go.
        assert_eq!(ground.moving(&tenant, &arguments).await.expect(0).json()["pauseMs"], view["pauseMs"]);
        assert!(ground.moving(&tenant, &["--to", from]).await.expect(4).stderr.contains("--confirm"));
        assert_eq!(ground.moving(&tenant, &["--confirm"]).await.expect(0).json()["copiesDropped"], 1);
        assert_eq!(ground.there(&tenant).await, (vec![to], vec![to]));
    }
}
