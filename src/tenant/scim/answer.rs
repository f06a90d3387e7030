//! Answers as SCIM has them.

use actix_web::http::StatusCode;
use actix_web::http::header::{ETAG, IF_MATCH, LOCATION, RETRY_AFTER, WWW_AUTHENTICATE};
use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::{Value, json};

use crate::error::{ApiError, ApiResult, Code};
use crate::kernel::crypto::{hex, sha256};
use crate::rest::{PublicUrl, has_tag, problem};

/// The type of bodies.
pub(super) const TYPE: &str = "application/scim+json";
const ERROR: &str = "urn:ietf:params:scim:api:messages:2.0:Error";
const LIST: &str = "urn:ietf:params:scim:api:messages:2.0:ListResponse";

/// What went wrong.
#[derive(Debug)]
pub(super) enum Fault {
    /// With a word of RFC 7644, table 9.
    Said(u16, &'static str, String),
    /// As the rest of the product has it.
    Api(ApiError),
}

pub(super) type Result<T> = std::result::Result<T, Fault>;

impl<E: Into<ApiError>> From<E> for Fault {
    fn from(error: E) -> Self {
        Self::Api(error.into())
    }
}

/// 400 `invalidValue`.
pub(super) fn invalid(said: impl Into<String>) -> Fault {
    Fault::Said(400, "invalidValue", said.into())
}

/// 400 `invalidPath`.
pub(super) fn no_path(path: &str) -> Fault {
    Fault::Said(400, "invalidPath", format!("'{}' cannot be changed here.", path.chars().take(100).collect::<String>()))
}

/// 400 `noTarget`: what is to be changed is not there (RFC 7644, section 3.5.2.3).
pub(super) fn no_target(path: &str) -> Fault {
    let path = path.chars().take(100).collect::<String>();
    Fault::Said(
        400,
        "noTarget",
        format!("'{path}' means nothing that is kept: the address is of type work, and primary."),
    )
}

/// 400 `invalidFilter`.
pub(super) fn no_filter() -> Fault {
    Fault::Said(400, "invalidFilter", "The filter cannot be read.".to_owned())
}

impl Fault {
    fn respond(self, request: &HttpRequest) -> HttpResponse {
        let (status, kind, said, error) = match self {
            Self::Said(status, kind, said) => (status, Some(kind), said, None),
            Self::Api(error) => {
                problem::log(&error, request);
                let kind = match error.code() {
                    Code::AlreadyExists => Some("uniqueness"),
                    Code::ValidationFailed => Some("invalidValue"),
                    _ => None,
                };
                // There is no 422 in SCIM.
                let status = if error.code().status() == 422 { 400 } else { error.code().status() };
                let said = error.fields().first().map_or(error.client_detail(), |field| &field.message).to_owned();
                (status, kind, said, Some(error))
            }
        };
        let mut body = json!({"schemas": [ERROR], "status": status.to_string(), "detail": said});
        if let Some(kind) = kind {
            body["scimType"] = json!(kind);
        }
        let mut response = HttpResponse::build(StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST));
        if status == 401 {
            response.insert_header((WWW_AUTHENTICATE, "Bearer"));
        }
        if let Some(after) = error.and_then(|error| error.retry_after_value()) {
            response.insert_header((RETRY_AFTER, after.as_secs().max(1).to_string()));
        }
        response.content_type(TYPE).body(body.to_string())
    }
}

/// A success.
#[derive(Debug)]
pub(super) enum Success {
    /// 200 or 201 with a resource.
    Resource(Value, bool),
    /// 200 with something that has no version.
    Document(Value),
    /// 204.
    Nothing,
}

/// The base of addresses.
pub(super) fn base(request: &HttpRequest) -> String {
    let url = request.app_data::<web::Data<PublicUrl>>().map(|url| url.0.clone()).unwrap_or_default();
    format!("{url}/scim/v2")
}

/// Gives a resource its address and, if it is known, its version.
pub(super) fn dressed(request: &HttpRequest, mut resource: Value, kind: &str, version: Option<String>) -> Value {
    let id = resource["id"].as_str().unwrap_or_default().to_owned();
    resource["meta"]["resourceType"] = json!(kind);
    resource["meta"]["location"] = json!(format!("{}/{kind}s/{id}", base(request)));
    if let Some(version) = version {
        resource["meta"]["version"] = json!(version);
    }
    resource
}

/// The version of a resource: of what it says.
pub(super) fn version(resource: &Value) -> String {
    let digest = sha256(resource.to_string().as_bytes());
    format!("W/\"{}\"", hex(&digest[..8]))
}

/// The versions that the directory has read, from `If-Match`: any of them will do. None where it does not care, or says `*`.
#[derive(Debug)]
pub(super) struct IfMatch(Option<Vec<String>>);

impl IfMatch {
    /// One list, on one line or several (RFC 9110, section 13.1.1).
    pub(super) fn of(request: &HttpRequest) -> Self {
        let lines = request.headers().get_all(IF_MATCH).map(|value| value.to_str().unwrap_or_default());
        let read: Vec<String> = lines.flat_map(|line| line.split(',')).map(|tag| tag.trim().to_owned()).collect();
        let any = read.is_empty() || read == ["*"];
        Self((!any).then_some(read))
    }

    /// Refuses a change of what has another version than was read. To be called when it can change no more.
    pub(super) fn check(&self, current: &str) -> ApiResult<()> {
        match &self.0 {
            Some(read) if !read.iter().any(|tag| tag == current) => Err(ApiError::new(Code::VersionMismatch)),
            _ => Ok(()),
        }
    }
}

/// A list.
pub(super) fn list(resources: Vec<Value>, total: i64, start: i64) -> Value {
    json!({
        "schemas": [LIST], "totalResults": total, "startIndex": start, "itemsPerPage": resources.len(),
        "Resources": resources,
    })
}

/// Writes an answer.
pub(super) fn respond(request: &HttpRequest, result: Result<Success>) -> HttpResponse {
    let (body, mut response) = match result {
        Err(fault) => return fault.respond(request),
        Ok(Success::Nothing) => return HttpResponse::NoContent().finish(),
        Ok(Success::Document(body)) => (body, HttpResponse::Ok()),
        Ok(Success::Resource(body, created)) => {
            let version = body["meta"]["version"].as_str().unwrap_or_default().to_owned();
            if request.method().is_safe() && has_tag(request.headers(), &version) {
                return HttpResponse::NotModified().insert_header((ETAG, version)).finish();
            }
            let mut response = if created { HttpResponse::Created() } else { HttpResponse::Ok() };
            response.insert_header((ETAG, version));
            if created {
                response.insert_header((LOCATION, body["meta"]["location"].as_str().unwrap_or_default().to_owned()));
            }
            (body, response)
        }
    };
    response.content_type(TYPE).body(body.to_string())
}
