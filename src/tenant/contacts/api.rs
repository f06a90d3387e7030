//! Requests, answers and handlers.

use actix_web::{HttpResponse, delete, get, patch, post, put};
use garde::Validate;
use serde::Deserialize;
use utoipa::ToSchema;
use utoipa_actix_web::service_config::ServiceConfig;

use super::query::ContactsQuery;
use super::rules::{Address, Draft, Email, Phone};
use super::store::{self, Contact};
use super::{ContactsRead, ContactsWrite};
use crate::error::{ApiError, ApiResult};
use crate::kernel::ContactId;
use crate::rest::{
    Answer, Authorized, Envelope, ErrorEnvelope, Idempotency, IfMatch, Json, ListEnvelope, Listed, MergePatch,
    NoContent, Patch, Path, Query, Tagged,
};
use crate::router::{TenantConn, TenantTx};
use crate::tenant::docs::Refusals;

/// The endpoints.
pub fn routes(cfg: &mut ServiceConfig) {
    cfg.service(list_contacts)
        .service(create_contact)
        .service(get_contact)
        .service(replace_contact)
        .service(update_contact)
        .service(delete_contact);
}

/// A contact as a client writes it. `lastName` or `company` is required.
#[derive(Debug, Default, Deserialize, Validate, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[garde(allow_unvalidated)]
pub struct ContactBody {
    /// Given name.
    #[schema(max_length = 100, example = "Ada")]
    first_name: Option<String>,
    /// Family name.
    #[schema(max_length = 100, example = "Lovelace")]
    last_name: Option<String>,
    /// Organisation.
    #[schema(max_length = 200, example = "Analytical Engines Ltd")]
    company: Option<String>,
    /// Position there.
    #[schema(max_length = 200, example = "Head of Research")]
    title: Option<String>,
    /// E-mail addresses, the preferred one first.
    #[schema(max_items = 20)]
    emails: Option<Vec<Email>>,
    /// Phone numbers, the preferred one first.
    #[schema(max_items = 20)]
    phones: Option<Vec<Phone>>,
    /// Postal addresses, the preferred one first.
    #[schema(max_items = 20)]
    addresses: Option<Vec<Address>>,
    /// Free text.
    #[schema(max_length = 10_000)]
    notes: Option<String>,
    /// Words to find it by, of at most 50 characters each.
    #[schema(max_items = 50)]
    tags: Option<Vec<String>>,
}

impl ContactBody {
    fn draft(self) -> ApiResult<Draft> {
        Draft {
            first_name: self.first_name,
            last_name: self.last_name,
            company: self.company,
            title: self.title,
            emails: self.emails.unwrap_or_default(),
            phones: self.phones.unwrap_or_default(),
            addresses: self.addresses.unwrap_or_default(),
            notes: self.notes,
            tags: self.tags.unwrap_or_default(),
        }
        .checked()
    }
}

/// Changes of a contact (RFC 7396): what is left out stays, `null` empties, arrays are replaced whole.
#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[garde(allow_unvalidated)]
pub struct ContactPatch {
    /// Given name.
    #[serde(default)]
    #[schema(value_type = Option<String>, max_length = 100)]
    first_name: Patch<String>,
    /// Family name.
    #[serde(default)]
    #[schema(value_type = Option<String>, max_length = 100)]
    last_name: Patch<String>,
    /// Organisation.
    #[serde(default)]
    #[schema(value_type = Option<String>, max_length = 200)]
    company: Patch<String>,
    /// Position there.
    #[serde(default)]
    #[schema(value_type = Option<String>, max_length = 200)]
    title: Patch<String>,
    /// E-mail addresses.
    #[serde(default)]
    #[schema(value_type = Option<Vec<Email>>, max_items = 20)]
    emails: Patch<Vec<Email>>,
    /// Phone numbers.
    #[serde(default)]
    #[schema(value_type = Option<Vec<Phone>>, max_items = 20)]
    phones: Patch<Vec<Phone>>,
    /// Postal addresses.
    #[serde(default)]
    #[schema(value_type = Option<Vec<Address>>, max_items = 20)]
    addresses: Patch<Vec<Address>>,
    /// Free text.
    #[serde(default)]
    #[schema(value_type = Option<String>, max_length = 10_000)]
    notes: Patch<String>,
    /// Words to find it by.
    #[serde(default)]
    #[schema(value_type = Option<Vec<String>>, max_items = 50)]
    tags: Patch<Vec<String>>,
}

impl ContactPatch {
    fn draft(self, current: Contact) -> ApiResult<Draft> {
        Draft {
            first_name: self.first_name.apply(current.first_name),
            last_name: self.last_name.apply(current.last_name),
            company: self.company.apply(current.company),
            title: self.title.apply(current.title),
            emails: self.emails.apply(Some(current.emails.parse().map_err(ApiError::internal)?)).unwrap_or_default(),
            phones: self.phones.apply(Some(current.phones.parse().map_err(ApiError::internal)?)).unwrap_or_default(),
            addresses: self
                .addresses
                .apply(Some(current.addresses.parse().map_err(ApiError::internal)?))
                .unwrap_or_default(),
            notes: self.notes.apply(current.notes),
            tags: self.tags.apply(Some(current.tags)).unwrap_or_default(),
        }
        .checked()
    }
}

/// One, or the 404 that says nothing more.
fn known(contact: Option<Contact>) -> ApiResult<Contact> {
    contact.ok_or_else(|| ApiError::not_found("contact"))
}

/// Contacts, the newest first.
#[utoipa::path(
    tag = "contacts",
    params(ContactsQuery),
    responses((status = 200, description = "One page of contacts", body = ListEnvelope<Contact>), Refusals),
    security(("bearer" = []), ("apiKey" = [])),
)]
#[get("/api/v1/contacts")]
async fn list_contacts(
    who: Authorized<ContactsRead>,
    Query(query): Query<ContactsQuery>,
) -> ApiResult<Listed<Contact>> {
    let request = query.read(who.db.tenant().id, &who.db.router().installation().mac)?;
    let (rows, total) = who
        .db
        .read(async |conn: &mut TenantConn| -> ApiResult<_> {
            let rows = store::list(conn, &request.filter, &request.window).await?;
            let total = if request.include_total() { Some(store::count(conn, &request.filter).await?) } else { None };
            Ok((rows, total))
        })
        .await?;
    Ok(request.page(rows, total))
}

/// Adds a contact.
#[utoipa::path(
    tag = "contacts",
    params(("Idempotency-Key" = Option<String>, Header, description = "Adds once, however often it is sent")),
    request_body = ContactBody,
    responses(
        (status = 201, description = "Added; `Location` says where", body = Envelope<Contact>),
        (status = 422, description = "Some fields are not valid", body = ErrorEnvelope),
        Refusals,
    ),
    security(("bearer" = []), ("apiKey" = [])),
)]
#[post("/api/v1/contacts")]
async fn create_contact(
    who: Authorized<ContactsWrite>,
    Json(body): Json<ContactBody>,
    once: Idempotency,
) -> ApiResult<HttpResponse> {
    let draft = body.draft()?;
    let now = who.db.router().config().clock.now();
    once.run(&who.db, &who.actor(), async move |conn: &mut TenantTx| {
        let contact = store::insert(conn, draft, now).await?;
        let (location, version) = (format!("/api/v1/contacts/{}", contact.id), contact.version);
        Ok(Answer::created(contact).location(location).etag(version))
    })
    .await
}

/// A contact.
#[utoipa::path(
    tag = "contacts",
    params(("id" = ContactId, Path, description = "The contact")),
    responses(
        (status = 200, description = "The contact, with `ETag`", body = Envelope<Contact>),
        (status = 304, description = "Not changed since `If-None-Match`"),
        Refusals,
    ),
    security(("bearer" = []), ("apiKey" = [])),
)]
#[get("/api/v1/contacts/{id}")]
async fn get_contact(who: Authorized<ContactsRead>, Path(id): Path<ContactId>) -> ApiResult<Tagged<Contact>> {
    let contact = who.db.read(async |conn: &mut TenantConn| -> ApiResult<_> { Ok(store::find(conn, id).await?) });
    contact.await.and_then(known).map(Tagged)
}

/// Replaces a contact.
#[utoipa::path(
    tag = "contacts",
    params(
        ("id" = ContactId, Path, description = "The contact"),
        ("If-Match" = Option<String>, Header, description = "Only if its `ETag` is still this one"),
    ),
    request_body = ContactBody,
    responses(
        (status = 200, description = "The contact as it is now", body = Envelope<Contact>),
        (status = 412, description = "Changed since `If-Match`", body = ErrorEnvelope),
        (status = 422, description = "Some fields are not valid", body = ErrorEnvelope),
        Refusals,
    ),
    security(("bearer" = []), ("apiKey" = [])),
)]
#[put("/api/v1/contacts/{id}")]
async fn replace_contact(
    who: Authorized<ContactsWrite>,
    Path(id): Path<ContactId>,
    expected: IfMatch,
    Json(body): Json<ContactBody>,
) -> ApiResult<Tagged<Contact>> {
    let draft = body.draft()?;
    let now = who.db.router().config().clock.now();
    who.db
        .transaction(async move |conn: &mut TenantTx| -> ApiResult<_> {
            expected.check(known(store::find_for_update(conn, id).await?)?.version)?;
            Ok(Tagged(store::update(conn, id, draft, now).await?))
        })
        .await
}

/// Changes some fields of a contact.
#[utoipa::path(
    tag = "contacts",
    params(
        ("id" = ContactId, Path, description = "The contact"),
        ("If-Match" = Option<String>, Header, description = "Only if its `ETag` is still this one"),
    ),
    request_body(content(
        (ContactPatch = "application/merge-patch+json",
            example = json!({"company": "Analytical Engines", "tags": ["customer"]})),
        (ContactPatch = "application/json",
            example = json!({"company": "Analytical Engines", "tags": ["customer"]})),
    )),
    responses(
        (status = 200, description = "The contact as it is now", body = Envelope<Contact>),
        (status = 412, description = "Changed since `If-Match`", body = ErrorEnvelope),
        (status = 422, description = "Some fields are not valid", body = ErrorEnvelope),
        Refusals,
    ),
    security(("bearer" = []), ("apiKey" = [])),
)]
#[patch("/api/v1/contacts/{id}")]
async fn update_contact(
    who: Authorized<ContactsWrite>,
    Path(id): Path<ContactId>,
    expected: IfMatch,
    MergePatch(patch): MergePatch<ContactPatch>,
) -> ApiResult<Tagged<Contact>> {
    let now = who.db.router().config().clock.now();
    who.db
        .transaction(async move |conn: &mut TenantTx| -> ApiResult<_> {
            let current = known(store::find_for_update(conn, id).await?)?;
            expected.check(current.version)?;
            Ok(Tagged(store::update(conn, id, patch.draft(current)?, now).await?))
        })
        .await
}

/// Removes a contact.
#[utoipa::path(
    tag = "contacts",
    params(
        ("id" = ContactId, Path, description = "The contact"),
        ("If-Match" = Option<String>, Header, description = "Only if its `ETag` is still this one"),
    ),
    responses(
        (status = 204, description = "It is gone"),
        (status = 412, description = "Changed since `If-Match`", body = ErrorEnvelope),
        Refusals,
    ),
    security(("bearer" = []), ("apiKey" = [])),
)]
#[delete("/api/v1/contacts/{id}")]
async fn delete_contact(
    who: Authorized<ContactsWrite>,
    Path(id): Path<ContactId>,
    expected: IfMatch,
) -> ApiResult<NoContent> {
    who.db
        .transaction(async move |conn: &mut TenantTx| -> ApiResult<_> {
            expected.check(known(store::find_for_update(conn, id).await?)?.version)?;
            store::remove(conn, id).await?;
            Ok(NoContent)
        })
        .await
}
