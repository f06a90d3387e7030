//! Teams: people together, with roles that all of them have. A team may stand in another one, whose roles its people have
//! too.
//!
//! Nobody gives by way of a team what they could not give a person: whoever puts somebody in, gives a team a role, or
//! puts it under another one, has every right that comes with it.

mod api;
mod change;
mod members;
pub(crate) mod store;

use utoipa_actix_web::service_config::ServiceConfig;

use crate::error::ApiResult;
use crate::router::{TenantConn, TenantDb};
use crate::tenant::users::store::UserRow;

/// The built-in schema that has teams (`V14__teams.sql`).
pub const SINCE: i32 = 14;

/// The endpoints.
pub fn routes(cfg: &mut ServiceConfig) {
    cfg.service(api::list_teams)
        .service(change::create_team)
        .service(api::get_team)
        .service(change::patch_team)
        .service(change::delete_team)
        .service(members::list_members)
        .service(members::add_member)
        .service(members::remove_member);
}

/// The names of all roles that a person has, by themselves and by their teams.
pub(crate) async fn all_roles(conn: &mut TenantConn, db: &TenantDb, user: &UserRow) -> ApiResult<Vec<String>> {
    if db.tenant().schema_version < SINCE {
        return Ok(user.roles.clone());
    }
    Ok(store::role_names_of_user(conn, user.id).await?)
}
