//! Tenants that are behind this program's schema, or ahead of it.

use diesel_async::SimpleAsyncConnection as _;
use serde_json::json;
use tenantry::testing::{Tenant, TestApp};

use crate::fleet::scene::lives_in;
use crate::support::binary::run;
use crate::support::dir::Dir;
use crate::support::oauth::App;
use crate::support::{db, eventually, identity, seconds, unique};

/// Takes away what `V23__asked.sql` and `V25__rights_of_sessions.sql` add.
const SINCE_ASKED: &str = "ALTER TABLE sessions DROP COLUMN known_marks, DROP COLUMN known_roles, DROP COLUMN known_permissions; \
                             ALTER TABLE oauth_requests DROP COLUMN max_age, DROP COLUMN prompt; \
                             ALTER TABLE passkey_ceremonies DROP COLUMN network, DROP COLUMN site; \
                             DROP INDEX passkey_ceremonies_expires_at_idx; \
                             ALTER TABLE federation_states DROP COLUMN network, DROP COLUMN site; ";

/// Takes a tenant back to `V1__identity.sql`, as the control plane knows it too.
async fn take_back(app: &TestApp, tenant: &Tenant) {
    let undo = "DROP FUNCTION note_address() CASCADE; DROP TABLE address_news; \
                 ALTER TABLE invitations DROP COLUMN shown; \
                 DROP FUNCTION forget_people() CASCADE; DROP TABLE oauth_refresh_tokens, oauth_codes, oauth_grants, oauth_requests, \
                 oauth_consents, oauth_clients, oauth_settings; DROP TABLE scim_groups, scim_users, scim_tokens, token_issuer_roles, token_issuers, \
                federated_challenges, federation_states, social_accounts, identity_providers; \
                DROP TABLE email_changes, account_tokens, registrations, sign_up_policy; \
                ALTER TABLE users DROP COLUMN email_verified_at, DROP COLUMN person_id, DROP COLUMN person_from; DROP TABLE mail_outbox, mail_templates, mail_settings; \
                ALTER TABLE users DROP COLUMN language; DROP FUNCTION roles_of(uuid), teams_above(uuid); \
                DROP TABLE team_roles, team_members, teams, password_history, api_keys, security_policy, \
                trusted_devices, mfa_challenges, recovery_codes, second_factors; \
                DROP FUNCTION mark_rights_of_people(), mark_rights_of_roles() CASCADE; DROP TABLE roles_mark; \
                ALTER TABLE users DROP COLUMN rights_mark; DROP TABLE contacts; DROP FUNCTION contact_tags_text; DROP TABLE audit; \
                DROP TABLE login_suspicions, passkey_ceremonies, passkeys; DROP INDEX login_attempts_failed_at_idx; \
                ALTER TABLE login_attempts DROP COLUMN kind, DROP COLUMN network, DROP COLUMN lane; \
                DELETE FROM permissions WHERE name ~ '^(security|api-keys|teams|mail|identity-providers|token-issuers|scim-tokens|oauth):' OR name = 'roles:write'; \
                ALTER TABLE sessions DROP COLUMN known_marks, DROP COLUMN known_roles, DROP COLUMN known_permissions; \
                DELETE FROM tenantry.schema_history WHERE version > 1";
    db::execute(tenant.database(), undo).await;
    is_known_at(app, tenant, 1).await;
}

/// Says in the control plane which version a tenant is at, until the node knows.
async fn is_known_at(app: &TestApp, tenant: &Tenant, version: i32) {
    let known = format!(
        "UPDATE tenants SET schema_version = {version}, migrations_hash = NULL, epoch = epoch + 1 WHERE id = '{}'",
        tenant.id
    );
    db::execute(app.control_database(), &known).await;
    let known = async || app.router().tenant(tenant.id).await.is_ok_and(|tenant| tenant.schema_version == version);
    eventually(seconds(5), "the node knows", known).await;
}

#[actix_web::test]
async fn a_request_that_needs_more_waits_for_its_tenant_s_migration() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let admin = acme.admin();
    admin.signed_in().await;
    take_back(app, &acme).await;
    admin.get("/api/v1/users/me").await.expect(200);
    assert_eq!(app.router().tenant(acme.id).await.unwrap().schema_version, 1, "what needs no more waits for nothing");
    let asked = futures_util::future::join_all((0..3).map(|_| admin.get("/api/v1/contacts"))).await;
    asked.into_iter().for_each(|answer| drop(answer.expect(200)));
    admin.contact("Lovelace").await;
    let at = format!(
        "SELECT (schema_version > 1 AND migrations_hash IS NOT NULL)::text AS word FROM tenants WHERE id = '{}'",
        acme.id
    );
    assert_eq!(db::word(app.control_database(), &at).await, "true");
}

/// The right to do something may come with the schema that has it.
#[actix_web::test]
async fn a_right_that_comes_with_a_migration_is_waited_for() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let admin = acme.admin();
    admin.signed_in().await;
    take_back(app, &acme).await;
    admin.get("/api/v1/users/me").await.expect(200);
    admin.post("/api/v1/roles", json!({"name": "new"})).await.expect(201);
}

#[actix_web::test]
async fn where_the_migration_cannot_be_done_the_rest_of_the_tenant_works() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let admin = acme.admin();
    admin.signed_in().await;
    take_back(app, &acme).await;
    // Another runner is at it, and does not come to an end.
    let mut holder = db::open(acme.database()).await;
    let key = i64::from_be_bytes(*b"tenantry");
    holder.batch_execute(&format!("SELECT pg_advisory_lock({key})")).await.unwrap();
    let refused = admin.get("/api/v1/contacts").await;
    assert!(refused.header("retry-after").is_some(), "{refused:?}");
    refused.refused(503, "tenant_schema_outdated");
    admin.get("/api/v1/users").await.expect(200);
    acme.log_in_as(acme.email(), acme.password()).await.expect(200);
    drop(holder);
    eventually(seconds(30), "it was migrated", async || admin.get("/api/v1/contacts").await.status == 200).await;
}

/// The audit of the release before has no column for the request: lines do without until the tenant is migrated.
#[actix_web::test]
async fn a_line_of_the_audit_does_without_the_request_until_there_is_room_for_it() {
    let app = TestApp::builder().start().await;
    let acme = app.tenant("acme").await;
    let admin = acme.another_login().await;
    let undo = "ALTER TABLE audit DROP COLUMN request_id; ALTER TABLE social_accounts DROP COLUMN by_person; \
                DELETE FROM tenantry.schema_history WHERE version > 20";
    db::execute(acme.database(), &format!("{SINCE_ASKED}{undo}")).await;
    is_known_at(&app, &acme, 20).await;
    let make_role = async |request: &str| {
        let role = json!({"name": unique("role"), "permissions": []});
        admin.with("x-request-id", request).post("/api/v1/roles", role).await.expect(201);
    };
    make_role("before").await;
    let lines = "SELECT count(*)::text AS word FROM audit WHERE action = 'role.created'";
    assert_eq!(db::word(acme.database(), lines).await, "1");
    assert_eq!(app.router().tenant(acme.id).await.unwrap().schema_version, 20, "no line waits for a migration");
    run(&app, &["fleet", "migrate"]).await.expect(0);
    let migrated = async || app.router().tenant(acme.id).await.is_ok_and(|tenant| tenant.schema_version > 20);
    eventually(seconds(5), "the node knows that it is migrated", migrated).await;
    make_role("after").await;
    let requests = "SELECT coalesce(request_id, 'none') AS word FROM audit WHERE action = 'role.created' ORDER BY id";
    assert_eq!(db::words(acme.database(), requests).await, ["none", "after"]);
}

/// The links of the release before do not say who made them: their people come in as far as the provider's word goes.
#[actix_web::test]
async fn a_link_is_the_provider_s_word_until_there_is_room_for_its_person_s() {
    let app = identity::app().await;
    let acme = app.tenant("acme").await;
    let undo =
        "ALTER TABLE social_accounts DROP COLUMN by_person; DELETE FROM tenantry.schema_history WHERE version > 21";
    db::execute(acme.database(), &format!("{SINCE_ASKED}{undo}")).await;
    is_known_at(app, &acme, 21).await;
    let made = identity::provider(&acme, "evil", &format!("{}/skew", identity::evil()), json!({})).await;
    let admin = acme.another_login().await;
    let wish = json!({"claims": {"sub": "ada", "email": acme.email()}});
    let links = "/api/v1/users/me/social-accounts";
    let asked = json!({"provider": "evil", "redirectUri": identity::REDIRECT});
    let begun = identity::Begun::of(&admin.post(links, asked).await.expect(200));
    let answer = json!({"state": begun.state, "code": begun.code(&wish)});
    admin.post(&format!("{links}/callback"), answer).await.expect(201);
    let path = format!("/api/v1/identity-providers/{}", made["id"].as_str().unwrap());
    admin.patch(&path, json!({"redirectUris": made["redirectUris"]})).await.expect(200);
    let come = async || {
        let begun = identity::begin(&acme, "evil").await;
        identity::back(&acme.anonymous(), &begun.state, &begun.code(&wish), None).await
    };
    come().await.expect(200);
    let lowered = "UPDATE identity_providers SET ceiling = '{contacts:read}'";
    db::execute(acme.database(), lowered).await;
    come().await.refused(409, "account_link_required");
    assert_eq!(app.router().tenant(acme.id).await.unwrap().schema_version, 21, "no link waits for a migration");
}

/// What an app demands is not dropped where there is no room for it yet: that request waits for the migration, no other does.
#[actix_web::test]
async fn a_request_of_an_app_that_demands_something_waits_for_its_tenant_s_migration() {
    let app = TestApp::builder().start().await;
    let acme = app.tenant("acme").await;
    let client = App::new(&acme, &["openid"], json!({})).await;
    let person = acme.another_login().await;
    let undo = "DELETE FROM tenantry.schema_history WHERE version > 22";
    db::execute(acme.database(), &format!("{SINCE_ASKED}{undo}")).await;
    is_known_at(&app, &acme, 22).await;
    client.code(&person, &[]).await;
    assert_eq!(
        app.router().tenant(acme.id).await.unwrap().schema_version,
        22,
        "what demands nothing waits for nothing"
    );
    let request = client.request(&[("max_age", "60")]).await;
    assert!(app.router().tenant(acme.id).await.unwrap().schema_version > 22);
    let shown = person.get(&format!("/api/v1/oauth/requests/{request}")).await.expect(200);
    assert_eq!(shown.data()["maxAge"], 60);
}

/// What the rules for the built-in schema name and the original has not comes with the copy's migrations. One's own rules fit
/// the original.
#[actix_web::test]
async fn a_clone_of_a_tenant_that_is_behind_is_masked_by_the_rules_for_the_newest_schema() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    take_back(app, &acme).await;
    let dir = Dir::new();
    let rules = dir.path().join("mask.toml");
    std::fs::write(&rules, "contacts = \"remove\"").unwrap();
    let clone = unique("clone");
    let asked = ["tenant", "clone", acme.slug.as_str(), &clone, "--mask"];
    run(app, &[&asked[..], &[rules.to_str().unwrap()]].concat()).await.expect(4);
    run(app, &[&asked[..], &["default"]].concat()).await.expect(0);
    let there = lives_in(app, &clone).await;
    let emails = "SELECT (count(*) > 0 AND bool_and(email LIKE '%@example.invalid'))::text AS word FROM users";
    assert_eq!(db::word(&there, emails).await, "true");
    assert_eq!(db::word(&there, "SELECT count(*)::text AS word FROM contacts").await, "0");
}

/// A release is rolled back: what its successor added stays, and the older one goes on serving.
#[actix_web::test]
async fn a_tenant_that_is_ahead_is_served_and_left_alone() {
    let app = TestApp::builder().start().await;
    let acme = app.tenant("acme").await;
    let ahead = "ALTER TABLE contacts ADD COLUMN fax text; ALTER TABLE users ADD COLUMN nickname text; \
                 INSERT INTO tenantry.schema_history (version, name, checksum) VALUES (999, 'later', '1')";
    db::execute(acme.database(), ahead).await;
    let known = format!(
        "UPDATE tenants SET schema_version = 999, migrations_hash = 'later', epoch = epoch + 1 WHERE id = '{}'",
        acme.id
    );
    db::execute(app.control_database(), &known).await;
    let admin = acme.admin();
    admin.contact("Hopper").await;
    admin.get("/api/v1/contacts").await.expect(200);
    let migrate = ["fleet", "migrate", "--output", "json", "--dry-run"];
    let plan = run(&app, &migrate).await.expect(0).json();
    assert_eq!((&plan["tenants"], &plan["migrations"]), (&json!([]), &json!([])), "{plan}");
    assert_eq!((&plan["total"], &plan["skipped"]), (&json!(1), &json!(1)), "{plan}");
    let report = run(&app, &migrate[..4]).await.expect(0).json();
    assert_eq!((&report["migrated"], &report["skipped"]), (&json!(0), &json!(1)), "{report}");
}
