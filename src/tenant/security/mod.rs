//! What an organisation demands of its people.

mod api;
mod captcha;
mod claims;
mod lifetimes;
mod store;
mod view;

pub(crate) use captcha::captcha_keys;
pub use captcha::{CaptchaKeys, CaptchaProvider};
pub(crate) use claims::{ClaimRules, Claims};
pub(crate) use lifetimes::{SessionRules, session_rules};
pub(crate) use store::{PasswordPolicy, password_policy, rename_role};

use utoipa_actix_web::service_config::ServiceConfig;

/// The built-in schema that has all of the policy (`V18__claims_and_session_limits.sql`).
pub const SINCE: i32 = 18;

/// The endpoints.
pub fn routes(cfg: &mut ServiceConfig) {
    cfg.service(api::get_policy).service(api::patch_policy).service(api::preview_token_claims);
}
