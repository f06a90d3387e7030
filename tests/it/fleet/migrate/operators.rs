//! The same over REST.

use serde_json::json;
use tenantry::testing::TestApp;

use crate::support::{eventually, seconds};

#[actix_web::test]
async fn an_operator_has_the_fleet_migrated_as_a_job() {
    let app = TestApp::builder().start().await;
    app.tenant("acme").await;
    let operator = app.operator();
    let body = json!({"canary": 1, "lockTimeout": "500ms", "only": ["nobody-here"]});
    operator.post("/api/v1/admin/fleet/migrations", body).await.refused(404, "not_found");
    let body = json!({"lockTimeout": "soon"});
    operator.post("/api/v1/admin/fleet/migrations", body).await.refused(422, "validation_failed");
    let answer = operator.post("/api/v1/admin/fleet/migrations", json!({"canary": 1})).await.expect(202);
    let job = answer.header("location").expect("where its progress is seen").to_owned();
    operator.post("/api/v1/admin/fleet/migrations", json!({})).await.refused(409, "conflict");
    let worker = app.fleet();
    eventually(seconds(20), "a worker has done it", async || {
        worker.work().await.expect("work");
        operator.get(&job).await.expect(200).data()["state"] == "done"
    })
    .await;
    let done = operator.get(&job).await.expect(200);
    assert_eq!((&done.data()["result"]["total"], &done.data()["result"]["state"]), (&json!(1), &json!("done")));
    let status = operator.get("/api/v1/admin/fleet/status").await.expect(200);
    assert_eq!((&status.data()["atHead"], &status.data()["total"]), (&json!(1), &json!(1)));
    app.anonymous().get("/api/v1/admin/fleet/status").await.refused(401, "unauthenticated");
}
