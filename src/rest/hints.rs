//! Tenant names found in a request besides its token. They confirm, or on a route without a token name it.

use std::future::{Ready, ready};
use std::ops::Deref;

use actix_web::dev::Payload;
use actix_web::{FromRequest, HttpRequest, web};

use crate::error::ApiError;
use crate::router::{Router, TenantHints, extractor};

/// The hints of a request: `X-Tenant-ID`, the subdomain of the public URL's host, `?tenant=`.
#[derive(Debug, Clone, Default)]
pub struct Hints(pub TenantHints);

impl Deref for Hints {
    type Target = TenantHints;
    fn deref(&self) -> &TenantHints {
        &self.0
    }
}

impl FromRequest for Hints {
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let router = request.app_data::<web::Data<Router>>();
        let missing = || ApiError::internal("the application was built without a router");
        ready(router.map(|router| Self(extractor::hints(request, router))).ok_or_else(missing))
    }
}
