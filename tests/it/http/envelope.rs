//! The shape of every answer.

use serde_json::{Value, json};
use tenantry::kernel::UserId;
use tenantry::testing::TestApp;

const NOWHERE: &str = "01890000-0000-7000-8000-000000000000";

#[actix_web::test]
async fn success_and_refusal_have_one_envelope() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let me = acme.admin().get("/api/v1/users/me").await.expect(200);
    assert_eq!(me.body["success"], true);
    assert_eq!(me.body["error"], Value::Null);
    assert_eq!(me.body["meta"]["requestId"].as_str(), me.header("x-request-id"));
    let fields =
        ["id", "tenantId", "email", "firstName", "lastName", "status", "roles", "createdAt", "updatedAt", "version"];
    for field in fields {
        assert!(!me.data()[field].is_null(), "{field} is missing: {me:?}");
    }
    assert_eq!(me.data()["tenantId"], acme.id.to_string());
    assert_eq!(me.data()["roles"], json!(["admin"]));

    let refused = acme.admin().get(&format!("/api/v1/contacts/{NOWHERE}")).await.refused(404, "not_found");
    assert_eq!((&refused.body["success"], &refused.body["data"]), (&json!(false), &Value::Null));
    let error = &refused.body["error"];
    assert_eq!((error["status"].as_u64(), error["requestId"].as_str()), (Some(404), refused.header("x-request-id")));
    for member in ["type", "title", "detail"] {
        assert!(error[member].as_str().is_some_and(|text| !text.is_empty()), "{member}: {refused:?}");
    }
    assert!(error["type"].as_str().is_some_and(|text| text.contains("not_found")), "{refused:?}");
    assert!(error["errors"].is_array(), "{refused:?}");
    assert_eq!(refused.body["meta"]["requestId"], error["requestId"]);
}

#[actix_web::test]
async fn the_problem_comes_bare_where_accept_asks_for_it() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let problems = acme.admin().with("accept", "application/problem+json");
    let refused = problems.post("/api/v1/contacts", json!({"nickname": "x"})).await.expect(422);
    assert_eq!(refused.header("content-type"), Some("application/problem+json"));
    assert_eq!(refused.body["code"], "validation_failed");
    assert_eq!(refused.body["status"], 422);
    assert_eq!(refused.body["errors"][0]["field"], "nickname");
    assert_eq!(refused.body["requestId"].as_str(), refused.header("x-request-id"));
    assert!(refused.body.get("success").is_none(), "{refused:?}");
    // Also for those the framework makes.
    let missing = problems.get("/nowhere").await.expect(404);
    assert_eq!(
        (missing.header("content-type"), &missing.body["code"]),
        (Some("application/problem+json"), &json!("not_found"))
    );
}

#[actix_web::test]
async fn request_ids_are_taken_or_replaced() {
    let app = TestApp::shared().await;
    let nobody = app.anonymous();
    for good in ["a", "A-1_b.c", &"x".repeat(64)] {
        let answer = nobody.with("x-request-id", good).get("/livez").await;
        assert_eq!(answer.header("x-request-id"), Some(good));
    }
    for bad in ["", " ", "a b", "ä", &"x".repeat(65), "a\"b", "<script>", "a/b"] {
        let answer = nobody.with("x-request-id", bad).get("/api/v1/users/me").await.expect(401);
        let id = answer.header("x-request-id").expect("an id").to_owned();
        assert!(id != bad && id.parse::<UserId>().is_ok(), "{bad:?} became {id:?}");
        assert_eq!(answer.body["meta"]["requestId"], json!(id));
    }
}

#[actix_web::test]
async fn addresses_and_methods_that_are_none() {
    let app = TestApp::shared().await;
    let admin = app.tenant("acme").await.admin();
    for path in [
        "/",
        "/api",
        "/api/v1",
        "/api/v1/contact",
        "/api/v1/contacts/",
        "/api/v1/contacts/x/y",
        "/api/v2/contacts",
        "/t/acme",
        "/%00",
        "/api/v1/../v1/contacts/x/y",
    ] {
        let answer = admin.get(path).await;
        assert_eq!((answer.status, answer.code()), (404, "not_found"), "{path}: {answer:?}");
        assert_eq!(answer.body["success"], false);
    }
    let answer = admin.delete("/api/v1/contacts").await.refused(405, "method_not_allowed");
    let allow = answer.header("allow").expect("Allow");
    let mut methods: Vec<_> = allow.split(',').map(str::trim).collect();
    methods.sort_unstable();
    methods.retain(|method| !["HEAD", "OPTIONS"].contains(method));
    assert_eq!(methods, ["GET", "POST"]);
    let answer = admin.get("/api/v1/auth/login").await.refused(405, "method_not_allowed");
    assert!(answer.header("allow").is_some_and(|allow| allow.contains("POST")), "{answer:?}");
    // An id that is none is the same as one that nobody has, or malformed; never a 500.
    for id in ["x", "1", "%27%20OR%201%3D1", "null", &"a".repeat(500)] {
        let answer = admin.get(&format!("/api/v1/contacts/{id}")).await;
        assert!([400, 404].contains(&answer.status) && !answer.code().is_empty(), "{answer:?}");
    }
}

#[actix_web::test]
async fn unauthenticated_answers_challenge() {
    let app = TestApp::shared().await;
    for (method, path) in
        [("GET", "/api/v1/contacts"), ("POST", "/api/v1/auth/logout"), ("GET", "/api/v1/admin/tenants")]
    {
        let answer = app.anonymous().send(method.parse().unwrap(), path, None).await.refused(401, "unauthenticated");
        assert!(answer.header("www-authenticate").is_some_and(|value| value.starts_with("Bearer")), "{answer:?}");
    }
}

#[actix_web::test]
async fn no_answer_tells_what_is_behind() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let admin = acme.admin();
    let long = "x".repeat(5000);
    let answers = [
        admin.get("/api/v1/contacts?q=%27%22%3B%5C%00").await,
        admin.get("/api/v1/contacts?sort=id;DROP").await,
        admin.get("/api/v1/contacts?cursor=%27").await,
        admin.post("/api/v1/contacts", json!({"lastName": "a\u{0}b"})).await,
        admin.post("/api/v1/contacts", json!({"lastName": long})).await,
        admin.post("/api/v1/users", json!({"email": "a\u{0}@example.com", "firstName": "a", "lastName": "b"})).await,
        acme.anonymous().post("/api/v1/auth/login", json!({"tenant": "a\u{0}", "email": "x", "password": "y"})).await,
        acme.anonymous()
            .with("x-tenant-id", "%s%n")
            .post("/api/v1/auth/login", json!({"email": "x", "password": "y"}))
            .await,
    ];
    for answer in answers {
        assert!(answer.status < 500, "{answer:?}");
        let text = answer.text.to_lowercase();
        for word in [
            "select ",
            "insert ",
            "diesel",
            "postgres",
            "127.0.0.1",
            "/src/",
            "panicked",
            "t_0",
            "pg_",
            "syntax error at",
        ] {
            assert!(!text.contains(word), "'{word}' in {answer:?}");
        }
    }
}
