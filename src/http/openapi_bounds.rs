//! What bodies are validated by, said by the document too. The rules stand at the fields (`#[garde(…)]`); the test
//! `http::bounds` reads them there and compares them with the file that is put into the schemas here, so that document and
//! validation cannot differ.

use serde_json::{Map, Value};
use utoipa::openapi::OpenApi;

/// By schema and property, in the words of JSON Schema. Written by the test.
const BOUNDS: &str = include_str!("openapi_bounds.json");

/// Puts the bounds into the schemas.
pub(super) fn complete(document: &mut OpenApi) {
    let bounds: Map<String, Value> = serde_json::from_str(BOUNDS).unwrap_or_default();
    let Some(components) = document.components.as_mut() else { return };
    for (name, properties) in &bounds {
        let Some(schema) = components.schemas.get_mut(name) else { continue };
        let Ok(mut written) = serde_json::to_value(&*schema) else { continue };
        for (property, bound) in properties.as_object().into_iter().flatten() {
            if let Some(place) = written.pointer_mut(&format!("/properties/{property}")) {
                merge(place, bound);
            }
        }
        if let Ok(bounded) = serde_json::from_value(written) {
            *schema = bounded;
        }
    }
}

fn merge(place: &mut Value, bound: &Value) {
    let Some(members) = bound.as_object() else { return };
    for (member, value) in members {
        match place.get_mut(member) {
            Some(inner) if value.is_object() => merge(inner, value),
            // What is validated holds: of an unsigned number the type alone says that it is not below zero.
            _ => place[member] = value.clone(),
        }
    }
}
