//! Which error to use where.
//!
//! - A handler or a store returns [`ApiError`]: a [`Code`] from the one table below, a sentence for the client, and
//!   (apart from it, never shown) the cause for the log. Its constructors read as English.
//! - The router has its own `router::Error`; embedders see that one. It becomes an `ApiError` by `?`.
//! - `anyhow` only at the edges: the CLI and `main`.

mod codes;

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use serde::Serialize;

pub use codes::Code;

/// A result with an [`ApiError`].
pub type ApiResult<T> = Result<T, ApiError>;

/// What is wrong with one field of the input.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FieldError {
    /// Path of the field, as the client wrote it: `emails[0].value`.
    pub field: String,
    /// A stable snake_case word.
    pub code: Cow<'static, str>,
    /// A sentence for a person.
    pub message: String,
}

impl FieldError {
    /// A field with its fault.
    pub fn new(field: impl Into<String>, code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self { field: field.into(), code: code.into(), message: message.into() }
    }
}

/// A limit that was reached, as `RateLimit-Policy` tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// What is limited.
    pub name: &'static str,
    /// How often,
    pub quota: u32,
    /// within how long.
    pub window: Duration,
}

/// An answer that is not a success. The client sees `code`, `detail` and `fields`; the log sees `cause`.
pub struct ApiError(Box<Inner>);

struct Inner {
    code: Code,
    detail: Cow<'static, str>,
    fields: Vec<FieldError>,
    retry_after: Option<Duration>,
    limit: Option<Limit>,
    allow: Option<String>,
    cause: Option<Box<dyn StdError + Send + Sync>>,
}

impl ApiError {
    /// An error with the table's own sentence as its detail.
    #[must_use]
    pub fn new(code: Code) -> Self {
        Self(Box::new(Inner {
            code,
            detail: Cow::Borrowed(code.default_detail()),
            fields: Vec::new(),
            retry_after: None,
            limit: None,
            allow: None,
            cause: None,
        }))
    }

    /// The sentence for the client. Never SQL, driver text, a host name or a path.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<Cow<'static, str>>) -> Self {
        self.0.detail = detail.into();
        self
    }

    /// Adds one field's fault.
    #[must_use]
    pub fn field(mut self, error: FieldError) -> Self {
        self.0.fields.push(error);
        self
    }

    /// The same where the fields stand in another one, as `people[0]`.
    #[must_use]
    pub fn within(mut self, place: &str) -> Self {
        for error in &mut self.0.fields {
            error.field = format!("{place}.{}", error.field);
        }
        self
    }

    /// The same where the client calls a field otherwise.
    #[must_use]
    pub fn renamed(mut self, field: &str, theirs: &str) -> Self {
        for error in self.0.fields.iter_mut().filter(|error| error.field == field) {
            theirs.clone_into(&mut error.field);
        }
        self
    }

    /// When to try again.
    #[must_use]
    pub fn retry_after(mut self, after: Duration) -> Self {
        self.0.retry_after = Some(after);
        self
    }

    /// The limit that was reached.
    #[must_use]
    pub fn limited(mut self, limit: Limit) -> Self {
        self.0.limit = Some(limit);
        self
    }

    /// The methods a 405 names.
    #[must_use]
    pub fn allow(mut self, methods: impl Into<String>) -> Self {
        self.0.allow = Some(methods.into());
        self
    }

    /// The cause, for the log alone.
    #[must_use]
    pub fn caused_by(mut self, cause: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.cause = Some(cause.into());
        self
    }

    /// 404 for an object that is missing, or that the caller may not know of: both look the same.
    #[must_use]
    pub fn not_found(what: &'static str) -> Self {
        Self::new(Code::NotFound).detail(format!("There is no such {what}."))
    }

    /// 409 for a value that must be unique and is taken.
    #[must_use]
    pub fn already_exists(field: impl Into<String>, message: impl Into<String>) -> Self {
        let message = message.into();
        Self::new(Code::AlreadyExists).detail(message.clone()).field(FieldError::new(field, "already_exists", message))
    }

    /// 422 with what is wrong, field by field.
    #[must_use]
    pub fn invalid(fields: Vec<FieldError>) -> Self {
        let mut error = Self::new(Code::ValidationFailed);
        error.0.fields = fields;
        error
    }

    /// 422 for one field.
    #[must_use]
    pub fn invalid_field(
        field: impl Into<String>,
        code: impl Into<Cow<'static, str>>,
        message: impl Into<String>,
    ) -> Self {
        Self::invalid(vec![FieldError::new(field, code, message)])
    }

    /// 403: the caller may know of it, but not do it.
    #[must_use]
    pub fn permission_denied(permission: &str) -> Self {
        Self::new(Code::PermissionDenied).detail(format!("This needs the permission '{permission}'."))
    }

    /// 500 with its cause in the log.
    #[must_use]
    pub fn internal(cause: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self::new(Code::Internal).caused_by(cause)
    }

    /// The code.
    #[must_use]
    pub const fn code(&self) -> Code {
        self.0.code
    }

    /// The client's sentence.
    #[must_use]
    pub fn client_detail(&self) -> &str {
        &self.0.detail
    }

    /// What is wrong, field by field.
    #[must_use]
    pub fn fields(&self) -> &[FieldError] {
        &self.0.fields
    }

    /// When to try again; every 503 and 429 has a value.
    #[must_use]
    pub fn retry_after_value(&self) -> Option<Duration> {
        let needed = matches!(self.0.code.status(), 429 | 503);
        self.0.retry_after.or_else(|| needed.then_some(Duration::from_secs(1)))
    }

    /// The limit that was reached, if it is one.
    #[must_use]
    pub fn limit_value(&self) -> Option<Limit> {
        self.0.limit
    }

    /// The `Allow` header of a 405.
    #[must_use]
    pub fn allow_value(&self) -> Option<&str> {
        self.0.allow.as_deref()
    }

    /// The cause, for the log.
    #[must_use]
    pub fn cause(&self) -> Option<&(dyn StdError + Send + Sync)> {
        self.0.cause.as_deref()
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.code.as_str(), self.0.detail)
    }
}

impl fmt::Debug for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiError")
            .field("code", &self.0.code)
            .field("detail", &self.0.detail)
            .field("fields", &self.0.fields)
            .field("cause", &self.0.cause)
            .finish_non_exhaustive()
    }
}

impl StdError for ApiError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.cause.as_ref().map(|c| &**c as &(dyn StdError + 'static))
    }
}
