//! Passkeys (WebAuthn): public keys whose private halves stay in people's devices, which unlock them for this site alone.
//!
//! One is as good as a second factor, for it takes the device and what unlocks it: user verification is always demanded.
//! So it serves as the second half of a login, where one is asked for, and instead of a password.

mod ceremony;
mod login;
mod own;
mod site;
pub(super) mod store;

pub use ceremony::PasskeyOptions;
pub(super) use ceremony::{challenge, prove};
pub use site::PasskeySite;

use utoipa_actix_web::service_config::ServiceConfig;

/// The built-in schema that has them (`V12__passkeys.sql`).
pub(super) const SINCE: i32 = 12;
/// What a session says whose person showed a passkey (RFC 8176).
pub(super) const AMR: [&str; 2] = ["pop", "mfa"];

/// The endpoints.
pub(super) fn routes(cfg: &mut ServiceConfig) {
    cfg.service(own::passkey_options)
        .service(own::add_passkey)
        .service(own::list_passkeys)
        .service(own::rename_passkey)
        .service(own::remove_passkey)
        .service(login::login_options)
        .service(login::passkey_login);
}
