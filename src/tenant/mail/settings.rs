//! In which language people are written to.

use actix_web::{get, patch, put, web};
use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use garde::Validate;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::built_in::is_language;
use crate::error::{ApiError, ApiResult, Code};
use crate::rest::{
    Authorized, Envelope, ErrorEnvelope, IfMatch, InPerson, Json, MergePatch, NoQuery, Patch, Reply, SignedIn, Tagged,
    Versioned,
};
use crate::router::{TenantConn, TenantTx};
use crate::tenant::audit;
use crate::tenant::auth::Auth;
use crate::tenant::docs::Refusals;
use crate::tenant::permissions::{MailRead, MailWrite};

/// How an organisation's people are written to.
#[derive(Debug, Serialize, ToSchema, QueryableByName)]
#[serde(rename_all = "camelCase")]
pub struct MailSettings {
    /// The language of whoever has chosen none: two letters of ISO 639-1.
    #[schema(example = "en")]
    #[diesel(sql_type = Text)]
    pub language: String,
    /// When it was last changed.
    #[diesel(sql_type = Timestamptz)]
    pub updated_at: DateTime<Utc>,
    /// As in `ETag`.
    #[diesel(sql_type = BigInt)]
    pub version: i64,
}

impl Versioned for MailSettings {
    fn version(&self) -> i64 {
        self.version
    }
}

/// A change of it.
#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PatchMailSettings {
    /// The language of whoever has chosen none; cannot be null.
    #[serde(default)]
    #[garde(inner(custom(language_shape)))]
    #[schema(value_type = Option<String>, example = "de")]
    pub language: Patch<String>,
}

/// A language of one's own.
#[derive(Debug, Serialize, Deserialize, Validate, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MailLanguage {
    /// Two letters of ISO 639-1; null for the organisation's.
    #[garde(inner(custom(language_shape)))]
    #[schema(example = "de")]
    pub language: Option<String>,
}

fn language_shape<C>(language: &str, _: &C) -> garde::Result {
    if is_language(language) { Ok(()) } else { Err(garde::Error::new("is not two letters, as 'en'")) }
}

/// How the organisation's people are written to.
#[utoipa::path(
    tag = "mail",
    responses(
        (status = 200, description = "The settings, with `ETag`", body = Envelope<MailSettings>),
        (status = 304, description = "Not changed since `If-None-Match`"),
        Refusals,
    ),
    security(("bearer" = []), ("apiKey" = [])),
)]
#[get("/api/v1/mail-settings")]
pub async fn get_settings(_: NoQuery, caller: Authorized<MailRead>) -> ApiResult<Tagged<MailSettings>> {
    let read = async |conn: &mut TenantConn| -> ApiResult<MailSettings> {
        Ok(diesel::sql_query("SELECT language, updated_at, version FROM mail_settings").get_result(conn).await?)
    };
    caller.db.read(read).await.map(Tagged)
}

/// Changes how the organisation's people are written to.
#[utoipa::path(
    tag = "mail",
    request_body(content = PatchMailSettings, content_type = "application/merge-patch+json"),
    params(("If-Match" = Option<String>, Header, description = "The `ETag` that was read")),
    responses(
        (status = 200, description = "As changed", body = Envelope<MailSettings>),
        (status = 412, description = "`version_mismatch`", body = ErrorEnvelope),
        (status = 422, description = "Some fields are not valid", body = ErrorEnvelope),
        Refusals,
    ),
    security(("bearer" = [])),
)]
#[patch("/api/v1/mail-settings")]
pub async fn patch_settings(
    _: NoQuery,
    auth: web::Data<Auth>,
    caller: Authorized<MailWrite>,
    if_match: IfMatch,
    body: MergePatch<PatchMailSettings>,
) -> ApiResult<Tagged<MailSettings>> {
    let user = caller.in_person()?;
    let language = body.0.language.needed("language")?;
    let now = auth.clock.now();
    caller
        .db
        .transaction(async |conn: &mut TenantTx| -> ApiResult<MailSettings> {
            let held = "SELECT language, updated_at, version FROM mail_settings FOR UPDATE";
            let before: MailSettings = diesel::sql_query(held).get_result(conn).await?;
            if_match.check(before.version)?;
            let Some(language) = &language else { return Ok(before) };
            let change = "UPDATE mail_settings SET language = $1, updated_at = $2, version = version + 1 \
                          RETURNING language, updated_at, version";
            let change = diesel::sql_query(change).bind::<Text, _>(language).bind::<Timestamptz, _>(now);
            let after: MailSettings = change.get_result(conn).await?;
            let (by, what) = (format!("user:{user}"), format!("language: {}, was {}", after.language, before.language));
            audit::note_person(conn, (&by, user), "mail_settings.changed", Some(&what), now).await?;
            Ok(after)
        })
        .await
        .map(Tagged)
}

#[derive(QueryableByName)]
struct Chosen {
    #[diesel(sql_type = Nullable<Text>)]
    language: Option<String>,
}

/// The language in which one is written to.
#[utoipa::path(
    tag = "mail",
    responses((status = 200, description = "The language", body = Envelope<MailLanguage>), Refusals),
    security(("bearer" = [])),
)]
#[get("/api/v1/users/me/mail-language")]
pub async fn get_my_language(_: NoQuery, caller: SignedIn) -> ApiResult<Reply<MailLanguage>> {
    let me = caller.user().uuid();
    let read = async |conn: &mut TenantConn| -> ApiResult<Option<Chosen>> {
        let chosen = diesel::sql_query("SELECT language FROM users WHERE id = $1").bind::<SqlUuid, _>(me);
        Ok(chosen.get_result(conn).await.optional()?)
    };
    let chosen = super::at_schema(&caller.db).await?.read(read).await?;
    let Chosen { language } = chosen.ok_or_else(|| ApiError::new(Code::TokenRevoked))?;
    Ok(Reply(MailLanguage { language }))
}

/// Chooses the language in which one is written to.
#[utoipa::path(
    tag = "mail",
    request_body = MailLanguage,
    responses(
        (status = 200, description = "The language", body = Envelope<MailLanguage>),
        (status = 422, description = "It is none", body = ErrorEnvelope),
        Refusals,
    ),
    security(("bearer" = [])),
)]
#[put("/api/v1/users/me/mail-language")]
pub async fn put_my_language(
    _: NoQuery,
    InPerson(caller): InPerson,
    body: Json<MailLanguage>,
) -> ApiResult<Reply<MailLanguage>> {
    let (me, language) = (caller.user().uuid(), &body.0.language);
    super::at_schema(&caller.db)
        .await?
        .transaction(async |conn: &mut TenantTx| -> ApiResult<()> {
            let change = diesel::sql_query("UPDATE users SET language = $2 WHERE id = $1");
            change.bind::<SqlUuid, _>(me).bind::<Nullable<Text>, _>(language).execute(conn).await?;
            Ok(())
        })
        .await?;
    Ok(Reply(body.0))
}
