//! What operators ask for without a body: what is sent all the same is not ignored.

use reqwest::Method;
use serde_json::json;
use tenantry::testing::{Answer, Persona, TestApp};

use super::signup::{PATH, request};
use crate::support::{db, unique};

/// How tenants, jobs and clusters stand.
async fn standing(app: &TestApp) -> Vec<String> {
    let all = "SELECT concat_ws(' ', id, status) AS word FROM tenants \
               UNION ALL SELECT concat_ws(' ', id, state, cancel_requested) FROM operations \
               UNION ALL SELECT concat_ws(' ', name, draining) FROM clusters ORDER BY word";
    db::words(app.control_database(), all).await
}

/// Asks with a member that is not known, and with what is no JSON: neither does anything. With nothing in the body it is done.
async fn strictly(app: &TestApp, operator: &Persona, path: &str) -> Answer {
    let before = standing(app).await;
    let unknown = operator.post(path, json!({"dryRun": true})).await;
    assert_eq!(unknown.invalid(), [("dryRun".to_owned(), "unknown_field".to_owned())], "{path}");
    let malformed = Some(("application/json", "{\"dryRun\":".to_owned()));
    operator.send(Method::POST, path, malformed).await.refused(400, "malformed_request");
    let other = Some(("text/plain", "{}".to_owned()));
    operator.send(Method::POST, path, other).await.refused(415, "unsupported_media_type");
    assert_eq!(standing(app).await, before, "{path}");
    let done = operator.post(path, json!({})).await;
    assert!((200..300).contains(&done.status), "{path}: {done:?}");
    assert_ne!(standing(app).await, before, "{path}");
    done
}

#[actix_web::test]
async fn nothing_is_done_where_something_was_meant_that_is_not_known() {
    // Its own: workers of other tests would take the jobs.
    let app = TestApp::builder().set("TENANTRY_SIGNUP__MODE", "approval").set("TENANTRY_SIGNUP__PER_HOUR", "1000");
    let app = app.start().await;
    app.cluster("other", &app.server()).await;
    let (acme, operator) = (app.tenant_on("local", "acme").await, app.operator());
    let of = |what: &str| format!("/api/v1/admin/tenants/{}/{what}", acme.id);

    for what in ["suspend", "resume", "archive"] {
        strictly(&app, &operator, &of(what)).await.expect(200);
    }
    operator.post(&of("restore"), json!({})).await.expect(200);
    // Many clients name a type where they send nothing.
    for nothing in ["", "null"] {
        let body = Some(("application/json", nothing.to_owned()));
        let job = operator.send(Method::POST, &of("rotate-credentials"), body).await.expect(202);
        operator.post(&format!("/api/v1/admin/jobs/{}/cancel", job.id()), json!({})).await.expect(200);
    }
    for what in ["rotate-credentials", "backups", "erase"] {
        let job = strictly(&app, &operator, &of(what)).await.expect(202);
        strictly(&app, &operator, &format!("/api/v1/admin/jobs/{}/cancel", job.id())).await.expect(200);
    }
    strictly(&app, &operator, "/api/v1/admin/clusters/other/drain").await.expect(202);
    for what in ["rotate-credentials", "verify"] {
        strictly(&app, &operator, &format!("/api/v1/admin/fleet/{what}")).await.expect(202);
    }

    for decision in ["approve", "refuse"] {
        let asked = app.anonymous().post(PATH, request(&unique("waiting"))).await.expect(202);
        let path = format!("/api/v1/admin/sign-ups/{}/{decision}", asked.id());
        strictly(&app, &operator, &path).await.expect(200);
    }
}

#[actix_web::test]
async fn nothing_at_all_and_nothing_in_it_are_two_bodies_to_a_key() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let once = app.operator().with("idempotency-key", &unique("once"));
    let path = format!("/api/v1/admin/tenants/{}/suspend", acme.slug);
    once.send(Method::POST, &path, None).await.expect(200);
    once.post(&path, json!({})).await.refused(422, "idempotency_key_reused");
    let again = once.send(Method::POST, &path, None).await.expect(200);
    assert_eq!(again.header("idempotency-replayed"), Some("true"));
}
