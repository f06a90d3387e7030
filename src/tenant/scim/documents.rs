//! What SCIM says of itself (RFC 7643, sections 5 to 7).

use actix_web::{HttpRequest, HttpResponse, get};
use serde_json::{Value, json};

use super::answer::{Result, Success, base, list, respond};
use super::asked::MOST;
use super::caller::Caller;
use super::{group, user};

async fn documented(request: &HttpRequest, document: impl FnOnce() -> Value) -> HttpResponse {
    let answer: Result<Success> = match Caller::of(request).await {
        Ok(_) => Ok(Success::Document(document())),
        Err(fault) => Err(fault),
    };
    respond(request, answer)
}

/// What SCIM can do here.
#[utoipa::path(
    tag = "scim",
    responses((status = 200, description = "A ServiceProviderConfig", content_type = "application/scim+json", body = Object)),
    security(("scim" = [])),
)]
#[get("/scim/v2/ServiceProviderConfig")]
pub async fn scim_service_provider_config(request: HttpRequest) -> HttpResponse {
    let document = || {
        json!({
            "schemas": ["urn:ietf:params:scim:schemas:core:2.0:ServiceProviderConfig"],
            "patch": {"supported": true},
            "bulk": {"supported": false, "maxOperations": 0, "maxPayloadSize": 0},
            "filter": {"supported": true, "maxResults": MOST},
            "changePassword": {"supported": false},
            "sort": {"supported": false},
            "etag": {"supported": true},
            "authenticationSchemes": [{
                "type": "oauthbearertoken", "name": "Bearer token", "primary": true,
                "description": "A token of this organisation, made with POST /api/v1/scim-tokens",
            }],
            "meta": {"resourceType": "ServiceProviderConfig",
                "location": format!("{}/ServiceProviderConfig", base(&request))},
        })
    };
    documented(&request, document).await
}

/// The kinds of resources.
#[utoipa::path(
    tag = "scim",
    responses((status = 200, description = "A ListResponse", content_type = "application/scim+json", body = Object)),
    security(("scim" = [])),
)]
#[get("/scim/v2/ResourceTypes")]
pub async fn scim_resource_types(request: HttpRequest) -> HttpResponse {
    let kind = |name: &str, schema: &str| {
        json!({
            "schemas": ["urn:ietf:params:scim:schemas:core:2.0:ResourceType"], "id": name, "name": name,
            "endpoint": format!("/{name}s"), "schema": schema,
            "meta": {"resourceType": "ResourceType", "location": format!("{}/ResourceTypes/{name}", base(&request))},
        })
    };
    documented(&request, || list(vec![kind("User", user::SCHEMA), kind("Group", group::SCHEMA)], 2, 1)).await
}

/// The attributes that are kept.
#[utoipa::path(
    tag = "scim",
    responses((status = 200, description = "A ListResponse", content_type = "application/scim+json", body = Object)),
    security(("scim" = [])),
)]
#[get("/scim/v2/Schemas")]
pub async fn scim_schemas(request: HttpRequest) -> HttpResponse {
    let schema = |id: &str, name: &str, attributes: Value| {
        json!({
            "schemas": ["urn:ietf:params:scim:schemas:core:2.0:Schema"], "id": id, "name": name,
            "attributes": attributes,
            "meta": {"resourceType": "Schema", "location": format!("{}/Schemas/{id}", base(&request))},
        })
    };
    let document = || {
        let user = json!([
            attribute("userName", "string", "readWrite", "server"),
            attribute("externalId", "string", "readWrite", "none"),
            complex(
                "name",
                false,
                json!([
                    attribute("givenName", "string", "readWrite", "none"),
                    attribute("familyName", "string", "readWrite", "none"),
                    attribute("formatted", "string", "readOnly", "none"),
                ])
            ),
            attribute("displayName", "string", "readOnly", "none"),
            attribute("active", "boolean", "readWrite", "none"),
            complex("emails", true, json!([attribute("value", "string", "readWrite", "none")])),
            complex("groups", true, json!([attribute("value", "string", "readOnly", "none")])),
        ]);
        let group = json!([
            attribute("displayName", "string", "immutable", "server"),
            attribute("externalId", "string", "readWrite", "none"),
            complex("members", true, json!([attribute("value", "string", "immutable", "none")])),
        ]);
        list(vec![schema(user::SCHEMA, "User", user), schema(group::SCHEMA, "Group", group)], 2, 1)
    };
    documented(&request, document).await
}

fn attribute(name: &str, kind: &str, mutability: &str, uniqueness: &str) -> Value {
    json!({
        "name": name, "type": kind, "multiValued": false, "required": uniqueness == "server", "caseExact": false,
        "mutability": mutability, "returned": "default", "uniqueness": uniqueness,
    })
}

fn complex(name: &str, several: bool, parts: Value) -> Value {
    json!({
        "name": name, "type": "complex", "multiValued": several, "required": false, "mutability": "readWrite",
        "returned": "default", "uniqueness": "none", "subAttributes": parts,
    })
}
