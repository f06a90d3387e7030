//! Headers on every answer, and the confirming names of a tenant.

use reqwest::Method;
use serde_json::json;
use tenantry::testing::{Answer, Tenant, TestApp};

fn assert_safe(answer: &Answer) {
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{answer:?}");
    assert_eq!(answer.header("x-frame-options"), Some("DENY"), "{answer:?}");
    assert_eq!(answer.header("referrer-policy"), Some("no-referrer"), "{answer:?}");
    let policy = answer.header("content-security-policy").unwrap_or_default();
    for needed in ["default-src 'none'", "base-uri 'none'", "frame-ancestors 'none'"] {
        assert!(policy.split("; ").any(|directive| directive == needed), "{needed}: {answer:?}");
    }
    assert!(answer.header("x-request-id").is_some(), "{answer:?}");
    assert!(answer.header("server").is_none() && answer.header("x-powered-by").is_none(), "{answer:?}");
}

#[actix_web::test]
async fn every_answer_is_safe_to_show() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let (admin, nobody) = (acme.admin(), acme.anonymous());
    let answers = [
        admin.get("/api/v1/users/me").await,
        admin.get("/api/v1/contacts?pageSize=0").await,
        admin.delete("/api/v1/contacts").await,
        admin.send(Method::POST, "/api/v1/contacts", Some(("text/plain", "x".into()))).await,
        nobody.get("/api/v1/users/me").await,
        nobody.get("/nowhere").await,
        nobody.get("/livez").await,
        nobody.get("/readyz").await,
        nobody.get("/openapi.json").await,
        nobody.get(&format!("/t/{}/.well-known/jwks.json", acme.slug)).await,
        nobody.get("/docs/").await,
        nobody.get("/scim/v2/Users").await,
    ];
    answers.iter().for_each(assert_safe);
    for private in [&answers[0], &answers[1], &answers[4], &answers[11]] {
        assert!(private.header("cache-control").is_some_and(|value| value.contains("no-store")), "{private:?}");
    }
    let body = json!({"tenant": acme.slug.as_str(), "email": acme.email(), "password": acme.password()});
    let login = nobody.post("/api/v1/auth/login", body).await.expect(200);
    assert!(login.header("cache-control").is_some_and(|value| value.contains("no-store")), "{login:?}");
}

#[actix_web::test]
async fn other_names_of_the_tenant_only_confirm() {
    let app = TestApp::shared().await;
    let (acme, globex) = (app.tenant("acme").await, app.tenant("globex").await);
    let (slug, other) = (acme.slug.to_string(), globex.slug.to_string());
    let (id, other_id) = (acme.id.to_string(), globex.id.to_string());
    let admin = acme.admin();
    for own in [&slug, &id] {
        admin.with("x-tenant-id", own).get("/api/v1/users/me").await.expect(200);
        admin.get(&format!("/api/v1/users/me?tenant={own}")).await.expect(200);
    }
    admin.with("host", &format!("{slug}.tenantry.test")).get("/api/v1/users/me").await.expect(200);
    let strange = format!("{slug},{other}");
    for name in [&other, &other_id, &strange, &slug.to_uppercase(), "nobody-has-this", "'", "*"] {
        let answer = admin.with("x-tenant-id", name).get("/api/v1/users/me").await;
        assert_eq!((answer.status, answer.code()), (404, "tenant_mismatch"), "{name}: {answer:?}");
    }
    admin.get(&format!("/api/v1/users/me?tenant={other}")).await.refused(404, "tenant_mismatch");
    admin.with("host", &format!("{other}.tenantry.test")).get("/api/v1/users/me").await.refused(404, "tenant_mismatch");
    // All of them have to agree, and a forwarded host counts for nothing.
    let both = admin.with("x-tenant-id", &slug);
    both.get(&format!("/api/v1/users/me?tenant={other}")).await.refused(404, "tenant_mismatch");
    admin.with("x-forwarded-host", &format!("{other}.tenantry.test")).get("/api/v1/users/me").await.expect(200);
}

/// As on the machine of `tenantry dev`, whose public address has no name of its own.
#[actix_web::test]
async fn on_this_machine_tenants_have_names_below_localhost() {
    let home = TestApp::shared().await;
    let (acme, globex) = (home.tenant("acme").await, home.tenant("globex").await);
    let app = TestApp::builder().beside(home).set("TENANTRY_PUBLIC_URL", "http://127.0.0.1:8080").start().await;
    let host = |tenant: &Tenant| format!("{}.localhost:8080", tenant.slug);
    let person = json!({"email": acme.email(), "password": acme.password()});
    let nobody = app.anonymous();
    let answer = nobody.with("host", &host(&acme)).post("/api/v1/auth/login", person).await.expect(200);
    let admin = nobody.bearing(answer.data()["accessToken"].as_str().unwrap());
    admin.with("host", &host(&acme)).get("/api/v1/users/me").await.expect(200);
    admin.with("host", &host(&globex)).get("/api/v1/users/me").await.refused(404, "tenant_mismatch");
}

/// A mismatch is refused before any tenant's database is opened.
#[actix_web::test]
async fn a_mismatch_opens_nothing() {
    let home = TestApp::shared().await;
    let (acme, globex) = (home.tenant("acme").await, home.tenant("globex").await);
    let token = acme.admin().token().await;
    let app = TestApp::builder().beside(home).start().await;
    let opened = app.router().pools().opened();
    let stranger = app.anonymous().bearing(&token).with("x-tenant-id", globex.slug.as_str());
    stranger.get("/api/v1/contacts").await.refused(404, "tenant_mismatch");
    assert_eq!(app.router().pools().opened(), opened);
    assert!(app.router().pools().snapshot(globex.id).is_none());
}

#[actix_web::test]
async fn a_login_names_its_tenant_exactly_once() {
    let app = TestApp::shared().await;
    let (acme, globex) = (app.tenant("acme").await, app.tenant("globex").await);
    let nobody = acme.anonymous();
    let person = json!({"email": acme.email(), "password": acme.password()});
    nobody.post("/api/v1/auth/login", person.clone()).await.refused(400, "tenant_required");
    nobody.with("x-tenant-id", acme.slug.as_str()).post("/api/v1/auth/login", person.clone()).await.expect(200);
    nobody.with("x-tenant-id", &acme.id.to_string()).post("/api/v1/auth/login", person.clone()).await.expect(200);
    let host = format!("{}.tenantry.test", acme.slug);
    nobody.with("host", &host).post("/api/v1/auth/login", person.clone()).await.expect(200);
    let mut named = person;
    named["tenant"] = json!(acme.slug.as_str());
    nobody.post("/api/v1/auth/login", named.clone()).await.expect(200);
    let contrary = nobody.with("x-tenant-id", globex.slug.as_str()).post("/api/v1/auth/login", named).await;
    assert!(contrary.status >= 400, "two names: {contrary:?}");
}

#[actix_web::test]
async fn behind_tls_browsers_are_told_to_stay_there() {
    let home = TestApp::shared().await;
    let plain = home.anonymous().get("/livez").await.expect(200);
    assert_eq!(plain.header("strict-transport-security"), None);
    let app = TestApp::builder().beside(home).set("TENANTRY_PUBLIC_URL", "https://tenantry.test").start().await;
    let secure = app.anonymous().get("/livez").await.expect(200);
    let year = Some("max-age=31536000; includeSubDomains");
    assert_eq!(secure.header("strict-transport-security"), year, "{secure:?}");
    let nowhere = app.anonymous().get("/nowhere").await.expect(404);
    assert_eq!(nowhere.header("strict-transport-security"), year, "{nowhere:?}");
}

/// What a browser asks before it lets a page of another origin call.
async fn preflight(app: &TestApp, origin: &str) -> Answer {
    let asking = app.anonymous().with("origin", origin).with("access-control-request-method", "POST");
    let asking = asking.with("access-control-request-headers", "authorization,content-type,x-api-key");
    asking.send(Method::OPTIONS, "/api/v1/contacts", None).await
}

#[actix_web::test]
async fn no_other_origin_may_call_unless_it_is_named() {
    let home = TestApp::shared().await;
    let allows = |answer: &Answer| answer.header("access-control-allow-origin").map(str::to_owned);
    for origin in ["https://evil.example", "https://app.example.com", "null"] {
        let asked = preflight(home, origin).await;
        assert_eq!((allows(&asked), asked.status), (None, 405), "{asked:?}");
        let told = home.anonymous().with("origin", origin).get("/livez").await.expect(200);
        assert_eq!(allows(&told), None, "{told:?}");
    }
    let named = "https://app.example.com";
    let app = TestApp::builder().beside(home).set("TENANTRY_HTTP__CORS_ORIGINS", named).start().await;
    let asked = preflight(&app, named).await;
    assert_eq!((allows(&asked).as_deref(), asked.status), (Some(named), 200), "{asked:?}");
    assert_eq!(asked.header("access-control-allow-credentials"), Some("true"), "{asked:?}");
    for origin in ["https://evil.example", "http://app.example.com", "https://app.example.com.evil.example", "null"] {
        let asked = preflight(&app, origin).await;
        assert_eq!(allows(&asked), None, "{asked:?}");
    }
}

/// Without these headers a browser keeps a refusal from the page, to which the network looks broken.
#[actix_web::test]
async fn a_page_of_a_named_origin_reads_refusals_too() {
    let home = TestApp::shared().await;
    let named = "https://app.example.com";
    let app = TestApp::builder().beside(home).set("TENANTRY_HTTP__CORS_ORIGINS", named).start().await;
    let acme = home.tenant("acme").await;
    let admin = app.at(&acme).admin();
    let refusals = async |origin: &str| {
        let (admin, nobody) = (admin.with("origin", origin), app.anonymous().with("origin", origin));
        [
            nobody.get("/api/v1/users/me").await.expect(401),
            admin.post("/api/v1/contacts", json!({})).await.expect(422),
            nobody.get("/nowhere").await.expect(404),
        ]
    };
    for told in refusals(named).await {
        assert_eq!(told.header("access-control-allow-origin"), Some(named), "{told:?}");
        assert_eq!(told.header("access-control-allow-credentials"), Some("true"), "{told:?}");
        let shown = told.header("access-control-expose-headers").unwrap_or_default();
        assert!(shown.contains("x-request-id") && shown.contains("retry-after"), "{told:?}");
        assert!(told.header("vary").is_some_and(|vary| vary.to_lowercase().contains("origin")), "{told:?}");
        assert_safe(&told);
        assert_eq!(told.body["error"]["status"], told.status, "{told:?}");
    }
    for told in refusals("https://evil.example").await {
        assert_eq!(told.header("access-control-allow-origin"), None, "{told:?}");
    }
}

/// TRACE would show a script what it must not see of its own request: the cookies.
#[actix_web::test]
async fn trace_is_answered_nowhere() {
    let app = TestApp::shared().await;
    let admin = app.tenant("acme").await.admin();
    for path in ["/api/v1/contacts", "/api/v1/users/me", "/livez", "/nowhere"] {
        for method in [Method::TRACE, "TRACK".parse().expect("a method")] {
            let answer = admin.with("x-secret", "canary").send(method, path, None).await;
            assert!([400, 404, 405].contains(&answer.status), "{answer:?}");
            assert!(!answer.text.contains("canary"), "{answer:?}");
        }
    }
}

/// Load balancers and monitors ask by `HEAD`: it is `GET` without the body.
#[actix_web::test]
async fn head_is_get_without_the_body() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let (admin, nobody) = (acme.admin(), acme.anonymous());
    for (who, path, status) in [
        (&nobody, "/livez", 200),
        (&nobody, "/readyz", 200),
        (&nobody, "/openapi.json", 200),
        (&admin, "/api/v1/contacts", 200),
        (&admin, "/api/v1/contacts?pageSize=0", 400),
        (&nobody, "/api/v1/contacts", 401),
        (&nobody, "/nowhere", 404),
        (&nobody, "/api/v1/auth/login", 405),
    ] {
        let head = who.send(Method::HEAD, path, None).await;
        assert_eq!((head.status, &head.body), (status, &serde_json::Value::Null), "{path}: {head:?}");
        assert_safe(&head);
        let get = who.get(path).await;
        assert_eq!((head.status, head.header("content-type")), (get.status, get.header("content-type")), "{path}");
    }
}
