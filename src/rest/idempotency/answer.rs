//! What an effect answers, in a form that can be kept and given again.

use actix_web::http::StatusCode;
use actix_web::http::header::{ETAG, LOCATION};
use actix_web::{HttpRequest, HttpResponse};
use serde::Serialize;
use serde_json::Value;

use crate::error::{ApiError, ApiResult};
use crate::rest::envelope::{Envelope, RequestId};
use crate::rest::etag::{Versioned, tag};

const REPLAYED: &str = "idempotency-replayed";

/// What an effect answers, in a form that can be kept and given again.
#[derive(Debug)]
pub struct Answer<T> {
    pub(super) status: StatusCode,
    pub(super) location: Option<String>,
    pub(super) version: Option<i64>,
    pub(super) data: Option<T>,
}

impl<T> Answer<T> {
    /// 200 with `data`.
    pub const fn ok(data: T) -> Self {
        Self { status: StatusCode::OK, location: None, version: None, data: Some(data) }
    }

    /// 201 with what was made.
    pub fn created(data: T) -> Self {
        Self { status: StatusCode::CREATED, ..Self::ok(data) }
    }

    /// 202 with what is under way.
    pub fn accepted(data: T) -> Self {
        Self { status: StatusCode::ACCEPTED, ..Self::ok(data) }
    }

    /// 204.
    #[must_use]
    pub const fn no_content() -> Self {
        Self { status: StatusCode::NO_CONTENT, location: None, version: None, data: None }
    }

    /// An answer that was given before.
    ///
    /// # Errors
    /// If `status` is none.
    pub fn again(status: u16, location: Option<String>, version: Option<i64>, data: Option<T>) -> ApiResult<Self> {
        let status = StatusCode::from_u16(status).map_err(ApiError::internal)?;
        Ok(Self { status, location, version, data })
    }

    /// The path of `Location`.
    #[must_use]
    pub fn location(mut self, location: impl Into<String>) -> Self {
        self.location = Some(location.into());
        self
    }

    /// 200 with `data` and its version.
    pub fn tagged(data: T) -> Self
    where
        T: Versioned,
    {
        let version = data.version();
        Self::ok(data).etag(version)
    }

    /// The version, for `ETag`.
    #[must_use]
    pub const fn etag(mut self, version: i64) -> Self {
        self.version = Some(version);
        self
    }

    /// What it holds.
    #[must_use]
    pub const fn data(&self) -> Option<&T> {
        self.data.as_ref()
    }

    /// Its status, `Location` and version.
    #[must_use]
    pub fn head(&self) -> (u16, Option<&str>, Option<i64>) {
        (self.status.as_u16(), self.location.as_deref(), self.version)
    }
}

impl<T: Serialize> Answer<T> {
    pub(super) fn written(self) -> ApiResult<Answer<Value>> {
        let Self { status, location, version, data } = self;
        let data = data.map(|data| serde_json::to_value(data)).transpose().map_err(ApiError::internal)?;
        Ok(Answer { status, location, version, data })
    }
}

impl Answer<Value> {
    pub(super) fn respond(self, request: &HttpRequest, replayed: bool) -> HttpResponse {
        let mut builder = HttpResponse::build(self.status);
        if let Some(location) = self.location {
            builder.insert_header((LOCATION, location));
        }
        if let Some(version) = self.version {
            builder.insert_header((ETAG, tag(version)));
        }
        if replayed {
            builder.insert_header((REPLAYED, "true"));
        }
        match self.data {
            Some(data) => Envelope::respond(RequestId::of(request), &mut builder, data),
            None => builder.finish(),
        }
    }
}

/// What an effect comes to: an [`Answer`]; or [`ApiResult`] of one, if it may refuse and leave something behind, as a
/// counted guess. With a refusal the transaction is committed, and no answer is kept.
pub trait Outcome: Send {
    /// What the answer holds.
    type Data: Serialize;

    /// The answer, or the refusal.
    ///
    /// # Errors
    /// The refusal.
    fn judged(self) -> ApiResult<Answer<Self::Data>>;
}

impl<T: Serialize + Send> Outcome for Answer<T> {
    type Data = T;

    fn judged(self) -> ApiResult<Self> {
        Ok(self)
    }
}

impl<T: Serialize + Send> Outcome for ApiResult<Answer<T>> {
    type Data = T;

    fn judged(self) -> Self {
        self
    }
}
