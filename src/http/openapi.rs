//! The OpenAPI 3.1 document: what the handlers themselves say, with a head.

use std::sync::LazyLock;

use actix_web::{App, web};
use utoipa::OpenApi as _;
use utoipa::openapi::path::Paths;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::{ComponentsBuilder, OpenApi, Server};
use utoipa_actix_web::AppExt as _;

use super::{app, openapi_bounds, openapi_common};

#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "Tenantry",
        description = "One server, a PostgreSQL database per customer. Every answer comes in an envelope; errors are \
                       RFC 9457 problems with a stable `code`.",
        license(name = "MIT OR Apache-2.0", identifier = "MIT OR Apache-2.0")
    ),
    tags(
        (name = "auth", description = "Signing in and out, as a person of one tenant."),
        (name = "users", description = "People of the tenant."),
        (name = "roles", description = "Roles of the tenant."),
        (name = "teams", description = "People together, with roles that all of them have."),
        (name = "permissions", description = "What roles may allow."),
        (name = "security", description = "What the organisation demands of its people."),
        (name = "api-keys", description = "Keys for programs."),
        (name = "mail", description = "The words of the mails that people get."),
        (name = "invitations", description = "Who is invited to the tenant."),
        (name = "identity-providers", description = "Through whom people sign in besides their passwords."),
        (name = "token-issuers", description = "Whose access tokens are taken besides the tenant's own."),
        (name = "oauth", description = "Apps that people let into their accounts (OAuth 2.1, OpenID Connect)."),
        (name = "scim", description = "Directories that manage people (RFC 7643, RFC 7644)."),
        (name = "contacts", description = "The tenant's address book."),
        (name = "tenants", description = "The tenant itself."),
        (name = "admin", description = "Operators of the installation."),
        (name = "well-known", description = "What verifiers of tokens need."),
        (name = "health", description = "For load balancers."),
    )
)]
struct Head;

/// The document of every installation, but for its address: it is what is compiled in. Made once, as it takes longer than
/// the rest of what a worker begins with.
static DOCUMENT: LazyLock<OpenApi> = LazyLock::new(|| {
    let app = App::new().into_utoipa_app().openapi(head()).configure(app::routes);
    let mut document = app.split_for_parts().1;
    openapi_common::complete(&mut document);
    openapi_bounds::complete(&mut document);
    document
});

/// The document before any route.
fn head() -> OpenApi {
    let mut document = Head::openapi();
    let http = |format: &str, description: &str| {
        let mut scheme = Http::new(HttpAuthScheme::Bearer);
        scheme.bearer_format = Some(format.to_owned());
        scheme.description = Some(description.to_owned());
        SecurityScheme::Http(scheme)
    };
    let key = ApiKeyValue::with_description("X-API-Key", "A program's key to one tenant.");
    document.components = Some(
        ComponentsBuilder::new()
            .security_scheme("bearer", http("JWT", "An access token of a tenant (RFC 9068)."))
            .security_scheme("apiKey", SecurityScheme::ApiKey(ApiKey::Header(key)))
            .security_scheme("scim", http("opaque", "A directory's token to one tenant."))
            .security_scheme("operator", http("JWT", "A token of an operator of the installation."))
            .build(),
    );
    document
}

/// Every address that is documented.
pub(super) fn paths() -> &'static Paths {
    &DOCUMENT.paths
}

/// The whole document, as `/openapi.json` serves it.
#[must_use]
pub fn document(public_url: &str) -> OpenApi {
    let mut document = DOCUMENT.clone();
    document.servers = Some(vec![Server::new(public_url)]);
    document
}

/// The same as JSON.
pub(super) fn json(public_url: &str) -> web::Bytes {
    serde_json::to_vec(&document(public_url)).expect("every key of the document is a string").into()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;

    fn references<'d>(value: &'d Value, found: &mut BTreeSet<&'d str>) {
        match value {
            Value::Object(members) => {
                if let Some(Value::String(target)) = members.get("$ref") {
                    found.insert(target);
                }
                members.values().for_each(|member| references(member, found));
            }
            Value::Array(items) => items.iter().for_each(|item| references(item, found)),
            _ => {}
        }
    }

    #[test]
    fn is_3_1_and_every_reference_leads_somewhere() {
        let document = serde_json::to_value(document("https://t.example")).unwrap();
        assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
        let mut found = BTreeSet::new();
        references(&document, &mut found);
        for target in found {
            let pointer = target.trim_start_matches('#');
            assert!(document.pointer(pointer).is_some(), "{target} leads nowhere");
        }
    }

    #[test]
    fn operations_of_the_api_are_complete() {
        let document = serde_json::to_value(document("https://t.example")).unwrap();
        let tags: BTreeSet<&str> =
            document["tags"].as_array().unwrap().iter().map(|t| t["name"].as_str().unwrap()).collect();
        let mut ids = BTreeSet::new();
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                let name = format!("{method} {path}");
                assert!(
                    ids.insert(operation["operationId"].as_str().unwrap().to_owned()),
                    "operationId of {name} twice"
                );
                let tagged = operation["tags"]
                    .as_array()
                    .is_some_and(|all| all.iter().all(|t| tags.contains(t.as_str().unwrap())));
                assert!(tagged, "{name} has a tag that is not described");
                assert!(operation["summary"].is_string(), "{name} has no summary");
            }
        }
    }
}
