//! What holds for every operation alike, read off the API's own document: a new one is held to it unasked.

use std::collections::BTreeMap;

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
    let app = TestApp::shared().await;
    let admin = app.tenant("acme").await.admin();
    let openapi = OpenApi::of(app).await;
    let (mut wrong, mut bodies) = (Vec::new(), 0);
    for operation in openapi.operations() {
        let Some((kind, mut body)) = openapi.body(&operation, &BTreeMap::new()) else { continue };
        bodies += 1;
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
