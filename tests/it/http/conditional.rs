//! Versions: ETag, If-None-Match, If-Match.

use serde_json::json;
use tenantry::testing::TestApp;

#[actix_web::test]
async fn versions_guard_against_lost_updates() {
    let app = TestApp::shared().await;
    let admin = app.tenant("acme").await.admin();
    let made = admin.post("/api/v1/contacts", json!({"lastName": "L"})).await.expect(201);
    let path = format!("/api/v1/contacts/{}", made.id());
    let first = made.header("etag").expect("an ETag").to_owned();
    assert!(first.starts_with('"') && first.ends_with('"'), "strong: {first}");
    let read = admin.get(&path).await.expect(200);
    assert_eq!(read.header("etag"), Some(first.as_str()));

    for known in [first.clone(), format!("W/{first}"), format!("\"other\", {first}"), "*".into()] {
        let same = admin.with("if-none-match", &known).get(&path).await.expect(304);
        assert!(same.text.is_empty() && same.header("etag") == Some(first.as_str()), "{same:?}");
    }
    admin.with("if-none-match", "\"other\"").get(&path).await.expect(200);

    let changed = admin.with("if-match", &first).patch(&path, json!({"title": "T"})).await.expect(200);
    let second = changed.header("etag").expect("an ETag").to_owned();
    assert_ne!(first, second);
    admin.with("if-none-match", &first).get(&path).await.expect(200);
    for stale in [first.as_str(), "\"0\"", "W/\"2\"", "nonsense", ""] {
        let stale = admin.with("if-match", stale);
        stale.patch(&path, json!({"title": "U"})).await.refused(412, "version_mismatch");
        stale.put(&path, json!({"lastName": "U"})).await.refused(412, "version_mismatch");
        stale.delete(&path).await.refused(412, "version_mismatch");
    }
    assert_eq!(admin.get(&path).await.expect(200).data()["title"], "T");
    admin.with("if-match", "*").put(&path, json!({"lastName": "V"})).await.expect(200);
    let current = admin.get(&path).await.expect(200).header("etag").expect("an ETag").to_owned();
    admin.with("if-match", &current).delete(&path).await.expect(204);
}

#[actix_web::test]
async fn people_have_versions_too() {
    let app = TestApp::shared().await;
    let admin = app.tenant("acme").await.admin();
    let body = json!({"email": "ada@example.com", "firstName": "Ada", "lastName": "L"});
    let made = admin.post("/api/v1/users", body).await.expect(201);
    let path = format!("/api/v1/users/{}", made.id());
    let tag = admin.get(&path).await.expect(200).header("etag").expect("an ETag").to_owned();
    admin.with("if-none-match", &tag).get(&path).await.expect(304);
    admin.with("if-match", &tag).patch(&path, json!({"firstName": "Augusta"})).await.expect(200);
    admin.with("if-match", &tag).patch(&path, json!({"firstName": "Lost"})).await.refused(412, "version_mismatch");
}
