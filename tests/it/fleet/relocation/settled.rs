//! A move that is taken back or confirmed over REST, as on the command line.

use serde_json::json;
use tenantry::fleet::relocate::Step;

use super::{CONTACTS, Ground, is_moved};
use crate::support::{db, unique};

#[actix_web::test]
async fn a_move_is_taken_back_and_confirmed_over_rest() {
    let ground = Ground::new().await;
    let tenant = ground.app.tenant_on("east", "settled").await;
    let operator = ground.app.operator();
    let path = format!("/api/v1/admin/tenants/{}/move", tenant.slug);
    let (abort, confirm) = (json!({"abort": true}), json!({"confirm": true}));
    for (body, field, code) in [
        (json!({"abort": true, "to": "west"}), "to", "ambiguous"),
        (json!({"confirm": true, "to": "west"}), "to", "ambiguous"),
        (json!({"abort": true, "holdDeadlineMs": 30_000}), "holdDeadlineMs", "ambiguous"),
        (json!({"confirm": true, "holdDeadline": "30s"}), "holdDeadline", "ambiguous"),
        (json!({"abort": true, "method": "dump"}), "method", "ambiguous"),
        (json!({"abort": true, "confirm": true}), "confirm", "ambiguous"),
        (json!({"abort": false, "confirm": false}), "to", "required"),
        (json!({}), "to", "required"),
    ] {
        let refused = operator.post(&path, body).await;
        assert_eq!(refused.invalid(), [(field.to_owned(), code.to_owned())], "{refused:?}");
    }
    operator.post(&path, abort.clone()).await.refused(409, "conflict");

    ground.crash(&tenant, &["--to", "west", "--hold-deadline", "60s"], Step::Copy, false).await;
    assert_eq!(ground.there(&tenant).await.1, ["east", "west"]);
    let once = operator.with("idempotency-key", &unique("abort"));
    let aborted = once.post(&path, abort.clone()).await.expect(200);
    assert_eq!(aborted.data()["cluster"], "east");
    assert!(aborted.data().get("copiesDropped").is_none() && aborted.header("etag").is_some(), "{aborted:?}");
    assert_eq!(ground.there(&tenant).await, (vec!["east"], vec!["east"]));
    assert!(ground.leftovers(&tenant).await.is_empty());
    tenant.admin().get(CONTACTS).await.expect(200);
    let again = once.post(&path, abort.clone()).await.expect(200);
    assert_eq!((again.header("idempotency-replayed"), again.data()), (Some("true"), aborted.data()));
    // The process ended before it could keep the answer.
    let lost = "UPDATE request_records SET status = NULL, location = NULL, version = NULL, body = NULL";
    db::execute(ground.app.control_database(), lost).await;
    let again = once.post(&path, abort.clone()).await.expect(200);
    assert_eq!((again.header("idempotency-replayed"), again.header("etag")), (None, aborted.header("etag")));
    assert_eq!((&again.data()["id"], &again.data()["cluster"]), (&aborted.data()["id"], &json!("east")));
    operator.post(&path, abort.clone()).await.refused(409, "conflict");

    is_moved(&ground.moving(&tenant, &["--to", "west"]).await.expect(0).json(), "west");
    assert_eq!(ground.there(&tenant).await, (vec!["west"], vec!["east", "west"]));
    operator.post(&path, abort).await.refused(409, "conflict");
    let confirmed = operator.post(&path, confirm).await.expect(200);
    assert_eq!((&confirmed.data()["cluster"], &confirmed.data()["copiesDropped"]), (&json!("west"), &json!(1)));
    assert_eq!(ground.there(&tenant).await, (vec!["west"], vec!["west"]));
    tenant.admin().get(CONTACTS).await.expect(200);
}
