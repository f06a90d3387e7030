//! The envelope around every answer.

use actix_web::http::StatusCode;
use actix_web::http::header::ContentType;
use actix_web::{HttpMessage, HttpRequest, HttpResponse, HttpResponseBuilder};
use serde::Serialize;
use utoipa::ToSchema;

use super::problem::Problem;

/// The id of a request: on its response, in its log lines, in `meta`. Put into the request's extensions by the
/// server's middleware.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestId(pub String);

impl RequestId {
    /// The id of `request`; empty where no middleware gave it one.
    #[must_use]
    pub fn of(request: &HttpRequest) -> String {
        request.extensions().get::<Self>().map(|id| id.0.clone()).unwrap_or_default()
    }
}

/// What belongs to the answer rather than to the thing.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Meta {
    /// As in the header `x-request-id`.
    pub request_id: String,
}

/// What belongs to the answer rather than to the listed things.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ListMeta {
    /// As in the header `x-request-id`.
    pub request_id: String,
    /// Where this page stands in the list.
    pub pagination: Pagination,
}

/// Where a page stands in its list.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Pagination {
    /// Number of the page from 1, or null on a page that a cursor led to.
    pub page: Option<u32>,
    /// The most items on one page.
    pub page_size: u32,
    /// Whether items follow.
    pub has_next: bool,
    /// Whether items come before.
    pub has_prev: bool,
    /// Leads to the items that follow.
    pub next_cursor: Option<String>,
    /// Leads to the items before.
    pub prev_cursor: Option<String>,
    /// How many items there are; null unless `includeTotal=true`.
    pub total: Option<i64>,
    /// How many pages there are; null unless `includeTotal=true`.
    pub total_pages: Option<i64>,
}

/// A success with one thing in it.
#[derive(Debug, Serialize, ToSchema)]
pub struct Envelope<T> {
    /// Always true.
    pub success: bool,
    /// The thing.
    pub data: T,
    /// Always null.
    pub error: Option<Problem>,
    /// About the answer.
    pub meta: Meta,
}

impl<T: Serialize> Envelope<T> {
    /// Writes the answer, serialised once.
    pub(super) fn respond(request_id: String, builder: &mut HttpResponseBuilder, data: T) -> HttpResponse {
        let body = Self { success: true, data, error: None, meta: Meta { request_id } };
        write(builder, &body)
    }
}

/// A success with a page of a list in it.
#[derive(Debug, Serialize, ToSchema)]
pub struct ListEnvelope<T> {
    /// Always true.
    pub success: bool,
    /// The items of this page.
    pub data: Vec<T>,
    /// Always null.
    pub error: Option<Problem>,
    /// About the answer and the page.
    pub meta: ListMeta,
}

impl<T: Serialize> ListEnvelope<T> {
    pub(super) fn respond(request_id: String, items: Vec<T>, pagination: Pagination) -> HttpResponse {
        let body = Self { success: true, data: items, error: None, meta: ListMeta { request_id, pagination } };
        write(&mut HttpResponse::build(StatusCode::OK), &body)
    }
}

fn write(builder: &mut HttpResponseBuilder, body: &impl Serialize) -> HttpResponse {
    match serde_json::to_vec(body) {
        Ok(bytes) => builder.content_type(ContentType::json()).body(bytes),
        Err(error) => HttpResponse::from_error(crate::error::ApiError::internal(error)),
    }
}
