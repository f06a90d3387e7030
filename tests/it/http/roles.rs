//! Which operation each role may use, as one committed picture: a change of rights is a change of this file's snapshot.

use serde_json::json;
use tenantry::testing::{Persona, TestApp};

use crate::support::matrix::{OPEN, fill_with_nothing};
use crate::support::openapi::OpenApi;
use crate::support::unique;

#[actix_web::test]
async fn operations_by_role() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let admin = acme.admin();
    let openapi = OpenApi::of(app).await;
    let mut picture = String::new();
    let operations = openapi.operations();
    let operations = operations.iter().filter(|o| !o.is_admin() && !OPEN.contains(&o.name().as_str()));
    for operation in operations {
        let mut line = format!("{:6} {:40}", operation.method.as_str(), operation.path);
        for role in ["admin", "user"] {
            // Somebody new for each: they may log themselves out, or remove themselves.
            let email = format!("{}@example.com", unique(role));
            let body = json!({"email": email, "firstName": "A", "lastName": "B", "password": "an uncommon sentence of five words", "roles": [role]});
            admin.post("/api/v1/users", body).await.expect(201);
            let who: Persona = acme.person(&email, "an uncommon sentence of five words");
            let body = openapi.body(operation, &std::collections::BTreeMap::new());
            let body = body.as_ref().map(|(kind, body)| (kind.as_str(), body.to_string()));
            let answer = who.send(operation.method.clone(), &fill_with_nothing(operation), body).await;
            assert!(answer.status != 401 || answer.code() == "invalid_credentials", "{answer:?}");
            assert!(answer.status < 500, "{answer:?}");
            let may = answer.code() != "permission_denied";
            line.push_str(&format!(" {role}: {:4}", if may { "may" } else { "-" }));
        }
        picture.push_str(line.trim_end());
        picture.push('\n');
    }
    insta::assert_snapshot!(picture);
}

/// `docs/api.md` says of each operation which permission it asks for: that which somebody without any is told.
#[actix_web::test]
async fn the_permissions_of_operations_are_documented() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let email = format!("{}@example.com", unique("nobody"));
    let body =
        json!({"email": email, "firstName": "N", "lastName": "N", "password": "an uncommon sentence of five words"});
    acme.admin().post("/api/v1/users", body).await.expect(201);
    let openapi = OpenApi::of(app).await;
    let mut table = String::from("| Call | Permission |\n|---|---|\n");
    let operations = openapi.operations();
    for operation in operations.iter().filter(|o| !o.is_admin() && !OPEN.contains(&o.name().as_str())) {
        // Each signs in anew: some of them sign out.
        let who = acme.person(&email, "an uncommon sentence of five words");
        let body = openapi.body(operation, &std::collections::BTreeMap::new());
        let body = body.as_ref().map(|(kind, body)| (kind.as_str(), body.to_string()));
        let answer = who.send(operation.method.clone(), &fill_with_nothing(operation), body).await;
        let permission = match answer.code() {
            "permission_denied" => {
                let detail = answer.body["error"]["detail"].as_str().expect("a detail");
                format!("`{}`", detail.split('\'').nth(1).expect("a permission"))
            }
            _ => String::from("–"),
        };
        table.push_str(&format!("| `{}` | {permission} |\n", operation.name()));
    }
    let page = include_str!("../../../docs/api.md");
    let (_, after) = page.split_once("<!-- permissions: ").expect("the mark");
    let (_, after) = after.split_once("-->\n").expect("its end");
    let (shown, _) = after.split_once("<!-- end of permissions -->").expect("the other mark");
    assert_eq!(shown.trim(), table.trim(), "put this into docs/api.md:\n{table}");
}
