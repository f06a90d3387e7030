//! The one table of error codes: status, sentence, cause and remedy. `docs/errors.md` is held to it by a test.

macro_rules! codes {
    ($($variant:ident, $status:literal, $code:literal, $title:literal, $detail:literal, $fix:literal;)+) => {
        /// A stable word for what went wrong.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Code {
            $(#[doc = $title] $variant,)+
        }

        impl Code {
            /// Every code, in the order of the table.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// HTTP status.
            #[must_use]
            pub const fn status(self) -> u16 {
                match self { $(Self::$variant => $status,)+ }
            }

            /// The stable snake_case word.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $code,)+ }
            }

            /// RFC 9457 `title`: the same for every occurrence.
            #[must_use]
            pub const fn title(self) -> &'static str {
                match self { $(Self::$variant => $title,)+ }
            }

            /// What it means, where the occurrence says nothing better.
            #[must_use]
            pub const fn default_detail(self) -> &'static str {
                match self { $(Self::$variant => $detail,)+ }
            }

            /// What the caller does next.
            #[must_use]
            pub const fn fix(self) -> &'static str {
                match self { $(Self::$variant => $fix,)+ }
            }
        }
    };
}

codes! {
    MalformedRequest, 400, "malformed_request", "Malformed request",
        "The request could not be read.", "Correct the syntax of the body, the path or the headers.";
    InvalidQuery, 400, "invalid_query", "Invalid query parameter",
        "A query parameter is unknown or has a bad value.", "Use the parameters listed in OpenAPI.";
    CursorInvalid, 400, "cursor_invalid", "Invalid cursor",
        "The cursor does not belong to this list.", "Start again without `cursor`, keeping sort and filters.";
    TenantRequired, 400, "tenant_required", "No tenant named",
        "Name the tenant by the body field `tenant`, by `X-Tenant-ID` or by subdomain; several must agree.",
        "Send the tenant's slug.";
    Unauthenticated, 401, "unauthenticated", "Authentication required",
        "This needs a bearer token.", "Log in and send `Authorization: Bearer <access token>`.";
    TokenInvalid, 401, "token_invalid", "Invalid token",
        "The token is not valid here.", "Log in again.";
    TokenExpired, 401, "token_expired", "Expired token",
        "The token has expired.", "Exchange the refresh token, or log in again.";
    TokenRevoked, 401, "token_revoked", "Revoked token",
        "The session of this token has ended.", "Log in again.";
    InvalidCredentials, 401, "invalid_credentials", "Invalid credentials",
        "E-mail or password is wrong.", "Check both; the answer does not say which one is wrong.";
    FederationFailed, 401, "federation_failed", "Not signed in by the provider",
        "The identity provider's answer was not accepted.", "Begin the sign-in anew; if it stays, ask an administrator.";
    PermissionDenied, 403, "permission_denied", "Permission denied",
        "Your roles do not allow this.", "Ask an administrator of your organisation for the permission.";
    PasswordChangeRequired, 403, "password_change_required", "Password change required",
        "This needs a password of your own choice.", "Call `POST /api/v1/auth/change-password` first.";
    StepUpRequired, 403, "step_up_required", "Step-up required",
        "This needs proof of who you are that is not older than ten minutes.",
        "Call `POST /api/v1/auth/step-up` (without a password, sign in anew), and repeat with the token it gives.";
    CaptchaRequired, 403, "captcha_required", "CAPTCHA required",
        "Too much was tried here lately: this needs a solved CAPTCHA.",
        "Get `provider` and `siteKey` from `GET /api/v1/auth/captcha`, and repeat with `captchaToken`.";
    CsrfRefused, 403, "csrf_refused", "Cross-site request refused",
        "A request with the cookies of a session has to come from the application itself.",
        "Send `X-Session-Mode: cookie` from a page of this origin, or of one in `http.cors_origins`.";
    TenantSuspended, 403, "tenant_suspended", "Tenant suspended",
        "This organisation is suspended.", "Ask the operator of the service to resume it.";
    RegistrationClosed, 403, "registration_closed", "Registration closed",
        "This organisation does not take sign-ups.", "Ask an administrator of the organisation for an account.";
    NotFound, 404, "not_found", "Not found",
        "There is nothing here.", "Check the address; objects you may not know of look the same.";
    TenantMismatch, 404, "tenant_mismatch", "Tenant mismatch",
        "The tenant named by the request is not the tenant of the token.",
        "Leave out the header, host or parameter, or name the token's own tenant.";
    MethodNotAllowed, 405, "method_not_allowed", "Method not allowed",
        "This address does not take this method.", "Use one of the methods in `Allow`.";
    NotAcceptable, 406, "not_acceptable", "Not acceptable",
        "None of the accepted types can be produced.", "Accept `application/json`.";
    RequestTimeout, 408, "request_timeout", "Request timeout",
        "The request took too long to arrive.", "Send it again.";
    AlreadyExists, 409, "already_exists", "Already exists",
        "An object with this value exists.", "Choose another value for the named field.";
    Conflict, 409, "conflict", "Conflict",
        "The object's state does not allow this.", "Read it again and decide anew.";
    AccountLinkRequired, 409, "account_link_required", "Account to be linked",
        "There is an account with this address, and it was not shown to be yours.",
        "Sign in to it as before, and link the provider with `POST /api/v1/users/me/social-accounts`.";
    IdempotencyInProgress, 409, "idempotency_in_progress", "Still in progress",
        "A request with this Idempotency-Key is still running.", "Wait a moment and repeat it.";
    VersionMismatch, 412, "version_mismatch", "Version mismatch",
        "The object has changed since you read it.", "Read it again and repeat with its new ETag.";
    PayloadTooLarge, 413, "payload_too_large", "Payload too large",
        "The body is larger than this server takes.", "Send less; the limit is `http.body_limit`.";
    UnsupportedMediaType, 415, "unsupported_media_type", "Unsupported media type",
        "The body's Content-Type is not taken here.", "Send `Content-Type: application/json`.";
    ValidationFailed, 422, "validation_failed", "Validation failed",
        "Some fields are not valid.", "Correct the fields listed in `errors`.";
    IdempotencyKeyReused, 422, "idempotency_key_reused", "Idempotency key reused",
        "This Idempotency-Key was used with another request.", "Use a new key for a new request.";
    TooManyAttempts, 429, "too_many_attempts", "Too many attempts",
        "Too many failed attempts.", "Wait for `Retry-After` seconds.";
    RateLimited, 429, "rate_limited", "Rate limited",
        "Too many requests.", "Wait for `Retry-After` seconds.";
    Internal, 500, "internal_error", "Internal error",
        "Something went wrong on our side.", "Repeat it; if it stays, report the requestId.";
    ControlPlaneUnavailable, 503, "control_plane_unavailable", "Control plane unavailable",
        "The control plane does not answer.", "Repeat after `Retry-After`; known tenants are still served.";
    TenantUnavailable, 503, "tenant_unavailable", "Tenant unavailable",
        "This organisation is not ready yet, or held for maintenance.", "Repeat after `Retry-After`.";
    TenantDatabaseUnavailable, 503, "tenant_database_unavailable", "Tenant database unavailable",
        "This organisation's database does not answer.", "Repeat after `Retry-After`; others are not affected.";
    TenantPoolExhausted, 503, "tenant_pool_exhausted", "No connection free",
        "No database connection became free in time.", "Repeat after `Retry-After`; lower the concurrency.";
    TenantSchemaOutdated, 503, "tenant_schema_outdated", "Schema outdated",
        "This organisation's database is behind what this needs.", "Repeat after `Retry-After`.";
    IdentityProviderUnavailable, 503, "identity_provider_unavailable", "Identity provider unavailable",
        "The identity provider does not answer.", "Repeat after `Retry-After`, or sign in another way.";
    Overloaded, 503, "overloaded", "Overloaded",
        "The server is busy.", "Repeat after `Retry-After`.";
}
