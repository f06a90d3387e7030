//! What a body may be, and what is said of one that may not.

use reqwest::Method;
use serde_json::json;
use tenantry::testing::TestApp;

#[actix_web::test]
async fn unknown_fields_are_refused_by_name() {
    let app = TestApp::shared().await;
    let admin = app.tenant("acme").await.admin();
    let faults = |name: &str, code: &str| vec![(name.to_owned(), code.to_owned())];
    let answer = admin.post("/api/v1/contacts", json!({"lastName": "L", "isAdmin": true})).await;
    assert_eq!(answer.invalid(), faults("isAdmin", "unknown_field"));
    let nested = json!({"lastName": "L", "emails": [{"label": "work", "value": "a@b.ch", "primary": true}]});
    let answer = admin.post("/api/v1/contacts", nested).await;
    assert_eq!(answer.invalid(), faults("emails[0].primary", "unknown_field"));
    let user = json!({"email": "a@b.ch", "firstName": "a", "lastName": "b", "passwordHash": "x"});
    assert_eq!(admin.post("/api/v1/users", user).await.invalid(), faults("passwordHash", "unknown_field"));
    for field in ["id", "version", "createdAt", "tenantId", "status_", "authVersion"] {
        let me = admin.patch("/api/v1/users/me", json!({field: "x"})).await;
        assert_eq!(me.invalid(), faults(field, "unknown_field"));
    }
    // Every fault is told at once, where they are of the same kind.
    let answer = admin.post("/api/v1/contacts", json!({})).await;
    assert!(!answer.invalid().is_empty());
}

#[actix_web::test]
async fn what_is_no_json_is_malformed() {
    let app = TestApp::shared().await;
    let admin = app.tenant("acme").await.admin();
    for body in ["", "{", "{\"lastName\": }", "lastName=x", "{} {}", "\u{feff}{}", "{\"lastName\": \"\\ud800\"}"] {
        let answer = admin.send(Method::POST, "/api/v1/contacts", Some(("application/json", body.into()))).await;
        assert_eq!((answer.status, answer.code()), (400, "malformed_request"), "{body:?}: {answer:?}");
    }
    for body in ["[]", "null", "\"text\"", "7"] {
        let answer = admin.send(Method::POST, "/api/v1/contacts", Some(("application/json", body.into()))).await;
        assert_eq!((answer.status, answer.code()), (422, "validation_failed"), "{body:?}: {answer:?}");
    }
    let deep = format!("{}{}", "[".repeat(5000), "]".repeat(5000));
    let answer = admin.send(Method::POST, "/api/v1/contacts", Some(("application/json", deep))).await;
    assert!([400, 422].contains(&answer.status), "{answer:?}");
}

#[actix_web::test]
async fn types_and_sizes() {
    let app = TestApp::shared().await;
    let admin = app.tenant("acme").await.admin();
    for kind in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/json; charset=latin1",
        "multipart/form-data; boundary=x",
        "",
    ] {
        let answer = admin.send(Method::POST, "/api/v1/contacts", Some((kind, "{\"lastName\":\"L\"}".into()))).await;
        assert_eq!((answer.status, answer.code()), (415, "unsupported_media_type"), "{kind:?}: {answer:?}");
    }
    let large = json!({"lastName": "L", "notes": "x".repeat(1024 * 1024 + 1)}).to_string();
    let answer = admin.send(Method::POST, "/api/v1/contacts", Some(("application/json", large))).await;
    assert_eq!((answer.status, answer.code()), (413, "payload_too_large"), "{answer:?}");
    let id = admin.contact("Lovelace").await;
    for kind in ["application/json", "application/merge-patch+json", "application/json; charset=utf-8"] {
        let body = Some((kind, json!({"title": kind}).to_string()));
        let answer = admin.send(Method::PATCH, &format!("/api/v1/contacts/{id}"), body).await.expect(200);
        assert_eq!(answer.data()["title"], kind);
    }
    let json_patch = Some(("application/json-patch+json", "[]".to_owned()));
    admin.send(Method::PATCH, &format!("/api/v1/contacts/{id}"), json_patch).await.expect(415);
}

#[actix_web::test]
async fn put_replaces_and_patch_merges() {
    let app = TestApp::shared().await;
    let admin = app.tenant("acme").await.admin();
    let whole = json!({
        "firstName": "Ada", "lastName": "Lovelace", "company": "Engines", "title": "Head", "notes": "n", "tags": ["a", "b"],
        "emails": [{"label": "work", "value": "ada@example.com"}], "phones": [{"label": "home", "value": "+41 44 000 00 00"}],
        "addresses": [{"label": "work", "street": "1 Way", "city": "London", "region": "", "postalCode": "N1", "country": "GB"}],
    });
    let made = admin.post("/api/v1/contacts", whole.clone()).await.expect(201);
    let path = format!("/api/v1/contacts/{}", made.id());
    assert_eq!(made.header("location"), Some(path.as_str()));
    let patched = admin.patch(&path, json!({"title": null, "tags": ["c"], "company": "Analytics"})).await.expect(200);
    let data = patched.data();
    assert!(data["title"].is_null() && data["tags"] == json!(["c"]) && data["company"] == "Analytics", "{patched:?}");
    assert_eq!((&data["firstName"], &data["emails"]), (&json!("Ada"), &whole["emails"]));
    assert_eq!(data["version"].as_i64(), made.data()["version"].as_i64().map(|version| version + 1));
    let replaced = admin.put(&path, json!({"company": "Alone"})).await.expect(200);
    let data = replaced.data();
    assert!(data["firstName"].is_null() && data["lastName"].is_null() && data["notes"].is_null(), "{replaced:?}");
    assert_eq!((&data["tags"], &data["emails"], &data["company"]), (&json!([]), &json!([]), &json!("Alone")));
    // Neither name nor company is nobody.
    let answer = admin.patch(&path, json!({"company": null})).await;
    assert!(!answer.invalid().is_empty(), "{answer:?}");
    admin.delete(&path).await.expect(204);
    admin.delete(&path).await.refused(404, "not_found");
    admin.get(&path).await.refused(404, "not_found");
    admin.patch(&path, json!({"company": "x"})).await.refused(404, "not_found");
    admin.put(&path, json!({"company": "x"})).await.refused(404, "not_found");
}

/// Objects given as arrays would go past the names of their members.
#[actix_web::test]
async fn an_array_is_no_object() {
    let app = TestApp::shared().await;
    let admin = app.tenant("acme").await.admin();
    admin.patch("/api/v1/security-policy", json!([null, null])).await.expect(422);
    let contact = json!({"lastName": "L", "emails": [["work", "ada@example.com"]]});
    let faults = admin.post("/api/v1/contacts", contact).await.expect(422).invalid();
    assert_eq!(faults[0].0, "emails[0]");
}

#[actix_web::test]
async fn a_duplicate_names_its_field() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let body = json!({"email": acme.email().to_uppercase(), "firstName": "a", "lastName": "b"});
    let answer = acme.admin().post("/api/v1/users", body).await.refused(409, "already_exists");
    assert_eq!(answer.body["error"]["errors"][0]["field"], "email", "{answer:?}");
}
