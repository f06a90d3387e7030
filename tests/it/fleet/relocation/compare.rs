//! What is compared before the switch: by replication most of it is read before the hold, and whatever changes afterwards
//! still counts.

use std::thread;

use tenantry::fleet::relocate::Method;
use tenantry::fleet::{MoveTenant, OperationOptions, Progress};
use tenantry::router::Target;

use super::{CONTACTS, Ground};
use crate::support::db;

/// Runs statements in a database when a step begins.
struct At {
    step: &'static str,
    database: Target,
    statements: &'static [&'static str],
}

impl Progress for At {
    fn started(&self, step: &str) {
        if step != self.step {
            return;
        }
        let (database, statements) = (self.database.clone(), self.statements);
        // The move waits for it; its runtime cannot.
        let done = thread::spawn(move || {
            actix_web::rt::System::new().block_on(async {
                for statement in statements {
                    db::execute(&database, statement).await;
                }
            });
        });
        done.join().expect("the statements run");
    }
}

const ROWS: &str =
    "INSERT INTO contacts (id, last_name) SELECT gen_random_uuid(), 'row ' || i FROM generate_series(1, 500) i";
/// What comes to nothing.
const NOTHING: [&str; 4] = [
    "SELECT * FROM contacts WHERE last_name LIKE 'row 2%' FOR UPDATE",
    "BEGIN; DELETE FROM contacts WHERE last_name LIKE 'row 3%'; ROLLBACK",
    "BEGIN; INSERT INTO contacts (id, last_name) VALUES (gen_random_uuid(), 'Nobody'); ROLLBACK",
    "INSERT INTO contacts (id, last_name) VALUES (gen_random_uuid(), 'Shortly'); \
     DELETE FROM contacts WHERE last_name = 'Shortly'",
];

#[actix_web::test]
async fn what_was_weighed_before_the_hold_is_compared_as_it_is_under_it() {
    let ground = Ground::new().await;
    let tenant = ground.app.tenant_on("east", "weighed").await;
    let (source, target) =
        (ground.server("east").with_database(tenant.role()), ground.server("west").with_database(tenant.role()));
    db::execute(&source, ROWS).await;
    let wanted = MoveTenant { to: Some("west".into()), method: Some(Method::Replicate), ..MoveTenant::default() };
    let fleet = ground.app.fleet();
    let moving = async |at: At| fleet.relocate(tenant.id, &wanted, &OperationOptions::default(), &at).await;
    // Each of them would be lost, or be there out of nothing.
    let differences: [&[&str]; 4] = [
        &["UPDATE contacts SET title = 'Dr' WHERE last_name = 'row 250'"],
        &["DELETE FROM contacts WHERE last_name = 'row 250'"],
        &["INSERT INTO contacts (id, last_name) VALUES (gen_random_uuid(), 'Nobody')"],
        &[
            "DELETE FROM contacts WHERE last_name = 'row 250'",
            "INSERT INTO contacts (id, last_name) VALUES (gen_random_uuid(), 'row 250')",
        ],
    ];
    for statements in differences {
        let error = moving(At { step: "compare", database: target.clone(), statements }).await.expect_err("it differs");
        assert!(error.client_detail().contains("public.contacts"), "{statements:?}: {error:?}");
        assert_eq!(ground.there(&tenant).await, (vec!["east"], vec!["east"]), "{statements:?}");
        tenant.admin().get(CONTACTS).await.expect(200);
    }
    // The same at the source, before the fence, is taken along; and what comes to nothing is nothing, on either side.
    let before = [differences.concat(), NOTHING.to_vec()].concat().leak();
    let moved = moving(At { step: "hold", database: source.clone(), statements: before }).await.expect("it moves");
    assert_eq!(ground.there(&tenant).await.0, ["west"]);
    let read = "SELECT count(*) || ' ' || sum(('x' || substr(md5(t::text), 1, 16))::bit(64)::bigint::numeric) AS word \
                FROM public.contacts t";
    let read = format!("SET search_path = ''; SET timezone = 'UTC'; {read}");
    let contacts = moved.relocation.checksums.iter().find(|table| table.table == "public.contacts").expect("contacts");
    let mut here = db::open(&target).await;
    let (settings, query) = read.rsplit_once("; ").expect("settings and a query");
    {
        use diesel_async::SimpleAsyncConnection as _;
        here.batch_execute(settings).await.expect("settings");
    }
    assert_eq!(db::words_on(&mut here, query).await, [format!("{} {}", contacts.rows, contacts.checksum)]);
    assert_eq!(contacts.rows, 501, "one more, and none fewer");
    fleet.confirm_move(tenant.id).await.expect("the copy goes");
    // What comes to nothing at the target does not stand in the way either.
    let back = MoveTenant { to: Some("east".into()), ..wanted.clone() };
    let at = At { step: "compare", database: source, statements: &NOTHING };
    fleet.relocate(tenant.id, &back, &OperationOptions::default(), &at).await.expect("it moves back");
}
