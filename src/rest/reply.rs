//! Answers that are a success.

use actix_web::body::BoxBody;
use actix_web::http::header::{ETAG, LOCATION};
use actix_web::{HttpRequest, HttpResponse, Responder};
use serde::Serialize;

use super::envelope::{Envelope, RequestId};
use super::etag::{Versioned, has_tag, tag, tag_of};

/// 200 with the thing in the envelope.
#[derive(Debug)]
pub struct Reply<T>(pub T);

impl<T: Serialize> Responder for Reply<T> {
    type Body = BoxBody;

    fn respond_to(self, request: &HttpRequest) -> HttpResponse {
        Envelope::respond(RequestId::of(request), &mut HttpResponse::Ok(), self.0)
    }
}

/// 200 with the thing and its version, with what changes without it, as a strong `ETag`; 304 for a client that has it.
#[derive(Debug)]
pub struct Tagged<T: Versioned>(pub T);

impl<T: Versioned + Serialize> Responder for Tagged<T> {
    type Body = BoxBody;

    fn respond_to(self, request: &HttpRequest) -> HttpResponse {
        let tag = tag_of(&self.0);
        let reading = request.method().is_safe();
        if reading && has_tag(request.headers(), &tag) {
            return HttpResponse::NotModified().insert_header((ETAG, tag)).finish();
        }
        Envelope::respond(RequestId::of(request), HttpResponse::Ok().insert_header((ETAG, tag)), self.0)
    }
}

/// 201 with what was made.
#[derive(Debug)]
pub struct Created<T> {
    data: T,
    location: Option<String>,
    version: Option<i64>,
}

impl<T> Created<T> {
    /// What was made.
    pub const fn new(data: T) -> Self {
        Self { data, location: None, version: None }
    }

    /// Where it is from now on: the path of `Location`.
    #[must_use]
    pub fn location(mut self, location: impl Into<String>) -> Self {
        self.location = Some(location.into());
        self
    }

    /// Its version, for `ETag`.
    #[must_use]
    pub const fn etag(mut self, version: i64) -> Self {
        self.version = Some(version);
        self
    }
}

impl<T: Serialize> Responder for Created<T> {
    type Body = BoxBody;

    fn respond_to(self, request: &HttpRequest) -> HttpResponse {
        let mut builder = HttpResponse::Created();
        if let Some(location) = self.location {
            builder.insert_header((LOCATION, location));
        }
        if let Some(version) = self.version {
            builder.insert_header((ETAG, tag(version)));
        }
        Envelope::respond(RequestId::of(request), &mut builder, self.data)
    }
}

/// 204.
#[derive(Debug, Clone, Copy)]
pub struct NoContent;

impl Responder for NoContent {
    type Body = BoxBody;

    fn respond_to(self, _: &HttpRequest) -> HttpResponse {
        HttpResponse::NoContent().finish()
    }
}
