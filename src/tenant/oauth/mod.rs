//! An OAuth 2.1 server for the organisation's own apps, and the login and consent app of its Ory Hydra.
//!
//! An app gets tokens of the organisation's issuer, `<public url>/t/<slug>`: in a person's name after that person agreed,
//! or in its own name, which is its owner's. What a token may do is decided at every use: what was granted, and no more
//! than that person may do at that moment. All tokens that came of one consent stand and fall together: they are a
//! *grant*, as a session is to a person.
//!
//! The endpoints that apps speak to (`/t/{slug}/oauth/…`) answer as RFC 6749 has it, outside the envelope. We show no
//! page: a browser is sent to the organisation's own, which asks here what it is about and gives the person's answer.

pub(super) mod admission;
mod authorize;
mod clients;
mod consents;
mod endpoint;
mod hydra;
mod inspect;
mod refusal;
mod scopes;
mod settings;
mod token;
mod userinfo;

pub(in crate::tenant) use clients::store::hand_over;
pub use refusal::OauthRefusals;
pub use scopes::OPENID;
pub(in crate::tenant) use scopes::permissions;
pub(in crate::tenant) use token::store::end_all_of;

use utoipa_actix_web::service_config::ServiceConfig;

use crate::error::ApiResult;
use crate::router::TenantDb;

/// The built-in schema that has apps (`V15__oauth.sql`).
pub const SINCE: i32 = 15;

/// The endpoints.
pub fn routes(cfg: &mut ServiceConfig) {
    clients::routes(cfg);
    authorize::routes(cfg);
    consents::routes(cfg);
    token::routes(cfg);
    inspect::routes(cfg);
    userinfo::routes(cfg);
    settings::routes(cfg);
    hydra::routes(cfg);
}

/// The database with the tables of apps, for whoever comes without a permission that says so.
async fn ready(db: &TenantDb) -> ApiResult<TenantDb> {
    Ok(db.router().at_schema(db.clone(), SINCE).await?)
}
