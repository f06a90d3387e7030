//! A clone holds what the original holds, without what is nobody's business in staging.

use std::fs;

use serde_json::json;
use tenantry::fleet::clone::Step;
use tenantry::testing::TestApp;

use super::scene::{dies, lives_in, with_people_and_contacts};
use crate::support::binary::run;
use crate::support::dir::Dir;
use crate::support::{db, eventually, seconds, unique};

#[actix_web::test]
async fn a_clone_is_the_same_but_for_who_may_come_in() {
    let app = TestApp::shared().await;
    let acme = with_people_and_contacts(app).await;
    let clone = unique("clone");
    let before = db::fingerprint(acme.database()).await;
    let admin = "qa@staging.test";
    let arguments = ["tenant", "clone", acme.slug.as_str(), &clone, "--admin-email", admin, "--output", "json"];
    let made = run(app, &arguments).await.expect(0).json();
    assert_ne!(made["id"], json!(acme.id));
    let there = lives_in(app, &clone).await;
    let contacts = "SELECT md5(string_agg(c::text, '|' ORDER BY c::text)) AS word FROM contacts c";
    assert_eq!(db::word(&there, contacts).await, db::word(acme.database(), contacts).await);
    assert_eq!(db::fingerprint(acme.database()).await, before, "the original is as it was");
    let login = |email: &str, password: &str| json!({"tenant": clone, "email": email, "password": password});
    let nobody = app.anonymous();
    nobody.post("/api/v1/auth/login", login(acme.email(), acme.password())).await.refused(401, "invalid_credentials");
    nobody.post("/api/v1/auth/login", login(admin, made["adminPassword"].as_str().unwrap())).await.expect(200);
    assert_eq!(
        db::word(&there, "SELECT count(*)::text AS word FROM sessions WHERE created_at < now() - interval '1 hour'")
            .await,
        "0"
    );
    let left = app.storage().join("backups").join(acme.id.to_string());
    assert!(!left.exists() || fs::read_dir(left).unwrap().next().is_none(), "its dump is taken away");
    run(app, &arguments).await.expect(4);

    let keeping = unique("clone");
    run(app, &["tenant", "clone", acme.slug.as_str(), &keeping, "--keep-credentials"]).await.expect(0);
    let body = json!({"tenant": keeping, "email": acme.email(), "password": acme.password()});
    nobody.post("/api/v1/auth/login", body).await.expect(200);
}

#[actix_web::test]
async fn masked_it_holds_nobody_s_data() {
    let app = TestApp::shared().await;
    let acme = app.tenant("masked").await;
    acme.user().get("/api/v1/users/me").await.expect(200);
    let body = json!({
        "firstName": "Grace", "lastName": "Hopper", "company": "Navy", "title": "Admiral", "notes": "likes bugs",
        "emails": [{"label": "work", "value": "grace@navy.mil"}], "phones": [{"label": "home", "value": "+1 202 555"}],
        "addresses": [{"label": "home", "street": "1 Main St", "city": "Arlington", "country": "US"}], "tags": ["vip"],
    });
    acme.admin().post("/api/v1/contacts", body).await.expect(201);
    let clone = unique("clone");
    run(app, &["tenant", "clone", acme.slug.as_str(), &clone, "--mask", "default"]).await.expect(0);
    let there = lives_in(app, &clone).await;
    let tables = "SELECT table_name::text AS word FROM information_schema.tables WHERE table_schema = 'public'";
    for table in db::words(&there, tables).await {
        for row in db::words(&there, &format!("SELECT t::text AS word FROM public.\"{table}\" t")).await {
            for known in [
                "Grace",
                "Hopper",
                "Navy",
                "navy",
                "Admiral",
                "bugs",
                "202 555",
                "Main St",
                "vip",
                acme.email(),
                "Uma",
                "127.0.0.1",
            ] {
                assert!(!row.contains(known), "{table}: {row} has {known}");
            }
        }
    }
    assert_eq!(
        db::word(&there, "SELECT count(*)::text AS word FROM contacts WHERE jsonb_array_length(emails) = 1").await,
        "1"
    );
    assert_eq!(
        db::word(&there, "SELECT count(DISTINCT email)::text AS word FROM users WHERE email_key = email").await,
        "2"
    );

    // Rules of one's own; one that names what is not there stops it before anything is made.
    let dir = Dir::new();
    let rules = dir.path().join("mask.toml");
    for wrong in ["[contacts]\nnote = \"null\"", "[people]\nname = \"name\"", "[contacts]\nnotes = \"shuffle\""] {
        fs::write(&rules, wrong).unwrap();
        let never = unique("never");
        run(app, &["tenant", "clone", acme.slug.as_str(), &never, "--mask", rules.to_str().unwrap()]).await.expect(4);
        run(app, &["tenant", "show", &never]).await.expect(4);
    }
    fs::write(&rules, r#"{"contacts": {"notes": "null", "company": "hash"}}"#).unwrap();
    let own = unique("clone");
    run(app, &["tenant", "clone", acme.slug.as_str(), &own, "--mask", rules.to_str().unwrap()]).await.expect(0);
    let row = db::word(&lives_in(app, &own).await, "SELECT c::text AS word FROM contacts c").await;
    assert!(row.contains("Grace") && !row.contains("bugs") && !row.contains("Navy"), "{row}");
}

/// What is not there is said of its place, and before anything is made.
#[actix_web::test]
async fn over_rest_a_clone_takes_rules_of_one_s_own() {
    // Its own: workers of other tests would take what waits here.
    let app = TestApp::builder().start().await;
    let (acme, operator, worker) = (app.tenant("ruled").await, app.operator(), app.fleet());
    let body = json!({"firstName": "Grace", "lastName": "Hopper", "company": "Navy", "notes": "likes bugs"});
    acme.admin().post("/api/v1/contacts", body).await.expect(201);
    let path = format!("/api/v1/admin/tenants/{}/clone", acme.slug);
    let never = unique("never");
    for (mask, field, code) in [
        (json!({"contacts": {"note": "null"}}), "mask.contacts.note", "not_found"),
        (json!({"people": "remove"}), "mask.people", "not_found"),
        (json!({"app.notes": {"body": "null"}}), "mask.app.notes", "not_found"),
        (json!({"contacts": {"notes": "shuffle"}}), "mask.contacts.notes", "invalid_type"),
        (json!({"contacts": {"notes": null}}), "mask.contacts.notes", "invalid_type"),
        (json!({"contacts": "keep"}), "mask.contacts", "invalid_type"),
        (json!("none"), "mask", "invalid_type"),
        (json!(["default"]), "mask", "invalid_type"),
    ] {
        let refused = operator.post(&path, json!({"slug": never, "mask": mask})).await;
        assert_eq!(refused.invalid(), [(field.to_owned(), code.to_owned())], "{mask}");
    }
    // A worker has no password to give.
    for admin in [json!({"adminEmail": "qa@staging.test"}), json!({"adminPassword": "an uncommon sentence"})] {
        let mut body = json!({"slug": never});
        body.as_object_mut().unwrap().extend(admin.as_object().unwrap().clone());
        let refused = operator.post(&path, body).await;
        assert_eq!(refused.invalid(), [("adminEmail".to_owned(), "needs_wait".to_owned())], "{admin}");
    }
    operator.get(&format!("/api/v1/admin/tenants/{never}")).await.refused(404, "not_found");

    let own = unique("clone");
    let mask = json!({"contacts": {"notes": "null", "company": "hash"}, "idempotency_records": "remove"});
    let asked = operator.post(&path, json!({"slug": own, "mask": mask})).await.expect(202);
    let location = asked.header("location").expect("where the job is").to_owned();
    eventually(seconds(60), "it is done", async || {
        worker.work().await.expect("the control plane answers");
        operator.get(&location).await.expect(200).data()["state"] == "done"
    })
    .await;
    let row = db::word(&lives_in(&app, &own).await, "SELECT c::text AS word FROM contacts c").await;
    assert!(row.contains("Grace") && !row.contains("bugs") && !row.contains("Navy"), "{row}");
}

/// A column that could hold personal data has a rule, or stands here.
#[actix_web::test]
async fn no_column_of_the_built_in_schema_is_forgotten() {
    const HARMLESS: &[&str] = &[
        "users.status",
        "users.password_hash",
        "roles.name",
        "roles.description",
        "permissions.name",
        "permissions.description",
        "sessions.revoked_reason",
        "sessions.ip",
        "sessions.user_agent",
        "sessions.amr",
        "sessions.known_marks",
        "sessions.known_roles",
        "sessions.known_permissions",
        "idempotency_records.scope",
        "idempotency_records.key",
        "idempotency_records.fingerprint",
        "idempotency_records.headers",
        "idempotency_records.body",
        "refresh_tokens.hash",
        "second_factors.totp_sealed",
        "api_keys.name",
        "api_keys.key_hash",
        "api_keys.previous_hash",
        "api_keys.hint",
        "api_keys.scopes",
        "api_keys.allowed_addresses",
        "api_keys.last_used_ip",
        "recovery_codes.digest",
        "password_history.password_hash",
        "security_policy.password_blocked_words",
        "security_policy.token_claims",
        "teams.name",
        "teams.name_key",
        "teams.description",
        "users.language",
        "mail_settings.language",
        "sign_up_policy.mode",
        "sign_up_policy.domains",
        "mail_templates.name",
        "mail_templates.language",
        "mail_templates.subject",
        "mail_templates.body_text",
        "mail_templates.body_html",
        "oauth_clients.name",
        "oauth_clients.secret_hash",
        "oauth_clients.hint",
        "oauth_clients.previous_hash",
        "oauth_clients.redirect_uris",
        "oauth_clients.grants",
        "oauth_clients.scopes",
        "oauth_consents.scopes",
        "oauth_settings.consent_url",
        "oauth_settings.hydra_admin_url",
        "oauth_settings.hydra_token_sealed",
        "scim_tokens.name",
        "scim_tokens.token_hash",
        "scim_tokens.hint",
        "scim_groups.external_id",
        "token_issuers.name",
        "token_issuers.issuer",
        "token_issuers.audience",
        "token_issuers.jwks_url",
        "token_issuers.secret_sealed",
        "token_issuers.match_by",
        "token_issuers.email_claim",
        "token_issuers.roles_claim",
        "token_issuers.ceiling",
        "token_issuer_roles.word",
        "identity_providers.ceiling",
        "identity_providers.slug",
        "identity_providers.name",
        "identity_providers.kind",
        "identity_providers.issuer",
        "identity_providers.client_id",
        "identity_providers.client_secret_sealed",
        "identity_providers.scopes",
        "identity_providers.redirect_uris",
        "identity_providers.allowed_domains",
        "security_policy.mfa_required_roles",
        "security_policy.captcha_provider",
        "security_policy.captcha_site_key",
        "security_policy.captcha_secret_sealed",
    ];
    let app = TestApp::shared().await;
    let acme = app.tenant("columns").await;
    let columns = "SELECT table_name || '.' || column_name AS word FROM information_schema.columns \
        WHERE table_schema = 'public' AND is_generated = 'NEVER' \
        AND data_type IN ('text', 'jsonb', 'json', 'ARRAY', 'bytea', 'character varying', 'inet') ORDER BY 1";
    let rules = include_str!("../../../config/mask.toml");
    for column in db::words(acme.database(), columns).await {
        let (table, name) = column.split_once('.').unwrap();
        let section = rules.split(&format!("\n[{table}]\n")).nth(1).unwrap_or_default();
        let section = section.split("\n[").next().unwrap_or_default();
        let ruled = section.lines().any(|line| line.split(" = ").next() == Some(name));
        let removed = rules.lines().any(|line| line == format!("{table} = \"remove\""));
        let known = ruled || removed || HARMLESS.contains(&&*column) || column == "refresh_tokens.successor_hash";
        assert!(known, "{column} has no rule in config/mask.toml, and is not known to be harmless");
    }
}

#[actix_web::test]
async fn after_a_crash_at_any_step_a_clone_goes_on() {
    let app = TestApp::shared().await;
    let acme = with_people_and_contacts(app).await;
    let contacts = "SELECT count(*)::text AS word FROM contacts WHERE notes IS NULL AND last_name LIKE 'Name %'";
    for (at, step) in Step::ALL.iter().enumerate() {
        let clone = unique("clone");
        let email = format!("admin@{clone}.test");
        let arguments = [
            "tenant",
            "clone",
            acme.slug.as_str(),
            &clone,
            "--mask",
            "default",
            "--admin-email",
            &email,
            "--output",
            "json",
        ];
        dies(app, &arguments, step.as_str(), at % 2 == 0).await;
        let made = run(app, &arguments).await.expect(0).json();
        assert_eq!(db::word(&lives_in(app, &clone).await, contacts).await, "3", "{step}");
        let body = json!({"tenant": clone, "email": email, "password": made["adminPassword"]});
        app.anonymous().post("/api/v1/auth/login", body).await.expect(200);
    }
}
