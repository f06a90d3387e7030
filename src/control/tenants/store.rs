//! Rows and queries.

use chrono::{DateTime, Utc};
use diesel::dsl::{AsSelect, auto_type, sql};
use diesel::expression::SqlLiteral;
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::result::{DatabaseErrorKind, Error as DbError};
use diesel::sql_types::{Nullable, Text};
use diesel_async::RunQueryDsl;
use secrecy::{ExposeSecret, SecretString};

use super::target::place;
use crate::control::migration_runs::Head;
use crate::control::schema::{clusters, tenants as t};
use crate::control::word;
use crate::error::{ApiError, ApiResult, Code};
use crate::kernel::crypto::MasterKeys;
use crate::kernel::{ClusterId, Slug, TenantId};
use crate::router::{MainConn, Registration, Target, TenantKind, TenantStatus};

/// A tenant, without anything secret.
#[derive(Debug, Clone)]
pub struct TenantRecord {
    /// Identity.
    pub id: TenantId,
    /// Public name.
    pub slug: Slug,
    /// Display name.
    pub name: String,
    /// Where it is in its life.
    pub status: TenantStatus,
    /// Whose server it is on.
    pub kind: TenantKind,
    /// The cluster's name; none for a dedicated database.
    pub cluster: Option<String>,
    /// The cluster; none for a dedicated database.
    pub cluster_id: Option<ClusterId>,
    /// Its database.
    pub database_name: String,
    /// The role that owns it.
    pub role_name: String,
    /// Who may register.
    pub registration: Registration,
    /// Per-tenant ceiling of connections; the router's default if absent.
    pub max_connections: Option<i32>,
    /// Its share where connections are scarce, 1 to 100.
    pub weight: i32,
    /// The plan's name.
    pub plan: Option<String>,
    /// Version of the built-in schema.
    pub schema_version: i32,
    /// Grows with every migration and rotation.
    pub epoch: i64,
    /// Grows with every change, and with it the registry's.
    pub generation: i64,
    /// Grows with every change: the ETag.
    pub version: i64,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it was last changed.
    pub updated_at: DateTime<Utc>,
    /// When it was archived.
    pub archived_at: Option<DateTime<Utc>>,
    /// When its database may be dropped.
    pub purge_after: Option<DateTime<Utc>>,
}

/// A tenant to be: `provisioning`, without keys. A shared one has cluster and password, a dedicated one its URLs.
#[derive(Debug, Clone)]
pub struct NewTenant {
    /// Identity.
    pub id: TenantId,
    /// Public name.
    pub slug: Slug,
    /// Display name.
    pub name: String,
    /// Whose server it is on.
    pub kind: TenantKind,
    /// The cluster of a shared one.
    pub cluster_id: Option<ClusterId>,
    /// Its database.
    pub database_name: String,
    /// The role that owns it.
    pub role_name: String,
    /// The role's password, of a shared one.
    pub password: Option<SecretString>,
    /// Pooled address of a dedicated one; its TLS policy is the tenant's.
    pub url: Option<Target>,
    /// Direct address of a dedicated one; the pooled one if absent.
    pub direct_url: Option<Target>,
    /// Per-tenant ceiling of connections.
    pub max_connections: Option<i32>,
    /// Who may register.
    pub registration: Registration,
    /// The migrations that it is made with. Until it is active, which says them anew, only its maker goes by them.
    pub head: Option<Head>,
}

/// What to change; `None` leaves as is.
#[derive(Debug, Clone, Default)]
pub struct TenantChanges {
    /// Display name.
    pub name: Option<String>,
    /// Who may register.
    pub registration: Option<Registration>,
    /// Per-tenant ceiling, or the router's default.
    pub max_connections: Option<Option<i32>>,
    /// Its share where connections are scarce, 1 to 100.
    pub weight: Option<i32>,
}

#[derive(AsChangeset)]
#[diesel(table_name = t)]
struct ChangeColumns<'a> {
    name: Option<&'a str>,
    registration: Option<&'static str>,
    max_connections: Option<Option<i32>>,
    weight: Option<i32>,
}

#[derive(Queryable, Selectable)]
#[diesel(table_name = t)]
pub(super) struct Columns {
    id: TenantId,
    slug: String,
    name: String,
    status: String,
    kind: String,
    cluster_id: Option<ClusterId>,
    database_name: String,
    role_name: String,
    registration: String,
    max_connections: Option<i32>,
    weight: i32,
    plan: Option<String>,
    schema_version: i32,
    epoch: i64,
    generation: i64,
    version: i64,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
    archived_at: Option<DateTime<Utc>>,
    purge_after: Option<DateTime<Utc>>,
}

/// A tenant's columns and its cluster's name.
pub(super) type Row = (Columns, Option<String>);

impl TryFrom<Row> for TenantRecord {
    type Error = ApiError;

    fn try_from((row, cluster): Row) -> ApiResult<Self> {
        Ok(Self {
            id: row.id,
            slug: row.slug.parse().map_err(|e: crate::kernel::slug::SlugError| ApiError::internal(e))?,
            name: row.name,
            status: word(&row.status)?,
            kind: word(&row.kind)?,
            cluster,
            cluster_id: row.cluster_id,
            database_name: row.database_name,
            role_name: row.role_name,
            registration: word(&row.registration)?,
            max_connections: row.max_connections,
            weight: row.weight,
            plan: row.plan,
            schema_version: row.schema_version,
            epoch: row.epoch,
            generation: row.generation,
            version: row.version,
            created_at: row.created_at,
            updated_at: row.updated_at,
            archived_at: row.archived_at,
            purge_after: row.purge_after,
        })
    }
}

#[auto_type(no_type_alias)]
pub(super) fn records() -> _ {
    let columns: AsSelect<Columns, Pg> = Columns::as_select();
    t::table.left_join(clusters::table).select((columns, clusters::name.nullable()))
}

/// The same of the row that a statement has just written: to be given by `RETURNING`.
#[auto_type(no_type_alias)]
pub(super) fn written() -> _ {
    let columns: AsSelect<Columns, Pg> = Columns::as_returning();
    let cluster: SqlLiteral<Nullable<Text>> = sql("(SELECT c.name FROM clusters c WHERE c.id = tenants.cluster_id)");
    (columns, cluster)
}

/// Adds a tenant, in state `provisioning`. This is what reserves its slug.
///
/// # Errors
/// `already_exists` for a taken slug.
pub async fn insert(conn: &mut MainConn, keys: &MasterKeys, new: &NewTenant) -> ApiResult<TenantRecord> {
    let seal =
        |column, secret: &SecretString| Vec::from(keys.seal(place(column, new.id), secret.expose_secret().as_bytes()));
    let tls = new.url.as_ref().map(|url| &url.tls);
    // A tenant has one TLS policy, whichever way its server is reached.
    let direct = new
        .direct_url
        .as_ref()
        .or(new.url.as_ref())
        .zip(tls)
        .map(|(direct, tls)| Target { tls: tls.clone(), ..direct.clone() });
    let done = diesel::insert_into(t::table)
        .values((
            (
                t::id.eq(new.id),
                t::slug.eq(new.slug.to_string()),
                t::name.eq(&new.name),
                t::kind.eq(new.kind.as_str()),
                t::cluster_id.eq(new.cluster_id),
                t::database_name.eq(&new.database_name),
                t::role_name.eq(&new.role_name),
                t::max_connections.eq(new.max_connections),
                t::registration.eq(new.registration.as_str()),
            ),
            (
                t::password_sealed.eq(new.password.as_ref().map(|password| seal("password_sealed", password))),
                t::url_sealed.eq(new.url.as_ref().map(|url| seal("url_sealed", &url.to_url()))),
                t::direct_url_sealed.eq(direct.map(|url| seal("direct_url_sealed", &url.to_url()))),
                t::tls_mode.eq(tls.map(|tls| tls.mode.as_str())),
                t::tls_ca.eq(tls.and_then(|tls| tls.ca.as_deref())),
                t::tls_client_cert.eq(tls.and_then(|tls| tls.client_cert.as_deref())),
                t::tls_client_key_sealed
                    .eq(tls.and_then(|tls| tls.client_key.as_ref()).map(|key| seal("tls_client_key_sealed", key))),
            ),
            (
                t::schema_version.eq(new.head.as_ref().map_or(0, |head| head.schema_version)),
                t::operator_version.eq(new.head.as_ref().map_or(0, |head| head.operator_version)),
                t::migrations_hash.eq(new.head.as_ref().map(|head| &head.hash)),
            ),
        ))
        .returning(written())
        .get_result::<Row>(conn)
        .await;
    match done {
        Ok(row) => row.try_into(),
        Err(DbError::DatabaseError(DatabaseErrorKind::UniqueViolation, info))
            if info.constraint_name() == Some("tenants_slug_key") =>
        {
            Err(ApiError::already_exists("slug", "A tenant with this slug exists."))
        }
        Err(other) => Err(other.into()),
    }
}

/// Gives a tenant a plan.
///
/// # Errors
/// 422 for what is no plan's name.
pub async fn set_plan(conn: &mut MainConn, id: TenantId, plan: &str) -> ApiResult<()> {
    if !is_plan(plan) {
        let said = "A plan's name is 1 to 63 of a-z, 0-9, '-' and '_', beginning with a letter.";
        return Err(ApiError::invalid_field("plan", "invalid", said));
    }
    diesel::update(t::table.find(id)).set(t::plan.eq(plan)).execute(conn).await?;
    Ok(())
}

/// As the schema has it.
fn is_plan(name: &str) -> bool {
    name.len() <= 63
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_'))
}

/// A tenant by id, in whatever state.
///
/// # Errors
/// If the control plane does not answer.
pub async fn find(conn: &mut MainConn, id: TenantId) -> ApiResult<Option<TenantRecord>> {
    records().filter(t::id.eq(id)).first::<Row>(conn).await.optional()?.map(TryInto::try_into).transpose()
}

/// A tenant by id, in whatever state.
///
/// # Errors
/// 404 if there is none.
pub async fn get(conn: &mut MainConn, id: TenantId) -> ApiResult<TenantRecord> {
    find(conn, id).await?.ok_or_else(|| ApiError::not_found("tenant"))
}

/// A tenant by slug, in whatever state.
///
/// # Errors
/// If the control plane does not answer.
pub async fn find_by_slug(conn: &mut MainConn, slug: &Slug) -> ApiResult<Option<TenantRecord>> {
    let found = records().filter(t::slug.eq(slug.to_string())).first::<Row>(conn).await.optional()?;
    found.map(TryInto::try_into).transpose()
}

/// Changes what an operator may change at any time.
///
/// # Errors
/// 404 if there is none; 412 if it is no longer at `expected_version`.
pub async fn update(
    conn: &mut MainConn,
    id: TenantId,
    expected_version: Option<i64>,
    changes: &TenantChanges,
) -> ApiResult<TenantRecord> {
    let columns = ChangeColumns {
        name: changes.name.as_deref(),
        registration: changes.registration.map(Registration::as_str),
        max_connections: changes.max_connections,
        weight: changes.weight,
    };
    let mut row = diesel::update(t::table.find(id)).into_boxed();
    if let Some(version) = expected_version {
        row = row.filter(t::version.eq(version));
    }
    let changed = row.set((t::id.eq(id), columns)).execute(conn).await?;
    let now = get(conn, id).await?;
    if changed == 0 { Err(ApiError::new(Code::VersionMismatch)) } else { Ok(now) }
}

/// Forgets a tenant; its keys go with it. Its database is the caller's affair.
///
/// # Errors
/// 404 if there is none.
pub async fn remove(conn: &mut MainConn, id: TenantId) -> ApiResult<()> {
    let gone = diesel::delete(t::table.find(id)).execute(conn).await?;
    if gone == 0 { Err(ApiError::not_found("tenant")) } else { Ok(()) }
}
