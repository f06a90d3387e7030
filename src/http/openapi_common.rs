//! What the document says of all operations alike, said in one place: answers to bodies that cannot be read, and which
//! values the parameters take that many of them have.

use serde_json::json;
use utoipa::openapi::content::ContentBuilder;
use utoipa::openapi::path::{Operation, Parameter, PathItem};
use utoipa::openapi::{OpenApi, Ref, RefOr, ResponseBuilder, Schema};

/// Answers that any operation with a body may give.
const OF_BODIES: [(&str, &str); 4] = [
    ("400", "The body is not JSON"),
    ("413", "The body is too large"),
    ("415", "The body is of another media type"),
    ("422", "Some fields are not valid"),
];

/// Answers that any operation of directories may give.
const OF_DIRECTORIES: [(&str, &str); 9] = [
    ("400", "What is sent cannot be read, or not be taken"),
    ("401", "No token, or a bad, expired or revoked one"),
    ("403", "The token's owner may not do that"),
    ("404", "There is nothing here, or nothing the directory may know of"),
    ("409", "`uniqueness`: somebody has this name or address, or it would leave nobody in charge"),
    ("412", "It has changed since it was read"),
    ("413", "The body is too large"),
    ("415", "The body is of another media type"),
    ("503", "The tenant or its database cannot serve now; see `Retry-After`"),
];

/// Completes every operation.
pub(super) fn complete(document: &mut OpenApi) {
    for (path, item) in &mut document.paths.paths {
        if path.starts_with("/scim/") {
            operations(item).for_each(complete_for_directories);
        } else {
            operations(item).for_each(complete_one);
        }
    }
}

/// Errors are the standard's; what fails before the handler comes as everywhere.
fn complete_for_directories(operation: &mut Operation) {
    let error = json!({
        "type": "object",
        "required": ["schemas", "status", "detail"],
        "properties": {
            "schemas": {"type": "array", "items": {"type": "string"}},
            "status": {"type": "string", "pattern": "^[45][0-9]{2}$"},
            "scimType": {"type": "string"},
            "detail": {"type": "string"},
        },
    });
    let error: Option<RefOr<Schema>> = serde_json::from_value(error).ok();
    for (status, description) in OF_DIRECTORIES {
        let ours = Ref::from_schema_name("ErrorEnvelope");
        let response = ResponseBuilder::new()
            .description(description)
            .content("application/scim+json", ContentBuilder::new().schema(error.clone()).build())
            .content("application/json", ContentBuilder::new().schema(Some(ours)).build());
        operation.responses.responses.insert(status.to_owned(), RefOr::T(response.build()));
    }
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    let PathItem { get, post, put, patch, delete, .. } = item;
    [get, post, put, patch, delete].into_iter().flatten()
}

fn complete_one(operation: &mut Operation) {
    if operation.request_body.is_some() {
        for (status, description) in OF_BODIES {
            let error = Ref::from_schema_name("ErrorEnvelope");
            let response = ResponseBuilder::new()
                .description(description)
                .content("application/json", ContentBuilder::new().schema(Some(error)).build());
            operation.responses.responses.entry(status.to_owned()).or_insert_with(|| RefOr::T(response.build()));
        }
    }
    for parameter in operation.parameters.iter_mut().flatten() {
        if let RefOr::T(parameter) = parameter {
            restrict(parameter);
        }
    }
}

/// Says which values a parameter takes that many operations have.
fn restrict(parameter: &mut Parameter) {
    let values = match parameter.name.as_str() {
        "Idempotency-Key" => {
            json!({"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]([ -~]*[!-~])?$"})
        }
        "If-Match" => json!({"type": "string", "pattern": r#"^(\*|"[0-9]{1,18}"(, ?"[0-9]{1,18}"){0,15})$"#}),
        "pageSize" => json!({"type": "integer", "format": "int32", "minimum": 1, "maximum": 100, "default": 20}),
        "page" => json!({"type": "integer", "format": "int32", "minimum": 1, "maximum": 10_000}),
        _ => return,
    };
    parameter.schema = serde_json::from_value(values).ok();
}
