//! The audit of what operators did: everything that changes something, and what was refused.

use serde_json::json;
use tenantry::testing::TestApp;

use super::operator_access::operator;
use crate::support::binary::run;
use crate::support::{db, eventually, seconds};

#[actix_web::test]
async fn what_was_done_and_what_was_refused_stands_in_the_audit() {
    let app = TestApp::shared().await;
    let tenant = app.tenant("audited").await;
    let (_, email, who) = operator(app, "support", &[]).await;
    let path = format!("/api/v1/admin/tenants/{}", tenant.slug);
    who.with("x-request-id", "audit-me").post(&format!("{path}/suspend"), json!({})).await.expect(200);
    who.delete(&path).await.refused(403, "permission_denied");
    who.get(&path).await.expect(200);
    run(app, &["tenant", "resume", tenant.slug.as_str()]).await.expect(0);
    run(app, &["tenant", "restore", tenant.slug.as_str()]).await.expect(4);

    let audit = app.operator().get(&format!("/api/v1/admin/audit?target={}", tenant.slug)).await.expect(200);
    let seen: Vec<_> = audit.data().as_array().expect("a list").iter().rev().collect();
    let of = |at: usize, field: &str| seen[at][field].as_str().unwrap_or_default().to_owned();
    let told = |at| (of(at, "action"), of(at, "outcome"));
    let word = |action: &str, outcome: &str| (action.to_owned(), outcome.to_owned());
    assert_eq!(told(0), word("POST /api/v1/admin/tenants/{id}/suspend", "done"));
    assert_eq!(
        (of(0, "actor"), of(0, "requestId"), of(0, "address")),
        (email.clone(), "audit-me".into(), "127.0.0.1".into())
    );
    assert_eq!(told(1), word("DELETE /api/v1/admin/tenants/{id}", "refused"));
    assert_eq!(told(2), word("tenant resume", "done"));
    assert!(of(2, "actor").starts_with("cli:"), "{:?}", seen[2]);
    assert_eq!(told(3), word("tenant restore", "refused"));
    assert_eq!(seen.len(), 4, "{seen:?}");
    let printed = run(app, &["operator", "audit", "--actor", &email, "--output", "json"]).await.expect(0).json();
    assert_eq!(printed.as_array().map(Vec::len), Some(2), "{printed}");
}

/// The operator goes away while the action waits for somebody else's transaction.
#[actix_web::test]
async fn an_action_that_nobody_waits_for_any_more_has_failed() {
    let app = TestApp::shared().await;
    let tenant = app.tenant("left").await;
    let (_, _, who) = operator(app, "support", &[]).await;
    let mut holder = db::open(app.control_database()).await;
    let held = format!("SELECT slug::text AS word FROM tenants WHERE slug = '{}' FOR UPDATE", tenant.slug);
    db::words_on(&mut holder, "BEGIN").await;
    db::words_on(&mut holder, &held).await;
    let path = format!("/api/v1/admin/tenants/{}/suspend", tenant.slug);
    let outcome =
        format!("SELECT coalesce(outcome, 'under way') AS word FROM operator_audit WHERE target = '{}'", tenant.slug);
    let asking = actix_web::rt::spawn(async move { who.post(&path, json!({})).await.status });
    let begun = async || db::word(app.control_database(), &outcome).await == "under way";
    eventually(seconds(20), "it is under way", begun).await;
    asking.abort();
    let over = async || db::word(app.control_database(), &outcome).await == "failed";
    eventually(seconds(20), "it is written down as failed", over).await;
    db::words_on(&mut holder, "COMMIT").await;
}

/// Who gave a tenant another signing key can be seen, however it was done.
#[actix_web::test]
async fn the_rotation_of_signing_keys_stands_in_the_audit() {
    let app = TestApp::shared().await;
    let (acme, globex) = (app.tenant("acme").await, app.tenant("globex").await);
    let (_, email, admin) = operator(app, "admin", &[]).await;
    let path = format!("/api/v1/admin/tenants/{}/rotate-keys", acme.slug);
    admin.post(&path, json!({})).await.expect(200);
    run(app, &["tenant", "rotate-keys", globex.slug.as_str(), "--output", "json"]).await.expect(0);
    let noted = async |slug: &str| {
        let noted = format!(
            "SELECT actor || ' ' || action || ' ' || outcome AS word FROM operator_audit WHERE target = '{slug}' ORDER BY at"
        );
        db::words(app.control_database(), &noted).await
    };
    assert_eq!(
        noted(acme.slug.as_str()).await,
        [format!("{email} POST /api/v1/admin/tenants/{{id}}/rotate-keys done")]
    );
    let by_command = noted(globex.slug.as_str()).await;
    assert!(by_command[0].starts_with("cli:") && by_command[0].ends_with(" tenant rotate-keys done"), "{by_command:?}");
}
