//! What the layers below say, in the API's codes.

use std::time::Duration;

use diesel::result::{DatabaseErrorKind, Error as QueryError};

use super::body::camel_case;
use crate::error::{ApiError, Code, FieldError};
use crate::router::{self, Passing};

impl From<router::Error> for ApiError {
    fn from(error: router::Error) -> Self {
        use router::Error as E;
        let (code, retry_after) = match &error {
            E::Unauthenticated => (Code::Unauthenticated, None),
            E::TokenInvalid(_) => (Code::TokenInvalid, None),
            E::TokenExpired => (Code::TokenExpired, None),
            E::TokenRevoked => (Code::TokenRevoked, None),
            E::TenantRequired => (Code::TenantRequired, None),
            E::TenantMismatch => (Code::TenantMismatch, None),
            E::TenantUnknown => (Code::NotFound, None),
            E::TenantSuspended => (Code::TenantSuspended, None),
            E::TenantUnavailable { retry_after } => (Code::TenantUnavailable, Some(*retry_after)),
            E::DatabaseUnavailable { retry_after, .. } => (Code::TenantDatabaseUnavailable, Some(*retry_after)),
            E::PoolExhausted { retry_after } => (Code::TenantPoolExhausted, Some(*retry_after)),
            E::RateLimited { retry_after, .. } => (Code::RateLimited, Some(*retry_after)),
            E::SchemaOutdated { retry_after } => (Code::TenantSchemaOutdated, Some(*retry_after)),
            E::ControlPlane(_) => (Code::ControlPlaneUnavailable, Some(Duration::from_secs(2))),
            E::BudgetCannotHold(said) => return Self::new(Code::Conflict).detail(said.clone()),
            E::Config(_) => return Self::internal(error),
            E::Deadline => (Code::TenantDatabaseUnavailable, Some(Duration::from_secs(1))),
            E::Query(_) => {
                let E::Query(query) = error else { unreachable!("matched above") };
                return query.into();
            }
        };
        let answer = Self::new(code).caused_by(error);
        match retry_after {
            Some(after) => answer.retry_after(after),
            None => answer,
        }
    }
}

impl From<QueryError> for ApiError {
    fn from(error: QueryError) -> Self {
        match &error {
            QueryError::NotFound => Self::new(Code::NotFound),
            QueryError::DatabaseError(DatabaseErrorKind::UniqueViolation, info) => {
                let field = info.constraint_name().and_then(|name| unique_column(info.table_name(), name));
                let answer = Self::new(Code::AlreadyExists);
                match field {
                    Some(field) => {
                        let message = format!("This {field} is taken.");
                        answer.field(FieldError::new(field, "already_exists", message))
                    }
                    None => answer,
                }
                .caused_by(error)
            }
            QueryError::DatabaseError(
                DatabaseErrorKind::SerializationFailure | DatabaseErrorKind::ForeignKeyViolation,
                _,
            ) => Self::new(Code::Conflict).caused_by(error),
            // Nothing is wrong with the request: repeated unchanged it succeeds. 409 asks for a decision, 503 for patience.
            _ => {
                let code = match Passing::of(&error) {
                    Some(Passing::Away) => Code::TenantDatabaseUnavailable,
                    Some(Passing::Deadlock) => Code::Overloaded,
                    None => return Self::internal(error),
                };
                Self::new(code).retry_after(Duration::from_secs(1)).caused_by(error)
            }
        }
    }
}

/// The field behind a constraint named `<table>_<column>_key`.
fn unique_column(table: Option<&str>, constraint: &str) -> Option<String> {
    let column = constraint.strip_prefix(table?)?.strip_prefix('_')?.strip_suffix("_key")?;
    Some(camel_case(column))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_router_speaks_the_contract() {
        let second = Duration::from_secs(1);
        let table = [
            (router::Error::Unauthenticated, 401, "unauthenticated"),
            (router::Error::TokenInvalid("alg"), 401, "token_invalid"),
            (router::Error::TokenRevoked, 401, "token_revoked"),
            (router::Error::TenantMismatch, 404, "tenant_mismatch"),
            (router::Error::TenantSuspended, 403, "tenant_suspended"),
            (router::Error::PoolExhausted { retry_after: second }, 503, "tenant_pool_exhausted"),
            (router::Error::SchemaOutdated { retry_after: second }, 503, "tenant_schema_outdated"),
            (router::Error::control_plane("down"), 503, "control_plane_unavailable"),
            (router::Error::Query(QueryError::NotFound), 404, "not_found"),
        ];
        for (error, status, code) in table {
            let answer = ApiError::from(error);
            assert_eq!((answer.code().status(), answer.code().as_str()), (status, code));
        }
    }

    #[test]
    fn reads_the_column_from_the_constraint() {
        assert_eq!(unique_column(Some("users"), "users_email_key").as_deref(), Some("email"));
        assert_eq!(unique_column(Some("users"), "users_external_id_key").as_deref(), Some("externalId"));
        assert_eq!(unique_column(Some("users"), "users_pkey"), None);
    }

    #[test]
    fn a_lost_connection_is_no_bug() {
        let lost = |text: &str| {
            ApiError::from(QueryError::DatabaseError(DatabaseErrorKind::Unknown, Box::new(text.to_owned()))).code()
        };
        assert_eq!(lost("canceling statement due to statement timeout"), Code::TenantDatabaseUnavailable);
        assert_eq!(lost("terminating connection due to administrator command"), Code::TenantDatabaseUnavailable);
        assert_eq!(lost("deadlock detected"), Code::Overloaded);
        assert_eq!(lost("column \"x\" does not exist"), Code::Internal);
    }
}
