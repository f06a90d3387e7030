//! The two passwords around a rotation: the next one, known here before the server hears of it, and the former one, kept
//! until it was seen to be refused. Sealed, as every password is.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use secrecy::{ExposeSecret, SecretString};

use super::target::{place, target};
use crate::control::open_text;
use crate::control::schema::{rotating_passwords as p, tenants as t};
use crate::error::{ApiError, ApiResult};
use crate::kernel::TenantId;
use crate::kernel::crypto::{MasterKeys, Place};
use crate::router::{MainConn, Target};

const fn place_of(column: &'static str, id: TenantId) -> Place {
    Place::new("rotating_passwords", column, id.uuid())
}

fn seal(keys: &MasterKeys, place: Place, secret: &SecretString) -> Vec<u8> {
    Vec::from(keys.seal(place, secret.expose_secret().as_bytes()))
}

/// Writes the next password down, unless one is there already: that one the server may know by now.
///
/// # Errors
/// If the control plane does not answer.
pub async fn plan_password(
    conn: &mut MainConn,
    keys: &MasterKeys,
    id: TenantId,
    password: &SecretString,
) -> ApiResult<()> {
    let next = seal(keys, place_of("next_sealed", id), password);
    diesel::insert_into(p::table)
        .values((p::id.eq(id), p::next_sealed.eq(&next)))
        .on_conflict(p::id)
        .do_update()
        .set(p::next_sealed.eq(diesel::dsl::sql::<diesel::sql_types::Nullable<diesel::sql_types::Binary>>(
            "coalesce(rotating_passwords.next_sealed, excluded.next_sealed)",
        )))
        .execute(conn)
        .await?;
    Ok(())
}

/// The next and the former password, as far as there are any.
///
/// # Errors
/// If the control plane does not answer, or one does not open.
pub async fn rotating_passwords(
    conn: &mut MainConn,
    keys: &MasterKeys,
    id: TenantId,
) -> ApiResult<(Option<SecretString>, Option<SecretString>)> {
    type Row = (Option<Vec<u8>>, Option<Vec<u8>>);
    let row: Option<Row> = p::table.find(id).select((p::next_sealed, p::former_sealed)).first(conn).await.optional()?;
    let Some((next, former)) = row else { return Ok((None, None)) };
    let open = |column, sealed: Option<Vec<u8>>| {
        sealed.map(|sealed| open_text(keys, place_of(column, id), Some(sealed))).transpose()
    };
    Ok((open("next_sealed", next)?, open("former_sealed", former)?))
}

/// The next password takes the place of the one in the registry, which becomes the former one; connections of that are
/// retired on every node. Nothing to do if there is no next one. To be called in a transaction.
///
/// # Errors
/// 404 if there is no such tenant.
pub async fn swap_password(conn: &mut MainConn, keys: &MasterKeys, id: TenantId) -> ApiResult<()> {
    let (Some(next), _) = rotating_passwords(conn, keys, id).await? else { return Ok(()) };
    let (pooled, direct) = target(conn, keys, id).await?;
    let with = |target: &Target| Target { password: next.clone(), ..target.clone() };
    let shared: bool =
        t::table.find(id).select(t::cluster_id.is_not_null()).first(conn).await.map_err(ApiError::internal)?;
    if shared {
        super::set_password(conn, keys, id, &next).await?;
    } else {
        set_urls(conn, keys, id, &with(&pooled), &with(&direct)).await?;
    }
    let former = seal(keys, place_of("former_sealed", id), &direct.password);
    diesel::update(p::table.find(id))
        .set((p::next_sealed.eq(None::<Vec<u8>>), p::former_sealed.eq(former)))
        .execute(conn)
        .await?;
    Ok(())
}

/// Forgets what is known of passwords besides the registry's own.
///
/// # Errors
/// If the control plane does not answer.
pub async fn forget_passwords(conn: &mut MainConn, id: TenantId) -> ApiResult<()> {
    diesel::delete(p::table.find(id)).execute(conn).await?;
    Ok(())
}

/// Other addresses of a dedicated database, with their TLS policy; connections to the old ones are retired.
///
/// # Errors
/// 404 if there is no such dedicated tenant.
pub async fn set_urls(
    conn: &mut MainConn,
    keys: &MasterKeys,
    id: TenantId,
    pooled: &Target,
    direct: &Target,
) -> ApiResult<()> {
    let tls = &pooled.tls;
    let client_key = tls.client_key.as_ref().map(|key| seal(keys, place("tls_client_key_sealed", id), key));
    let changed = diesel::update(t::table.find(id).filter(t::cluster_id.is_null()))
        .set((
            t::url_sealed.eq(seal(keys, place("url_sealed", id), &pooled.to_url())),
            t::direct_url_sealed.eq(seal(keys, place("direct_url_sealed", id), &direct.to_url())),
            t::database_name.eq(&pooled.database),
            t::role_name.eq(&pooled.user),
            t::tls_mode.eq(tls.mode.as_str()),
            t::tls_ca.eq(&tls.ca),
            t::tls_client_cert.eq(&tls.client_cert),
            t::tls_client_key_sealed.eq(client_key),
            t::epoch.eq(t::epoch + 1),
        ))
        .execute(conn)
        .await?;
    if changed == 0 { Err(ApiError::not_found("tenant")) } else { Ok(()) }
}
