//! What is there when a tenant is made, and what is not when it is gone.

use tenantry::fleet::{AdminPassword, CreateTenant, DeleteTenant, FirstAdmin, Silent};
use tenantry::router::Registration;
use tenantry::testing::{Tenant, TestApp};

use crate::support::{db, eventually, seconds, unique};

fn wanted(slug: &str, admin: Option<FirstAdmin>) -> CreateTenant {
    CreateTenant {
        slug: slug.parse().unwrap(),
        name: None,
        cluster: Some("local".into()),
        registration: None,
        region: None,
        plan: None,
        max_connections: None,
        admin,
    }
}

async fn traces(app: &TestApp, tenant: &Tenant) -> Vec<String> {
    let role = tenant.role();
    let on_the_server = format!(
        "SELECT 'database ' || datname AS word FROM pg_database WHERE datname = '{role}' \
         UNION ALL SELECT 'role ' || rolname FROM pg_roles WHERE rolname = '{role}'"
    );
    let in_the_registry = format!(
        "SELECT 'tenant' AS word FROM tenants WHERE id = '{0}' \
         UNION ALL SELECT 'key' FROM signing_keys WHERE tenant_id = '{0}'",
        tenant.id
    );
    let mut found = db::words(&app.server(), &on_the_server).await;
    found.extend(db::words(app.control_database(), &in_the_registry).await);
    found
}

#[actix_web::test]
async fn a_deleted_tenant_leaves_nothing() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let admin = acme.admin();
    admin.get("/api/v1/contacts").await.expect(200);
    assert_eq!(traces(app, &acme).await.len(), 4);
    let now = DeleteTenant { now: true, ..DeleteTenant::default() };
    assert!(app.fleet().delete(acme.id, now, &Silent).await.unwrap().gone);
    assert_eq!(traces(app, &acme).await, Vec::<String>::new());
    eventually(seconds(2), "its tokens are nobody's", async || admin.get("/api/v1/contacts").await.status == 401).await;
    acme.log_in_as(acme.email(), acme.password()).await.refused(401, "invalid_credentials");
    // The slug is free again, and whoever has it next is somebody else.
    let next = app.fleet().create(&wanted(acme.slug.as_str(), None), &Default::default(), &Silent).await.unwrap();
    assert_ne!(next.tenant.id, acme.id);
    assert_eq!(next.tenant.registration, Registration::Invite, "by itself, a tenant takes whom it invites");
    admin.get("/api/v1/contacts").await.refused(401, "token_invalid");
}

#[actix_web::test]
async fn a_grace_period_keeps_the_data() {
    let app = TestApp::builder().start().await;
    let acme = app.tenant("acme").await;
    let id = acme.admin().contact("Kept").await;
    let fleet = app.fleet();
    let deleted = fleet.delete(acme.id, DeleteTenant::default(), &Silent).await.unwrap();
    assert!(!deleted.gone && deleted.purge_after.is_some());
    assert_eq!(fleet.purge_due().await.unwrap(), 0);
    fleet.restore(acme.id).await.unwrap();
    let back = async || acme.admin().get(&format!("/api/v1/contacts/{id}")).await.status == 200;
    eventually(seconds(2), "restored with its data", back).await;
    fleet.delete(acme.id, DeleteTenant::default(), &Silent).await.unwrap();
    app.clock().advance(chrono::TimeDelta::days(8));
    assert_eq!(fleet.purge_due().await.unwrap(), 1);
    assert_eq!(traces(&app, &acme).await, Vec::<String>::new());
}

#[actix_web::test]
async fn a_slug_has_one_tenant_however_many_ask_at_once() {
    let app = TestApp::shared().await;
    let slug = unique("race");
    let (one, two, three) = (app.fleet(), app.fleet(), app.fleet());
    let wanted = wanted(&slug, None);
    let options = Default::default();
    let results = futures_util::join!(
        one.create(&wanted, &options, &Silent),
        two.create(&wanted, &options, &Silent),
        three.create(&wanted, &options, &Silent)
    );
    let made = [&results.0, &results.1, &results.2].iter().filter(|result| result.is_ok()).count();
    assert!(made >= 1, "{results:?}");
    for error in [&results.0, &results.1, &results.2].iter().filter_map(|result| result.as_ref().err()) {
        assert_eq!(error.code().status(), 409, "{error:?}");
    }
    let count = format!("SELECT count(*)::text AS word FROM tenants WHERE slug = '{slug}' AND status = 'active'");
    assert_eq!(db::word(app.control_database(), &count).await, "1");
}

#[actix_web::test]
async fn a_generated_password_has_to_be_changed_first() {
    use secrecy::ExposeSecret as _;
    use serde_json::json;
    let app = TestApp::shared().await;
    let slug = unique("fresh");
    let admin = FirstAdmin {
        email: "first@example.com".into(),
        password: AdminPassword::Generate,
        first_name: "F".into(),
        last_name: "A".into(),
    };
    let made = app.fleet().create(&wanted(&slug, Some(admin)), &Default::default(), &Silent).await.unwrap();
    let password = made.admin_password.expect("generated").expose_secret().to_owned();
    let nobody = app.anonymous();
    let login = |password: &str| json!({"tenant": slug, "email": "first@example.com", "password": password});
    let answer = nobody.post("/api/v1/auth/login", login(&password)).await.expect(200);
    let admin = nobody.bearing(answer.data()["accessToken"].as_str().unwrap());
    admin.get("/api/v1/users/me").await.expect(200);
    let body = json!({"email": "b@example.com", "firstName": "B", "lastName": "B"});
    admin.post("/api/v1/users", body.clone()).await.refused(403, "password_change_required");
    let change = json!({"currentPassword": password, "newPassword": "a sentence that is mine alone"});
    admin.post("/api/v1/auth/change-password", change).await.ok();
    let answer = nobody.post("/api/v1/auth/login", login("a sentence that is mine alone")).await.expect(200);
    let admin = nobody.bearing(answer.data()["accessToken"].as_str().unwrap());
    admin.post("/api/v1/users", body).await.expect(201);
}

/// The control plane keeps nothing personal, the journal of provisioning included.
#[actix_web::test]
async fn the_control_plane_does_not_know_the_people() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let user = acme.user();
    user.get("/api/v1/users/me").await.expect(200);
    let tables = "SELECT table_name::text AS word FROM information_schema.tables WHERE table_schema = 'public'";
    for table in db::words(app.control_database(), tables).await {
        let rows =
            db::words(app.control_database(), &format!("SELECT t::text AS word FROM public.\"{table}\" t")).await;
        for row in rows {
            assert!(!row.contains(acme.email()) && !row.contains(&format!("user@{}", acme.slug)), "{table}: {row}");
        }
    }
}
