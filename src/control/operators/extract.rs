//! The proof of who is asking, as a handler's argument.

use actix_web::dev::Payload;
use actix_web::{FromRequest, HttpRequest, web};
use futures_util::future::{FutureExt as _, LocalBoxFuture};

use super::{OperatorRole, Operators};
use crate::error::ApiError;
use crate::kernel::{OperatorId, SessionId};
use crate::rest::Gate;
use crate::router::extractor::bearer;

/// The operator who is asking: can only be had from a token that was verified and whose session stands.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Operator {
    /// Identity.
    pub id: OperatorId,
    /// Address.
    pub email: String,
    /// The session.
    pub session: SessionId,
    /// What they may do.
    pub role: OperatorRole,
}

impl FromRequest for Operator {
    type Error = ApiError;
    type Future = LocalBoxFuture<'static, Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let gate = Gate::close(request);
        let operators = request.app_data::<web::Data<Operators>>().cloned();
        let token = bearer(request).map(str::to_owned).map_err(ApiError::from);
        async move {
            let operators =
                operators.ok_or_else(|| ApiError::internal("the application was built without operators"))?;
            let operator = operators.verify(&token?).await?;
            gate.open();
            Ok(operator)
        }
        .boxed_local()
    }
}
