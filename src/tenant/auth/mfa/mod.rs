//! The second factor of people: one-time codes of an authenticator (RFC 6238), recovery codes, trusted devices.
//!
//! Who has one gives password and code in two calls; in between stands a token that is good for the second alone. Wrong
//! codes count with wrong passwords, so that neither can be guessed through the other. Where the organisation demands a
//! second factor of somebody who has none, the same token lets them enrol, and nothing else.

mod api;
mod challenge;
mod devices;
mod factor;
pub(super) mod gate;
mod own;
mod reset;
mod store;

pub use gate::{LoggedIn, SecondFactorRequired};

use utoipa_actix_web::service_config::ServiceConfig;

/// The built-in schema that has second factors (`V5__second_factor.sql`).
pub const SINCE: i32 = 5;

/// The endpoints.
pub(super) fn routes(cfg: &mut ServiceConfig) {
    cfg.service(api::second_factor)
        .service(api::begin_enrolment)
        .service(api::confirm_enrolment)
        .service(api::passkey_factor_options)
        .service(api::passkey_factor)
        .service(own::my_second_factor)
        .service(own::enrol_totp)
        .service(own::confirm_totp)
        .service(own::remove_totp)
        .service(own::new_recovery_codes)
        .service(devices::list_devices)
        .service(devices::forget_device)
        .service(reset::reset_second_factor);
}
