//! Negative controls: with one guard turned off, its attack gets through, and the suite sees it.

use tenantry::kernel::crypto::{Place, Sealed};
use tenantry::router::Guards;
use tenantry::testing::{Tenant, TestApp};

use crate::support::jwt::forge_of;
use crate::support::matrix::{self, Party};
use crate::support::{db, eventually, seconds, unhex};
use tenantry::fleet::proof::attacks::rows;

async fn breaches_of_the_matrix(guard: &str) -> Vec<String> {
    let home = TestApp::shared().await;
    let app = TestApp::builder().beside(home).guards(Guards::all_but(guard)).start().await;
    let (acme, globex) = (Party::new(home, "acme").await, Party::new(home, "globex").await);
    matrix::run(home, &app, &acme, &globex).await.breaches
}

#[actix_web::test]
async fn without_the_binding_of_keys_the_matrix_is_red() {
    let breaches = breaches_of_the_matrix("key").await;
    let through = |breach: &&String| breach.contains("claiming the victim") && breach.contains("canary");
    assert!(breaches.iter().filter(through).count() > 2, "{breaches:#?}");
}

#[actix_web::test]
async fn without_the_confirmation_of_hints_the_matrix_is_red() {
    let breaches = breaches_of_the_matrix("hints").await;
    assert!(breaches.iter().any(|breach| breach.contains("naming the victim: answered 200")), "{breaches:#?}");
}

#[actix_web::test]
async fn without_the_check_of_typ_the_attack_table_is_red() {
    let home = TestApp::shared().await;
    let (acme, globex) = (home.tenant("acme").await, home.tenant("globex").await);
    let (mine, other) = (forge_of(home, &acme).await, forge_of(home, &globex).await);
    let app = TestApp::builder().beside(home).guards(Guards::all_but("typ")).start().await;
    let mut through = Vec::new();
    for (name, token) in rows(&mine, &other) {
        if app.anonymous().bearing(&token).get("/api/v1/users/me").await.status != 401 {
            through.push(name);
        }
    }
    assert!(through.iter().any(|name| name == "typ \"JWT\""), "{through:?}");
    assert!(through.iter().all(|name| name.contains("typ")), "another guard is missing too: {through:?}");
}

/// Makes the registry lead each of two tenants to the other's database, whole and consistent: role, password and all.
async fn swap(app: &TestApp, one: &Tenant, two: &Tenant) {
    let keys = &app.control().keys;
    let place = |tenant: &Tenant| Place::new("tenants", "password_sealed", tenant.id.uuid());
    let mut resealed = Vec::new();
    for (from, to) in [(one, two), (two, one)] {
        let hex = format!("SELECT encode(password_sealed, 'hex') AS word FROM tenants WHERE id = '{}'", from.id);
        let hex = db::word(app.control_database(), &hex).await;
        let password = keys.open(place(from), &Sealed::from(unhex(&hex))).expect("our own master key");
        let sealed = Vec::from(keys.seal(place(to), &password));
        resealed.push(sealed.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
    }
    let name = |tenant: &Tenant| tenant.database().database.clone();
    let lead = |tenant: &Tenant, database: &str, sealed: &str| {
        format!(
            "UPDATE tenants SET database_name = '{database}', role_name = '{database}', \
             password_sealed = '\\x{sealed}' WHERE id = '{}';",
            tenant.id
        )
    };
    let statements = [
        "BEGIN;".to_owned(),
        format!("UPDATE tenants SET database_name = 'nowhere' WHERE id = '{}';", two.id),
        lead(one, &name(two), &resealed[1]),
        lead(two, &name(one), &resealed[0]),
        "COMMIT;".to_owned(),
    ];
    db::execute(app.control_database(), &statements.concat()).await;
}

#[actix_web::test]
async fn a_database_of_somebody_else_is_noticed_by_its_stamp() {
    let home = TestApp::shared().await;
    let (acme, globex) = (home.tenant("acme").await, home.tenant("globex").await);
    let canary = crate::support::unique("canary-");
    globex.admin().contact(&canary).await;
    let token = acme.admin().token().await;
    let unguarded = TestApp::builder().beside(home).guards(Guards::all_but("stamp")).start().await;
    swap(home, &acme, &globex).await;

    // With the guard: no answer but 503, for a token as for a login, and the connection is closed again.
    let there = acme.anonymous().bearing(&token);
    eventually(seconds(5), "the swap is noticed", async || there.get("/api/v1/users/me").await.status == 503).await;
    let refused = there.get("/api/v1/contacts").await.refused(503, "tenant_database_unavailable");
    assert!(refused.header("retry-after").is_some(), "{refused:?}");
    assert!(!refused.text.contains(&canary));
    acme.log_in_as(globex.email(), globex.password()).await.refused(503, "tenant_database_unavailable");
    let held = format!(
        "SELECT count(*)::text AS word FROM pg_stat_activity \
         WHERE usename IN ('{0}', '{1}') AND application_name LIKE 'tenantry/%'",
        acme.database().database,
        globex.database().database
    );
    let admin = home.server();
    eventually(seconds(5), "no connection stays", async || db::word(&admin, &held).await == "0").await;

    // Without it: somebody of the other tenant walks in at this one's door, and sees their own rows under its name.
    let answer = unguarded.at(&acme).log_in_as(globex.email(), globex.password()).await.expect(200);
    let walked_in = unguarded.anonymous().bearing(answer.data()["accessToken"].as_str().unwrap());
    let served = walked_in.get("/api/v1/contacts").await.expect(200);
    assert!(served.text.contains(&canary), "{served:?}");
    assert_eq!(walked_in.get("/api/v1/tenants/current").await.expect(200).id(), acme.id.to_string());
}
