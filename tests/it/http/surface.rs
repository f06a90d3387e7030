//! What holds for every operation alike, read off the API's own document: a new one is held to it unasked.

use std::collections::BTreeMap;

use reqwest::Method;
use serde_json::json;
use tenantry::testing::{Persona, TestApp};

use crate::support::matrix::{OPEN, fill_with_nothing};
use crate::support::openapi::{OpenApi, Operation};

/// Who may call an operation.
fn caller(app: &TestApp, admin: &Persona, operation: &Operation) -> Persona {
    if OPEN.contains(&operation.name().as_str()) {
        app.anonymous()
    } else if operation.is_admin() {
        app.operator()
    } else {
        admin.clone()
    }
}

#[actix_web::test]
async fn every_operation_refuses_unknown_parameters() {
    let app = TestApp::shared().await;
    let admin = app.tenant("acme").await.admin();
    let openapi = OpenApi::of(app).await;
    let mut wrong = Vec::new();
    for operation in openapi.operations() {
        let path = format!("{}?surelyUnknown=1", fill_with_nothing(&operation));
        let body = openapi.body(&operation, &BTreeMap::new()).map(|(kind, body)| (kind, body.to_string()));
        let body = body.as_ref().map(|(kind, body)| (kind.as_str(), body.clone()));
        let answer = caller(app, &admin, &operation).send(operation.method.clone(), &path, body).await;
        if (answer.status, answer.code()) != (400, "invalid_query") {
            wrong.push(format!("{}: {} {}", operation.name(), answer.status, answer.code()));
        }
    }
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

#[actix_web::test]
async fn every_body_refuses_unknown_fields_and_what_is_no_json() {
    const JSON: &str = "application/json";
    let app = TestApp::shared().await;
    let admin = app.tenant("acme").await.admin();
    let openapi = OpenApi::of(app).await;
    let (mut wrong, mut bodies) = (Vec::new(), 0);
    for operation in openapi.operations() {
        let documented = openapi.body(&operation, &BTreeMap::new());
        bodies += usize::from(documented.is_some());
        // Where none is taken, what is sent all the same is not ignored either.
        let none = || [Method::POST, Method::PUT].contains(&operation.method).then(|| (JSON.to_owned(), json!({})));
        let Some((kind, mut body)) = documented.or_else(none) else { continue };
        let (who, path) = (caller(app, &admin, &operation), fill_with_nothing(&operation));
        body.as_object_mut().expect("an object").insert("surelyUnknown".into(), json!(true));
        let unknown = who.send(operation.method.clone(), &path, Some((&kind, body.to_string()))).await;
        let named = unknown.body["error"]["errors"].as_array().into_iter().flatten();
        let named = named.filter(|fault| fault["field"] == "surelyUnknown" && fault["code"] == "unknown_field").count();
        if unknown.status != 422 || named != 1 {
            wrong.push(format!("{}: an unknown field: {} {}", operation.name(), unknown.status, unknown.text));
        }
        let malformed = who.send(operation.method.clone(), &path, Some((&kind, "{\"a\":".into()))).await;
        if (malformed.status, malformed.code()) != (400, "malformed_request") {
            wrong.push(format!("{}: no JSON: {} {}", operation.name(), malformed.status, malformed.code()));
        }
        let foreign = who.send(operation.method.clone(), &path, Some(("text/csv", "a,b".into()))).await;
        if (foreign.status, foreign.code()) != (415, "unsupported_media_type") {
            wrong.push(format!("{}: another type: {} {}", operation.name(), foreign.status, foreign.code()));
        }
    }
    assert!(bodies >= 10, "only {bodies} operations take a body");
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

/// Operators are routed to no tenant: where they name one that nothing looks at, they meant something by it.
#[actix_web::test]
async fn the_hint_of_a_tenant_is_none_to_operators() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let (slug, operator) = (acme.slug.as_str(), app.operator());
    let path = format!("/api/v1/admin/tenants/{slug}");
    for name in ["x", slug] {
        operator.get(&format!("{path}?tenant={name}")).await.refused(400, "invalid_query");
        operator.post(&format!("{path}/suspend?tenant={name}"), json!({})).await.refused(400, "invalid_query");
    }
    operator.post(&format!("/api/v1/admin/auth/logout?tenant={slug}"), json!({})).await.refused(400, "invalid_query");
    assert_eq!(operator.get(&path).await.expect(200).data()["status"], "active");
    acme.admin().get(&format!("/api/v1/users/me?tenant={slug}")).await.expect(200);
}

/// A path is what the router makes of it, however it is spelled.
#[actix_web::test]
async fn a_spelling_of_a_path_gets_past_nothing() {
    let app = TestApp::shared().await;
    let admin = app.tenant("acme").await.admin();
    for path in ["/%61pi/v1/users/me", "/api/v1/users/m%65", "/%61%70%69/v1/users/%6D%65"] {
        let me = admin.get(path).await.expect(200);
        assert_eq!(me.header("cache-control"), Some("no-store"), "{me:?}");
        admin.get(&format!("{path}?surelyUnknown=1")).await.refused(400, "invalid_query");
        let other = admin.delete(path).await.refused(405, "method_not_allowed");
        assert!(other.header("allow").is_some_and(|methods| methods.contains("PATCH")), "{other:?}");
    }
    for path in ["//livez", "//api/v1/users/me", "/api//v1/users/me", "/api/v1/users%2Fme"] {
        admin.get(path).await.refused(404, "not_found");
    }
}

/// Every list takes a size, a cursor and `includeTotal`, and says so.
#[actix_web::test]
async fn every_list_is_read_in_pages() {
    let app = TestApp::shared().await;
    let admin = app.tenant("acme").await.admin();
    let openapi = OpenApi::of(app).await;
    let (mut wrong, mut lists) = (Vec::new(), 0);
    for operation in openapi.operations().into_iter().filter(|operation| openapi.is_list(operation)) {
        lists += 1;
        let documented = openapi.query(&operation);
        for name in ["pageSize", "cursor", "includeTotal"] {
            if !documented.iter().any(|known| known == name) {
                wrong.push(format!("{}: {name} is not documented", operation.name()));
            }
        }
        let (who, path) = (caller(app, &admin, &operation), fill_with_nothing(&operation));
        let answer = who.get(&format!("{path}?pageSize=1&includeTotal=true")).await;
        let forged = who.get(&format!("{path}?cursor=x")).await;
        // What is in something that is not there is not there either.
        if answer.status == 404 && !operation.parameters().is_empty() {
            continue;
        }
        let page = &answer.body["meta"]["pagination"];
        if answer.status != 200 || page["pageSize"] != json!(1) || !page["total"].is_number() {
            wrong.push(format!("{}: {} {page}", operation.name(), answer.status));
        }
        if (forged.status, forged.code()) != (400, "cursor_invalid") {
            wrong.push(format!("{}: a forged cursor: {} {}", operation.name(), forged.status, forged.code()));
        }
    }
    assert!(lists >= 25, "only {lists} are lists");
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

/// PostgreSQL keeps no NUL: what is named by one is not there, what is asked with one is refused, and nothing breaks.
#[actix_web::test]
async fn no_operation_breaks_at_a_nul() {
    let app = TestApp::shared().await;
    let admin = app.tenant("acme").await.admin();
    let openapi = OpenApi::of(app).await;
    let (mut wrong, mut asked) = (Vec::new(), 0);
    for operation in openapi.operations() {
        let who = caller(app, &admin, &operation);
        let body = openapi.body(&operation, &BTreeMap::new()).map(|(kind, body)| (kind, body.to_string()));
        let body = body.as_ref().map(|(kind, body)| (kind.as_str(), body.clone()));
        let mut tried = Vec::new();
        for at in 0..operation.parameters().len() {
            let mut path = operation.path.clone();
            for (n, (_, name)) in operation.parameters().iter().enumerate() {
                let value = if n == at { "a%00b" } else { "01890000-0000-7000-8000-000000000000" };
                path = path.replacen(&format!("{{{name}}}"), value, 1);
            }
            tried.push((path, body.clone(), operation.is_admin().then_some(404)));
        }
        for name in openapi.query(&operation) {
            let path = format!("{}?{name}=a%00b", fill_with_nothing(&operation));
            tried.push((path, body.clone(), operation.is_admin().then_some(400)));
        }
        if let Some((kind, given)) = openapi.body(&operation, &BTreeMap::new()) {
            for (name, _) in given.as_object().expect("an object").iter().filter(|(_, value)| value.is_string()) {
                let mut given = given.clone();
                given[name] = json!("a\u{0}b");
                let path = fill_with_nothing(&operation);
                let answer = who.send(operation.method.clone(), &path, Some((&kind, given.to_string()))).await;
                if answer.status != 422 {
                    wrong.push(format!("{}: {name}: {} {}", operation.name(), answer.status, answer.code()));
                }
            }
        }
        for (path, body, expected) in tried {
            asked += 1;
            let answer = who.send(operation.method.clone(), &path, body).await;
            if answer.status >= 500 || expected.is_some_and(|status| answer.status != status) {
                wrong.push(format!("{} {path}: {} {}", operation.method, answer.status, answer.code()));
            }
        }
    }
    assert!(asked >= 50, "only {asked} were asked");
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

/// Who is asking comes before what they ask: a stranger learns nothing from how a bad body is refused.
#[actix_web::test]
async fn nobody_is_told_about_their_body_before_they_are_known() {
    let app = TestApp::shared().await;
    let openapi = OpenApi::of(app).await;
    for operation in openapi.operations().into_iter().filter(|operation| !OPEN.contains(&operation.name().as_str())) {
        let path = fill_with_nothing(&operation);
        for body in [("application/json", "{"), ("text/csv", "a,b"), ("application/json", "{\"surelyUnknown\":1}")] {
            let body = Some((body.0, body.1.to_owned()));
            app.anonymous().send(operation.method.clone(), &path, body).await.refused(401, "unauthenticated");
        }
    }
}
