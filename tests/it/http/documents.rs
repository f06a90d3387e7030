//! Documents whose form another standard owns: OpenAPI, JWKS, discovery, and the page that shows the API.

use serde_json::{Value, json};
use tenantry::kernel::Slug;
use tenantry::testing::TestApp;

use crate::support::db;
use crate::support::openapi::OpenApi;

#[actix_web::test]
async fn openapi_is_3_1_and_says_everything() {
    let app = TestApp::shared().await;
    let document = OpenApi::of(app).await.0;
    assert!(document["openapi"].as_str().is_some_and(|version| version.starts_with("3.1")), "{}", document["openapi"]);
    assert!(document["info"]["title"].is_string() && document["info"]["version"].is_string());
    let mut faults = Vec::new();
    for (path, item) in document["paths"].as_object().expect("paths") {
        for (method, operation) in item.as_object().expect("operations") {
            let name = format!("{method} {path}");
            let mut need = |is_so: bool, what: &str| {
                if !is_so {
                    faults.push(format!("{name}: {what}"));
                }
            };
            need(operation["operationId"].is_string(), "no operationId");
            need(operation["tags"].as_array().is_some_and(|tags| !tags.is_empty()), "no tag");
            let said = operation["summary"].as_str().or(operation["description"].as_str());
            need(said.is_some_and(|text| !text.trim().is_empty()), "neither summary nor description");
            let responses = operation["responses"].as_object().cloned().unwrap_or_default();
            let good = |status: &String| status.starts_with('2') || status == "303";
            need(responses.keys().any(good), "no success");
            need(
                responses.values().all(|r| r["description"].as_str().is_some_and(|d| !d.is_empty())),
                "a response without a word",
            );
            // What puts one thing into another says all of it by its address.
            let by_address = method == "put" && responses.contains_key("204");
            if matches!(method.as_str(), "put" | "patch") && !by_address {
                need(operation["requestBody"].is_object(), "no request body");
            }
            let declared: Vec<_> = operation["parameters"].as_array().into_iter().flatten().collect();
            for parameter in path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')) {
                let found =
                    declared.iter().any(|p| p["in"] == "path" && p["name"] == parameter && p["required"] == true);
                need(found, &format!("path parameter {parameter} is not declared"));
            }
        }
    }
    let mut references = Vec::new();
    collect_references(&document, &mut references);
    for reference in references {
        if document.pointer(reference.trim_start_matches('#')).is_none() {
            faults.push(format!("{reference} leads nowhere"));
        }
    }
    let mut ids: Vec<_> = document["paths"]
        .as_object()
        .into_iter()
        .flatten()
        .flat_map(|(_, item)| item.as_object().into_iter().flatten())
        .filter_map(|(_, operation)| operation["operationId"].as_str())
        .collect();
    let count = ids.len();
    ids.sort_unstable();
    ids.dedup();
    if ids.len() != count {
        faults.push(format!("{} operationIds are used twice", count - ids.len()));
    }
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

/// Of every body that is sent, something is shown: a whole one, or what its members are like.
#[actix_web::test]
async fn every_body_has_an_example() {
    let document = OpenApi::of(TestApp::shared().await).await.0;
    let (mut bare, mut seen) = (Vec::new(), 0);
    for (path, item) in document["paths"].as_object().expect("paths") {
        for (method, operation) in item.as_object().expect("operations") {
            for (kind, body) in operation["requestBody"]["content"].as_object().into_iter().flatten() {
                seen += 1;
                let whole = body.get("example").or(body.get("examples")).is_some();
                if kind.contains("json") && !whole && !shows(&document, &body["schema"], 8) {
                    bare.push(format!("{method} {path}: {kind}"));
                }
            }
        }
    }
    assert!(bare.is_empty() && seen > 50, "of {seen} bodies, without an example:\n{}", bare.join("\n"));
}

/// Whether a schema has an example, or what it consists of has one.
fn shows(document: &Value, schema: &Value, depth: usize) -> bool {
    let Some(deeper) = depth.checked_sub(1) else { return false };
    if let Some(reference) = schema["$ref"].as_str() {
        let target = document.pointer(reference.trim_start_matches('#'));
        return target.is_some_and(|target| shows(document, target, deeper));
    }
    let several =
        ["allOf", "oneOf", "anyOf"].into_iter().flat_map(|kind| schema[kind].as_array().into_iter().flatten());
    let members = schema["properties"].as_object().into_iter().flat_map(|members| members.values());
    schema.get("example").or(schema.get("examples")).is_some()
        || several.chain(members).chain(schema.get("items")).any(|part| shows(document, part, deeper))
}

fn collect_references(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            found.extend(members.get("$ref").and_then(Value::as_str).map(str::to_owned));
            members.values().for_each(|member| collect_references(member, found));
        }
        Value::Array(items) => items.iter().for_each(|item| collect_references(item, found)),
        _ => {}
    }
}

#[actix_web::test]
async fn the_contract_s_routes_are_all_there() {
    let app = TestApp::shared().await;
    let document = OpenApi::of(app).await.0;
    let routes = [
        ("/api/v1/auth/register", "post"),
        ("/api/v1/auth/login", "post"),
        ("/api/v1/auth/refresh", "post"),
        ("/api/v1/auth/logout", "post"),
        ("/api/v1/auth/logout-all", "post"),
        ("/api/v1/users/me", "get"),
        ("/api/v1/users", "get post"),
        ("/api/v1/users/{id}", "get put patch delete"),
        ("/api/v1/users/{id}/roles", "post"),
        ("/api/v1/users/{id}/roles/{roleId}", "delete"),
        ("/api/v1/roles", "get"),
        ("/api/v1/permissions", "get"),
        ("/api/v1/contacts", "get post"),
        ("/api/v1/contacts/{id}", "get put patch delete"),
        ("/api/v1/tenants/current", "get"),
        ("/api/v1/admin/auth/login", "post"),
        ("/api/v1/admin/tenants", "get post"),
        ("/api/v1/admin/tenants/{id}", "get patch delete"),
        ("/api/v1/admin/tenants/{id}/suspend", "post"),
        ("/api/v1/admin/tenants/{id}/resume", "post"),
        ("/api/v1/admin/tenants/{id}/archive", "post"),
    ];
    for (path, methods) in routes {
        for method in methods.split(' ') {
            assert!(document["paths"][path][method].is_object(), "{method} {path} is not documented");
        }
    }
}

#[actix_web::test]
async fn a_tenant_publishes_its_keys_and_its_issuer() {
    let app = TestApp::shared().await;
    let (acme, globex) = (app.tenant("acme").await, app.tenant("globex").await);
    let nobody = app.anonymous();
    let jwks = nobody.get(&format!("/t/{}/.well-known/jwks.json", acme.slug)).await.expect(200);
    let key = &jwks.body["keys"][0];
    assert_eq!(
        (&key["kty"], &key["crv"], &key["alg"], &key["use"]),
        (&json!("OKP"), &json!("Ed25519"), &json!("EdDSA"), &json!("sig"))
    );
    assert!(key["x"].is_string() && key["kid"].is_string() && key.get("d").is_none(), "{jwks:?}");
    let header = crate::support::jwt::part(&acme.admin().token().await, 0);
    assert_eq!((&header["kid"], &header["typ"], &header["alg"]), (&key["kid"], &json!("at+jwt"), &json!("EdDSA")));
    let other = nobody.get(&format!("/t/{}/.well-known/jwks.json", globex.slug)).await.expect(200);
    assert_ne!(other.body["keys"][0]["x"], key["x"]);

    let discovery = nobody.get(&format!("/t/{}/.well-known/openid-configuration", acme.slug)).await.expect(200);
    let issuer = format!("http://tenantry.test/t/{}", acme.slug);
    assert_eq!(discovery.body["issuer"], issuer);
    assert_eq!(discovery.body["jwks_uri"], format!("{issuer}/.well-known/jwks.json"));
    assert_eq!(crate::support::jwt::part(&acme.admin().token().await, 1)["iss"], issuer);
    for bare in [&jwks, &discovery] {
        assert!(bare.body.get("success").is_none(), "{bare:?}");
    }
    for name in ["nobody-has-this", "UPPER", "..", "%00"] {
        nobody.get(&format!("/t/{name}/.well-known/jwks.json")).await.expect(404);
        nobody.get(&format!("/t/{name}/.well-known/openid-configuration")).await.expect(404);
    }
}

#[actix_web::test]
async fn the_docs_page_comes_from_here_alone() {
    let app = TestApp::shared().await;
    let nobody = app.anonymous();
    let moved = nobody.get("/docs").await;
    assert!([200, 301, 302, 303, 307, 308].contains(&moved.status), "{moved:?}");
    let page = nobody.get("/docs/").await.expect(200);
    let mut parts: Vec<String> = Vec::new();
    for attribute in ["src=\"", "href=\""] {
        parts.extend(page.text.split(attribute).skip(1).filter_map(|rest| rest.split('"').next()).map(str::to_owned));
    }
    assert!(parts.iter().any(|part| part.ends_with(".js")), "{parts:?}");
    for part in parts {
        assert!(!part.contains("://") && !part.starts_with("//"), "{part} is somebody else's");
        nobody.get(&format!("/docs/{}", part.trim_start_matches("./").trim_start_matches("/docs/"))).await.expect(200);
    }
    let policy = page.header("content-security-policy").expect("a policy");
    assert!(policy.contains("'self'") && !policy.contains("http"), "{policy}");
}

#[actix_web::test]
async fn the_documents_can_be_turned_off() {
    let home = TestApp::shared().await;
    let app = TestApp::builder().beside(home).set("TENANTRY_HTTP__DOCS", "false").start().await;
    for path in ["/openapi.json", "/docs", "/docs/"] {
        app.anonymous().get(path).await.expect(404);
    }
}

/// What the document says a word may be is what the API takes and gives.
#[actix_web::test]
async fn words_are_documented_as_they_are_written() {
    let app = TestApp::shared().await;
    let document = app.anonymous().get("/openapi.json").await.expect(200).body;
    let schemas = document["components"]["schemas"].as_object().expect("schemas");
    let mut seen = 0;
    for (name, schema) in schemas {
        for word in schema["enum"].as_array().into_iter().flatten() {
            let word = word.as_str().expect("a word");
            // JOSE has names of its own (RFC 7518).
            assert!(name == "KeyAlgorithm" || !word.contains(char::is_uppercase), "{name}: {word}");
            seen += 1;
        }
    }
    assert!(seen > 10, "{seen}");
}

/// What the document says a slug may look like is what is taken, to its last character.
#[actix_web::test]
async fn slugs_are_documented_as_they_are_taken() {
    let app = TestApp::shared().await;
    let document = OpenApi::of(app).await.0;
    let pattern = document["components"]["schemas"]["Slug"]["pattern"].as_str().expect("a pattern");
    let (longest, longer, dashed) = ("a".repeat(48), "a".repeat(49), format!("{}-", "a".repeat(47)));
    let words = ["abc", "a-b", "a--b", "a1b", "ab1", "ab", "ab-", "abc-", "-abc", "1abc", "Abc", "a_b", "a.b", ""];
    for slug in words.into_iter().chain([longest.as_str(), &longer, &dashed]) {
        let matches = format!("SELECT ('{slug}' ~ '{pattern}')::text AS word");
        let said = db::word(app.control_database(), &matches).await == "true";
        assert_eq!(said, slug.parse::<Slug>().is_ok(), "{slug:?}");
    }
}
