//! What the API offers, from its own OpenAPI document: which methods an address takes, and which of them take query
//! parameters at all. Paths are looked up as the router matches them, decoded: a spelling is no way past what is refused.

use std::collections::BTreeMap;

use actix_web::body::BoxBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::Method;
use actix_web::middleware::Next;
use actix_web::{Error, HttpRequest, HttpResponse, web};
use url::form_urlencoded;
use utoipa::openapi::RefOr;
use utoipa::openapi::path::{Operation, ParameterIn, PathItem, Paths};

use crate::error::{ApiError, ApiResult, Code, FieldError};
use crate::tenant::scim;

/// The routing hint that every route takes, but for those of operators: they are routed to no tenant.
const TENANT_HINT: &str = "tenant";

/// The addresses of the API.
#[derive(Debug)]
pub(super) struct Surface(Vec<Address>);

#[derive(Debug)]
struct Address {
    /// As the document has it.
    pattern: String,
    segments: Vec<Segment>,
    /// Method, and whether it takes query parameters.
    methods: BTreeMap<&'static str, bool>,
}

#[derive(Debug, PartialEq, Eq)]
enum Segment {
    Word(String),
    Parameter,
}

impl Surface {
    /// Reads it off the document.
    pub(super) fn of(paths: &Paths) -> Self {
        let mut all: Vec<Address> = paths.paths.iter().map(|(path, item)| Address::new(path, item)).collect();
        // `/users/me` before `/users/{id}`.
        all.sort_by_key(|address| address.segments.iter().map(|s| *s == Segment::Parameter).collect::<Vec<_>>());
        Self(all)
    }

    /// With addresses beside the document's, which have no parameters in them and are only read.
    pub(super) fn and(mut self, paths: &[&str]) -> Self {
        let plain = |path: &&str| Address {
            pattern: (*path).to_owned(),
            segments: split(path),
            methods: BTreeMap::from([("GET", true)]),
        };
        self.0.splice(0..0, paths.iter().map(plain));
        self
    }

    /// Whether there is such an address, and it takes the method.
    pub(super) fn offers(&self, method: &Method, path: &str) -> bool {
        let parts: Vec<&str> = relative(path).split('/').collect();
        self.0.iter().any(|address| address.is(&parts) && address.methods.contains_key(method.as_str()))
    }

    fn find(&self, path: &str) -> Option<&Address> {
        let parts: Vec<&str> = relative(path).split('/').collect();
        self.0.iter().find(|address| address.is(&parts))
    }

    /// The methods of an address, as `Allow` lists them. `None` where there is no such address.
    pub(super) fn methods(&self, path: &str) -> Option<String> {
        let address = self.find(path)?;
        let methods = address.methods.keys().flat_map(|&method| match method {
            "GET" => vec![method, "HEAD"],
            _ => vec![method],
        });
        Some(methods.collect::<Vec<_>>().join(", "))
    }
}

fn split(path: &str) -> Vec<Segment> {
    let segment = |part: &str| if part.starts_with('{') { Segment::Parameter } else { Segment::Word(part.to_owned()) };
    relative(path).split('/').map(segment).collect()
}

/// Without the slash that it begins with: `//livez` is another address than `/livez`.
fn relative(path: &str) -> &str {
    path.strip_prefix('/').unwrap_or(path)
}

impl Address {
    fn new(path: &str, item: &PathItem) -> Self {
        let operations = [
            ("GET", &item.get),
            ("POST", &item.post),
            ("PUT", &item.put),
            ("PATCH", &item.patch),
            ("DELETE", &item.delete),
        ];
        let methods = operations
            .into_iter()
            .filter_map(|(method, operation)| Some((method, takes_parameters(operation.as_ref()?))));
        Self { pattern: path.to_owned(), segments: split(path), methods: methods.collect() }
    }

    fn is(&self, parts: &[&str]) -> bool {
        self.segments.len() == parts.len()
            && self.segments.iter().zip(parts).all(|(segment, part)| match segment {
                Segment::Word(word) => word == part,
                Segment::Parameter => !part.is_empty(),
            })
    }
}

/// Whether an operation lists query parameters. Which of them are good, its own extractor says.
fn takes_parameters(operation: &Operation) -> bool {
    operation.parameters.iter().flatten().any(|parameter| match parameter {
        RefOr::T(parameter) => parameter.parameter_in == ParameterIn::Query,
        RefOr::Ref(_) => true,
    })
}

/// The route that a request is for, also of one that was refused before any was looked for.
pub(super) fn route(request: &HttpRequest) -> Option<String> {
    request.match_pattern().or_else(|| {
        let surface = request.app_data::<web::Data<Surface>>()?;
        surface.find(request.match_info().as_str()).map(|address| address.pattern.clone())
    })
}

/// Middleware: `HEAD` is `GET` without the body, which the connection leaves out (RFC 9110, section 9.3.2).
pub(super) async fn head_is_get(
    mut request: ServiceRequest,
    next: Next<BoxBody>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    if request.method() == Method::HEAD {
        request.head_mut().method = Method::GET;
    }
    next.call(request).await
}

/// Where no route matches: 405 with `Allow` if another method would, else 404.
pub(super) async fn nothing_here(request: HttpRequest) -> ApiResult<HttpResponse> {
    let surface = request.app_data::<web::Data<Surface>>();
    match surface.and_then(|surface| surface.methods(request.match_info().as_str())) {
        Some(methods) => Err(ApiError::new(Code::MethodNotAllowed).allow(methods)),
        None if request.match_info().as_str().starts_with(scim::BASE) => Ok(scim::nothing_here(&request)),
        None => Err(ApiError::new(Code::NotFound)),
    }
}

/// Middleware: refuses a method that an address does not take, where a route of another address would take it
/// (`PUT /users/me` is no person with the id `me`); and query parameters, but for the routing hint, where there are none.
pub(super) async fn refuse_what_is_not_offered(
    request: ServiceRequest,
    next: Next<BoxBody>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    if let Some(methods) = other_methods(&request) {
        return Ok(request.error_response(ApiError::new(Code::MethodNotAllowed).allow(methods)));
    }
    match stray(&request) {
        Some(name) => {
            let error = ApiError::new(Code::InvalidQuery)
                .detail(format!("There is no query parameter '{name}' here."))
                .field(FieldError::new(name, "unknown_field", "There is no such parameter."));
            Ok(request.error_response(error))
        }
        None => next.call(request).await,
    }
}

/// What may be done at the address instead.
fn other_methods(request: &ServiceRequest) -> Option<String> {
    let surface = request.app_data::<web::Data<Surface>>()?;
    let address = surface.find(request.match_info().as_str())?;
    let known = address.methods.contains_key(request.method().as_str());
    if known { None } else { surface.methods(request.match_info().as_str()) }
}

fn stray(request: &ServiceRequest) -> Option<String> {
    let query = request.query_string();
    if query.is_empty() {
        return None;
    }
    let address = request.app_data::<web::Data<Surface>>()?.find(request.match_info().as_str())?;
    if *address.methods.get(request.method().as_str())? {
        return None;
    }
    let mut names = form_urlencoded::parse(query.as_bytes()).map(|(name, _)| name);
    let hinted = !address.pattern.starts_with("/api/v1/admin/");
    names.find(|name| !hinted || name != TENANT_HINT).map(|name| name.chars().take(64).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn surface() -> Surface {
        let operation = |parameters: serde_json::Value| json!({"responses": {}, "parameters": parameters});
        let parameter = |name: &str, place: &str| json!({"name": name, "in": place, "required": true});
        let paths = json!({
            "/users/{id}": {
                "get": operation(json!([parameter("id", "path")])),
                "delete": operation(json!([parameter("id", "path")])),
            },
            "/users": {"get": operation(json!([parameter("q", "query")])), "post": operation(json!([]))},
            "/users/me": {"get": operation(json!([]))},
            "/api/v1/admin/tenants/{id}": {"get": operation(json!([parameter("id", "path")]))},
        });
        Surface::of(&serde_json::from_value(paths).unwrap())
    }

    #[test]
    fn lists_the_methods_of_an_address() {
        let surface = surface();
        assert_eq!(surface.methods("/users").as_deref(), Some("GET, HEAD, POST"));
        assert_eq!(surface.methods("/users/1").as_deref(), Some("DELETE, GET, HEAD"));
        assert_eq!(surface.methods("/users/me").as_deref(), Some("GET, HEAD"));
        for nowhere in ["/", "/users/", "/users/1/2", "/user", "//users"] {
            assert_eq!(surface.methods(nowhere), None, "{nowhere}");
        }
    }

    #[test]
    fn a_method_of_another_address_is_not_offered() {
        use actix_web::test::TestRequest;
        let others_of = |method: &str, uri: &str| {
            let request = TestRequest::with_uri(uri).method(method.parse().unwrap());
            other_methods(&request.app_data(web::Data::new(surface())).to_srv_request())
        };
        assert_eq!(others_of("DELETE", "/users/me").as_deref(), Some("GET, HEAD"));
        assert_eq!(others_of("DELETE", "/users/m%65").as_deref(), Some("GET, HEAD"));
        assert_eq!(others_of("DELETE", "/users/1"), None);
        assert_eq!(others_of("GET", "/nowhere"), None);
    }

    #[test]
    fn a_request_that_was_not_routed_has_a_route() {
        use actix_web::test::TestRequest;
        let route_of =
            |uri: &str| route(&TestRequest::with_uri(uri).app_data(web::Data::new(surface())).to_http_request());
        assert_eq!(route_of("/users/7").as_deref(), Some("/users/{id}"));
        assert_eq!(route_of("/users/m%65").as_deref(), Some("/users/me"));
        assert_eq!(route_of("/nowhere"), None);
    }

    #[test]
    fn knows_who_takes_parameters() {
        use actix_web::test::TestRequest;
        let stray_of = |method: &str, uri: &str| {
            let method = method.parse().unwrap();
            let request = TestRequest::with_uri(uri).method(method).app_data(web::Data::new(surface()));
            stray(&request.to_srv_request())
        };
        assert_eq!(stray_of("GET", "/users?anything=1"), None);
        assert_eq!(stray_of("POST", "/users?dry=1").as_deref(), Some("dry"));
        assert_eq!(stray_of("GET", "/users/1?tenant=acme"), None);
        assert_eq!(stray_of("GET", "/us%65rs/me?x=1").as_deref(), Some("x"));
        assert_eq!(stray_of("GET", "/users/1?tenant=acme&x=1").as_deref(), Some("x"));
        assert_eq!(stray_of("GET", "/api/v1/admin/tenants/acme?tenant=x").as_deref(), Some("tenant"));
    }
}
