//! The words of mails, as an organisation has them.

use std::collections::BTreeMap;

use actix_web::{delete, get, put, web};
use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Bool, Nullable, Text, Timestamptz};
use diesel_async::RunQueryDsl;
use garde::Validate;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::built_in::{self, KINDS, Kind, LANGUAGES, is_language};
use super::render::{self, Words};
use crate::error::{ApiError, ApiResult, Code};
use crate::rest::{
    Authorized, Envelope, ErrorEnvelope, IfMatch, Json, ListEnvelope, ListFew, Listed, NoContent, NoQuery, Path, Query,
    Tagged, Versioned,
};
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
    /// Grows with every change; none is of the built-in words.
    #[serde(skip)]
    version: i64,
}

impl Versioned for MailTemplate {
    fn version(&self) -> i64 {
        self.version
    }
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

fn found(name: &str, language: &str) -> ApiResult<&'static Kind> {
    let kind = built_in::kind(name).filter(|_| is_language(language));
    kind.ok_or_else(|| ApiError::not_found("mail template"))
}

/// The most languages that there are own words in.
const MOST_LANGUAGES: i64 = 20;
/// What all own words may take altogether, in bytes: they are listed together.
const MOST_BYTES: i64 = 4 << 20;

/// The version of words that are built in.
const BUILT_IN: i64 = 0;

/// Words, and which they are.
#[derive(QueryableByName)]
struct Own {
    #[diesel(embed)]
    words: Words,
    #[diesel(sql_type = BigInt)]
    version: i64,
}

impl Own {
    fn built_in(kind: &Kind, language: &str) -> Self {
        Self { words: Words::built_in(kind.name, language), version: BUILT_IN }
    }

    fn view(self, kind: &Kind) -> MailTemplate {
        let Self { words: Words { language, subject, body_text, body_html }, version } = self;
        let (name, customised) = (kind.name, version != BUILT_IN);
        MailTemplate { name, language, customised, subject, text: body_text, html: body_html, version }
    }
}

/// Own words of a mail.
#[derive(QueryableByName)]
struct OwnRow {
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(embed)]
    own: Own,
}

/// A mail in every language that there are words in: the built-in languages first.
fn in_all_languages(kind: &Kind, own: Vec<OwnRow>) -> Vec<MailTemplate> {
    let mut own: BTreeMap<String, Own> = own.into_iter().map(|row| (row.own.words.language.clone(), row.own)).collect();
    let mut list: Vec<Own> = Vec::new();
    for &language in LANGUAGES {
        list.push(own.remove(language).unwrap_or_else(|| Own::built_in(kind, language)));
    }
    list.extend(own.into_values());
    list.into_iter().map(|own| own.view(kind)).collect()
}

/// What there is of own words beside those of a mail in a language.
#[derive(QueryableByName)]
struct Beside {
    /// Other languages.
    #[diesel(sql_type = BigInt)]
    languages: i64,
    /// Whether there are own words in this language.
    #[diesel(sql_type = Bool)]
    known: bool,
    /// What the others take.
    #[diesel(sql_type = BigInt)]
    bytes: i64,
    /// What these take now.
    #[diesel(sql_type = BigInt)]
    replaced: i64,
}

/// Refuses words that there is no room for. Until the transaction ends nobody else puts any.
async fn check_room(conn: &mut TenantConn, kind: &Kind, words: &Words) -> ApiResult<()> {
    diesel::sql_query("LOCK TABLE mail_templates IN SHARE ROW EXCLUSIVE MODE").execute(conn).await?;
    let beside: Beside = diesel::sql_query(
        "SELECT count(DISTINCT language) FILTER (WHERE language <> $2) AS languages, \
         coalesce(bool_or(language = $2), false) AS known, \
         coalesce(sum(size) FILTER (WHERE name <> $1 OR language <> $2), 0)::bigint AS bytes, \
         coalesce(sum(size) FILTER (WHERE name = $1 AND language = $2), 0)::bigint AS replaced \
         FROM mail_templates, LATERAL (SELECT octet_length(subject) + octet_length(body_text) + \
         coalesce(octet_length(body_html), 0) AS size) sizes",
    )
    .bind::<Text, _>(kind.name)
    .bind::<Text, _>(&words.language)
    .get_result(conn)
    .await?;
    if !beside.known && beside.languages >= MOST_LANGUAGES {
        let said = "There are own words in twenty languages already. Take those of one back first.";
        return Err(ApiError::new(Code::Conflict).detail(said));
    }
    let html = words.body_html.as_ref().map_or(0, String::len);
    let wanted = i64::try_from(words.subject.len() + words.body_text.len() + html).unwrap_or(i64::MAX);
    if wanted > beside.replaced && beside.bytes.saturating_add(wanted) > MOST_BYTES {
        let said = "All own words may take 4 MiB altogether. Shorten some, or take some back first.";
        return Err(ApiError::new(Code::Conflict).detail(said));
    }
    Ok(())
}

/// The organisation's own words, if it has any.
async fn own(conn: &mut TenantConn, kind: &Kind, language: &str) -> QueryResult<Option<Own>> {
    let own =
        "SELECT language, subject, body_text, body_html, version FROM mail_templates WHERE name = $1 AND language = $2";
    diesel::sql_query(own).bind::<Text, _>(kind.name).bind::<Text, _>(language).get_result(conn).await.optional()
}

/// Holds what there is of own words, or their place, until the transaction ends. Returns their version.
async fn hold(conn: &mut TenantTx, kind: &Kind, language: &str) -> ApiResult<i64> {
    // There may be no row to hold yet.
    diesel::sql_query("SELECT pg_advisory_xact_lock(hashtextextended('mail_template ' || $1 || ' ' || $2, 0))")
        .bind::<Text, _>(kind.name)
        .bind::<Text, _>(language)
        .execute(conn)
        .await?;
    Ok(own(conn, kind, language).await?.map_or(BUILT_IN, |own| own.version))
}

/// The words of all mails: the built-in ones, and the organisation's own in their place.
#[utoipa::path(
    tag = "mail",
    params(ListFew),
    responses((status = 200, description = "The templates", body = ListEnvelope<MailTemplate>), Refusals),
    security(("bearer" = []), ("apiKey" = [])),
)]
#[get("/api/v1/mail-templates")]
pub async fn list_templates(caller: Authorized<MailRead>, query: Query<ListFew>) -> ApiResult<Listed<MailTemplate>> {
    let list = caller
        .db
        .read(async |conn: &mut TenantConn| -> ApiResult<Vec<MailTemplate>> {
            let own = "SELECT name, language, subject, body_text, body_html, version FROM mail_templates";
            let mut rows: Vec<OwnRow> = diesel::sql_query(own).load(conn).await?;
            let mut list = Vec::new();
            for kind in KINDS {
                let (theirs, others) = rows.into_iter().partition(|row| row.name == kind.name);
                rows = others;
                list.extend(in_all_languages(kind, theirs));
            }
            Ok(list)
        })
        .await?;
    let key = |template: &MailTemplate| format!("{} {}", template.name, template.language);
    query.0.of(&caller.db, ("mail-templates", ""), list, key)
}

/// The words of a mail in a language.
#[utoipa::path(
    tag = "mail",
    params(
        ("name" = String, Path, description = "Which mail", example = "security-notice"),
        ("language" = String, Path, description = "Two letters of ISO 639-1", example = "en"),
    ),
    responses(
        (status = 200, description = "The template, with `ETag`", body = Envelope<MailTemplate>),
        (status = 304, description = "Not changed since `If-None-Match`"),
        Refusals,
    ),
    security(("bearer" = []), ("apiKey" = [])),
)]
#[get("/api/v1/mail-templates/{name}/{language}")]
pub async fn get_template(
    _: NoQuery,
    caller: Authorized<MailRead>,
    path: Path<(String, String)>,
) -> ApiResult<Tagged<MailTemplate>> {
    let (name, language) = &path.0;
    let kind = found(name, language)?;
    let own =
        caller.db.read(async |conn: &mut TenantConn| -> ApiResult<_> { Ok(own(conn, kind, language).await?) }).await?;
    let built_in = LANGUAGES.contains(&language.as_str()).then(|| Own::built_in(kind, language));
    let words = own.or(built_in).ok_or_else(|| ApiError::not_found("mail template"))?;
    Ok(Tagged(words.view(kind)))
}

/// Puts own words in place of a mail's, in any language.
///
/// `{{ name }}`, `{{ organisation }}`, `{{ link }}`, `{{ event }}`, `{{ time }}`, `{{ address }}`, `{{ device }}` and
/// `{{ other }}` are filled in, and `{% if name %} … {% else %} … {% endif %}` asks whether there is something to fill in.
/// They are tried out first: a mail without what it is for (the link, the event) is refused, so that nobody can be kept
/// from what concerns them. A link in a mail that is there for its link (`password-reset`, for one) stands by itself or as
/// all of an `<a href="…">`, and not in the subject; the HTML of such a mail is of plain tags of text, tables and pictures, and
/// its conditions are on three other names at most.
/// There can be own words in twenty languages, and of 4 MiB altogether. Wants fresh proof.
#[utoipa::path(
    tag = "mail",
    request_body = PutMailTemplate,
    params(
        ("name" = String, Path, description = "Which mail", example = "security-notice"),
        ("language" = String, Path, description = "Two letters of ISO 639-1", example = "en"),
        ("If-Match" = Option<String>, Header, description = "The `ETag` that was read"),
    ),
    responses(
        (status = 200, description = "As it is now", body = Envelope<MailTemplate>),
        (status = 409, description = "`conflict`: own words in twenty languages, or of 4 MiB", body = ErrorEnvelope),
        (status = 412, description = "`version_mismatch`", body = ErrorEnvelope),
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
    if_match: IfMatch,
    body: Json<PutMailTemplate>,
) -> ApiResult<Tagged<MailTemplate>> {
    let actor = format!("user:{}", caller.recently()?);
    let (name, language) = &path.0;
    let kind = found(name, language)?;
    let PutMailTemplate { subject, text, html } = body.0;
    let words = Words { language: language.clone(), subject, body_text: text, body_html: html };
    if let Some((field, said)) = render::fault(kind, &words) {
        return Err(ApiError::invalid_field(field, "invalid_template", said));
    }
    let (user, now, words) = (caller.user(), auth.clock.now(), &words);
    let what = format!("{name} ({language})");
    let version = caller
        .db
        .transaction(async |conn: &mut TenantTx| -> ApiResult<i64> {
            let before = hold(conn, kind, language).await?;
            if_match.check(before)?;
            check_room(conn, kind, words).await?;
            // Words that were taken back and put anew have another version than the first ones had.
            let version = (before + 1).max(now.timestamp_micros());
            diesel::sql_query(
                "INSERT INTO mail_templates (name, language, subject, body_text, body_html, updated_at, version) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (name, language) DO UPDATE SET \
                 subject = excluded.subject, body_text = excluded.body_text, body_html = excluded.body_html, \
                 updated_at = excluded.updated_at, version = excluded.version",
            )
            .bind::<Text, _>(kind.name)
            .bind::<Text, _>(language)
            .bind::<Text, _>(&words.subject)
            .bind::<Text, _>(&words.body_text)
            .bind::<Nullable<Text>, _>(&words.body_html)
            .bind::<Timestamptz, _>(now)
            .bind::<BigInt, _>(version)
            .execute(conn)
            .await?;
            let action = "mail_template.changed";
            let entry = Entry { actor: &actor, action, user, session: None, reason: Some(&what) };
            audit::note::<TenantConn>(conn, &entry, now).await?;
            Ok(version)
        })
        .await?;
    Ok(Tagged(Own { words: words.clone(), version }.view(kind)))
}

/// Takes own words back: the built-in ones hold again.
#[utoipa::path(
    tag = "mail",
    params(
        ("name" = String, Path, description = "Which mail", example = "security-notice"),
        ("language" = String, Path, description = "Two letters of ISO 639-1", example = "en"),
        ("If-Match" = Option<String>, Header, description = "The `ETag` that was read"),
    ),
    responses(
        (status = 204, description = "Taken back"),
        (status = 412, description = "`version_mismatch`", body = ErrorEnvelope),
        Refusals,
    ),
    security(("bearer" = [])),
)]
#[delete("/api/v1/mail-templates/{name}/{language}")]
pub async fn delete_template(
    _: NoQuery,
    auth: web::Data<Auth>,
    caller: Authorized<MailWrite>,
    path: Path<(String, String)>,
    if_match: IfMatch,
) -> ApiResult<NoContent> {
    let actor = format!("user:{}", caller.in_person()?);
    let (name, language) = &path.0;
    let kind = found(name, language)?;
    let (user, now): (_, DateTime<Utc>) = (caller.user(), auth.clock.now());
    let what = format!("{name} ({language})");
    caller
        .db
        .transaction(async |conn: &mut TenantTx| -> ApiResult<()> {
            if_match.check(hold(conn, kind, language).await?)?;
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
