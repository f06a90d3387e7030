//! The one row that says which installation this is.

use diesel::prelude::*;
use diesel::sql_types::Bool;
use diesel_async::RunQueryDsl;

use super::schema::installation;
use crate::error::{ApiError, ApiResult};
use crate::kernel::InstallationId;
use crate::kernel::crypto::{MacKey, MasterKeys, Place, Sealed, random};
use crate::router::{Installation, MainConn};

const fn place(id: InstallationId) -> Place {
    Place::new("installation", "mac_sealed", id.uuid())
}

/// The installation, if it was made.
///
/// # Errors
/// If the control plane does not answer, or the MAC key does not open.
pub async fn find(conn: &mut MainConn, keys: &MasterKeys) -> ApiResult<Option<Installation>> {
    let found = row(conn).await?;
    found
        .map(|(id, sealed)| {
            let secret = keys.open(place(id), &Sealed::from(sealed)).map_err(ApiError::internal)?;
            Ok(Installation { id, mac: MacKey::new(&secret) })
        })
        .transpose()
}

#[derive(QueryableByName)]
struct There {
    #[diesel(sql_type = Bool)]
    there: bool,
}

/// Whether the control plane's database has its schema: before the first migration there is nothing to ask.
///
/// # Errors
/// If the control plane does not answer.
pub async fn has_schema(conn: &mut MainConn) -> ApiResult<bool> {
    let asked = diesel::sql_query("SELECT to_regclass('installation') IS NOT NULL AS there");
    let answer: There = asked.get_result(conn).await?;
    Ok(answer.there)
}

async fn row(conn: &mut MainConn) -> ApiResult<Option<(InstallationId, Vec<u8>)>> {
    let found = installation::table
        .select((installation::id, installation::mac_sealed))
        .first::<(InstallationId, Vec<u8>)>(conn)
        .await
        .optional()?;
    Ok(found)
}

/// Whether these master keys are the installation's: its secret opens with one of them. One that was not made yet takes
/// any.
///
/// # Errors
/// If the control plane does not answer.
pub async fn takes(conn: &mut MainConn, keys: &MasterKeys) -> ApiResult<bool> {
    let found = row(conn).await?;
    Ok(found.is_none_or(|(id, sealed)| keys.open(place(id), &Sealed::from(sealed)).is_ok()))
}

/// The installation; made now if this is the first time. Two nodes that start together agree on one.
///
/// # Errors
/// As [`find`].
pub async fn ensure(conn: &mut MainConn, keys: &MasterKeys) -> ApiResult<Installation> {
    if let Some(found) = find(conn, keys).await? {
        return Ok(found);
    }
    let id = InstallationId::generate();
    let sealed = keys.seal(place(id), &random::<32>());
    diesel::insert_into(installation::table)
        .values((installation::id.eq(id), installation::mac_sealed.eq(Vec::from(sealed))))
        .on_conflict_do_nothing()
        .execute(conn)
        .await?;
    find(conn, keys).await?.ok_or_else(|| ApiError::internal("the installation's row is missing"))
}
