//! TENANT PLANE: the features of each tenant, on its own database. Knows nothing of the control plane.
//!
//! A feature is one folder, one migration in `tenant-migrations/`, one line in [`FEATURES`].

pub mod addresses;
pub mod api_keys;
pub mod audit;
pub mod auth;
pub mod contacts;
mod copied;
pub mod docs;
pub mod identity_providers;
pub mod impersonation;
mod jose;
mod keyset;
pub mod mail;
pub mod oauth;
pub(crate) mod passwords;
pub mod permissions;
pub mod roles;
mod schema;
pub mod scim;
mod secrets;
pub mod security;
mod seed;
pub mod teams;
pub mod tenants;
pub mod token_issuers;
pub mod users;

pub use auth::{Auth, AuthSettings, SessionAdmission};
pub use copied::{forget_credentials, sign_everybody_out};
pub use seed::{FirstAdmin, Seeded, give_password, seed, seed_admin};

use utoipa_actix_web::service_config::ServiceConfig;

/// The endpoints of every feature.
pub const FEATURES: [fn(&mut ServiceConfig); 14] = [
    auth::routes,
    users::routes,
    roles::routes,
    teams::routes,
    permissions::routes,
    tenants::routes,
    api_keys::routes,
    identity_providers::routes,
    token_issuers::routes,
    scim::routes,
    oauth::routes,
    security::routes,
    mail::routes,
    contacts::routes,
];
