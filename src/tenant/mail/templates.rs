//! The words of mails, as an organisation has them.

use actix_web::{delete, get, put, web};
use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_types::{Nullable, Text, Timestamptz};
use diesel_async::RunQueryDsl;
use garde::Validate;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::built_in::{self, KINDS, Kind, LANGUAGES, is_language};
use super::render::{self, Words};
use crate::error::{ApiError, ApiResult};
use crate::rest::{Authorized, Envelope, ErrorEnvelope, Json, ListEnvelope, Listed, NoContent, NoQuery, Path, Reply};
use crate::router::{TenantConn, TenantTx};
use crate::tenant::audit::{self, Entry};
use crate::tenant::auth::Auth;
use crate::tenant::docs::Refusals;
use crate::tenant::permissions::{MailRead, MailWrite};

/// The words of a mail in a language.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct MailTemplate {
    /// Which mail.
    #[schema(example = "security-notice")]
    pub name: &'static str,
    /// Language: two letters of ISO 639-1.
    #[schema(example = "en")]
    pub language: String,
    /// Whether these are the organisation's own words.
    pub customised: bool,
    /// Subject.
    #[schema(example = "Security notice for your account at {{ organisation }}")]
    pub subject: String,
    /// Plain text.
    #[schema(example = "Hello {{ name }},\n\n{{ event }}")]
    pub text: String,
    /// HTML; made of the text, if null.
    pub html: Option<String>,
}

/// Own words for a mail.
#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PutMailTemplate {
    /// Subject.
    #[garde(length(chars, min = 1, max = 200))]
    #[schema(example = "News of your account at {{ organisation }}")]
    pub subject: String,
    /// Plain text.
    #[garde(length(chars, min = 1, max = 20_000))]
    #[schema(example = "Hello {{ name }},\n\n{{ event }}\n\n{{ time }}")]
    pub text: String,
    /// HTML, in which values are escaped; left out, it is made of the text.
    #[garde(inner(length(chars, min = 1, max = 60_000)))]
    #[schema(example = "<p>Hello {{ name }},</p><p>{{ event }}</p>")]
    pub html: Option<String>,
}

#[derive(QueryableByName)]
struct OwnRow {
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = Text)]
    language: String,
}

fn found(name: &str, language: &str) -> ApiResult<&'static Kind> {
    let kind = built_in::kind(name).filter(|_| is_language(language));
    kind.ok_or_else(|| ApiError::not_found("mail template"))
}

fn view(kind: &Kind, words: Words, customised: bool) -> MailTemplate {
    let Words { language, subject, body_text, body_html } = words;
    MailTemplate { name: kind.name, language, customised, subject, text: body_text, html: body_html }
}

async fn own(conn: &mut TenantConn, kind: &Kind, language: &str) -> QueryResult<Option<Words>> {
    let own = "SELECT language, subject, body_text, body_html FROM mail_templates WHERE name = $1 AND language = $2";
    diesel::sql_query(own).bind::<Text, _>(kind.name).bind::<Text, _>(language).get_result(conn).await.optional()
}

/// The words of all mails: the built-in ones, and the organisation's own in their place.
#[utoipa::path(
    tag = "mail",
    responses((status = 200, description = "The templates", body = ListEnvelope<MailTemplate>), Refusals),
    security(("bearer" = []), ("apiKey" = [])),
)]
#[get("/api/v1/mail-templates")]
pub async fn list_templates(_: NoQuery, caller: Authorized<MailRead>) -> ApiResult<Listed<MailTemplate>> {
    let list = caller
        .db
        .read(async |conn: &mut TenantConn| -> ApiResult<Vec<MailTemplate>> {
            let rows: Vec<OwnRow> =
                diesel::sql_query("SELECT name, language FROM mail_templates ORDER BY name, language")
                    .load(conn)
                    .await?;
            let mut list = Vec::new();
            for kind in KINDS {
                let mut languages: Vec<&str> = LANGUAGES.to_vec();
                let own_languages = rows.iter().filter(|row| row.name == kind.name).map(|row| row.language.as_str());
                languages.extend(own_languages.filter(|language| !LANGUAGES.contains(language)));
                for language in languages {
                    let own = own(conn, kind, language).await?;
                    let customised = own.is_some();
                    let words = own.unwrap_or_else(|| Words::built_in(kind.name, language));
                    list.push(view(kind, words, customised));
                }
            }
            Ok(list)
        })
        .await?;
    Ok(Listed::whole(list))
}

/// The words of a mail in a language.
#[utoipa::path(
    tag = "mail",
    params(
        ("name" = String, Path, description = "Which mail", example = "security-notice"),
        ("language" = String, Path, description = "Two letters of ISO 639-1", example = "en"),
    ),
    responses((status = 200, description = "The template", body = Envelope<MailTemplate>), Refusals),
    security(("bearer" = []), ("apiKey" = [])),
)]
#[get("/api/v1/mail-templates/{name}/{language}")]
pub async fn get_template(
    _: NoQuery,
    caller: Authorized<MailRead>,
    path: Path<(String, String)>,
) -> ApiResult<Reply<MailTemplate>> {
    let (name, language) = &path.0;
    let kind = found(name, language)?;
    let own =
        caller.db.read(async |conn: &mut TenantConn| -> ApiResult<_> { Ok(own(conn, kind, language).await?) }).await?;
    let customised = own.is_some();
    let built_in = LANGUAGES.contains(&language.as_str()).then(|| Words::built_in(kind.name, language));
    let words = own.or(built_in).ok_or_else(|| ApiError::not_found("mail template"))?;
    Ok(Reply(view(kind, words, customised)))
}

/// Puts own words in place of a mail's, in any language.
///
/// `{{ name }}`, `{{ organisation }}`, `{{ link }}`, `{{ event }}`, `{{ time }}`, `{{ address }}`, `{{ device }}` and
/// `{{ other }}` are filled in, and `{% if name %} … {% else %} … {% endif %}` asks whether there is something to fill in.
/// They are tried out first: a mail without what it is for (the link, the event) is refused, so that nobody can be kept
/// from what concerns them.
#[utoipa::path(
    tag = "mail",
    request_body = PutMailTemplate,
    params(
        ("name" = String, Path, description = "Which mail", example = "security-notice"),
        ("language" = String, Path, description = "Two letters of ISO 639-1", example = "en"),
    ),
    responses(
        (status = 200, description = "As it is now", body = Envelope<MailTemplate>),
        (status = 422, description = "A field is not valid, or the template cannot be rendered", body = ErrorEnvelope),
        Refusals,
    ),
    security(("bearer" = [])),
)]
#[put("/api/v1/mail-templates/{name}/{language}")]
pub async fn put_template(
    _: NoQuery,
    auth: web::Data<Auth>,
    caller: Authorized<MailWrite>,
    path: Path<(String, String)>,
    body: Json<PutMailTemplate>,
) -> ApiResult<Reply<MailTemplate>> {
    let actor = format!("user:{}", caller.in_person()?);
    let (name, language) = &path.0;
    let kind = found(name, language)?;
    let PutMailTemplate { subject, text, html } = body.0;
    let words = Words { language: language.clone(), subject, body_text: text, body_html: html };
    if let Some((field, said)) = render::fault(kind, &words) {
        return Err(ApiError::invalid_field(field, "invalid_template", said));
    }
    let (user, now, words) = (caller.user(), auth.clock.now(), &words);
    let what = format!("{name} ({language})");
    caller
        .db
        .transaction(async |conn: &mut TenantTx| -> ApiResult<()> {
            diesel::sql_query(
                "INSERT INTO mail_templates (name, language, subject, body_text, body_html, updated_at) \
                 VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (name, language) DO UPDATE SET subject = excluded.subject, \
                 body_text = excluded.body_text, body_html = excluded.body_html, updated_at = excluded.updated_at, \
                 version = mail_templates.version + 1",
            )
            .bind::<Text, _>(kind.name)
            .bind::<Text, _>(language)
            .bind::<Text, _>(&words.subject)
            .bind::<Text, _>(&words.body_text)
            .bind::<Nullable<Text>, _>(&words.body_html)
            .bind::<Timestamptz, _>(now)
            .execute(conn)
            .await?;
            let action = "mail_template.changed";
            let entry = Entry { actor: &actor, action, user, session: None, reason: Some(&what) };
            Ok(audit::note::<TenantConn>(conn, &entry, now).await?)
        })
        .await?;
    Ok(Reply(view(kind, words.clone(), true)))
}

/// Takes own words back: the built-in ones hold again.
#[utoipa::path(
    tag = "mail",
    params(
        ("name" = String, Path, description = "Which mail", example = "security-notice"),
        ("language" = String, Path, description = "Two letters of ISO 639-1", example = "en"),
    ),
    responses((status = 204, description = "Taken back"), Refusals),
    security(("bearer" = [])),
)]
#[delete("/api/v1/mail-templates/{name}/{language}")]
pub async fn delete_template(
    _: NoQuery,
    auth: web::Data<Auth>,
    caller: Authorized<MailWrite>,
    path: Path<(String, String)>,
) -> ApiResult<NoContent> {
    let actor = format!("user:{}", caller.in_person()?);
    let (name, language) = &path.0;
    let kind = found(name, language)?;
    let (user, now): (_, DateTime<Utc>) = (caller.user(), auth.clock.now());
    let what = format!("{name} ({language})");
    caller
        .db
        .transaction(async |conn: &mut TenantTx| -> ApiResult<()> {
            let gone = diesel::sql_query("DELETE FROM mail_templates WHERE name = $1 AND language = $2")
                .bind::<Text, _>(kind.name)
                .bind::<Text, _>(language)
                .execute(conn)
                .await?;
            if gone == 0 {
                return Err(ApiError::not_found("mail template"));
            }
            let action = "mail_template.removed";
            let entry = Entry { actor: &actor, action, user, session: None, reason: Some(&what) };
            Ok(audit::note::<TenantConn>(conn, &entry, now).await?)
        })
        .await?;
    Ok(NoContent)
}
