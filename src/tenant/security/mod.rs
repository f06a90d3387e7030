//! What an organisation demands of its people.

mod api;
mod captcha;
mod lifetimes;
mod store;
mod view;

pub(crate) use captcha::captcha_keys;
pub use captcha::{CaptchaKeys, CaptchaProvider};
pub(crate) use lifetimes::lifetimes;
pub(crate) use store::{PasswordPolicy, password_policy, rename_role};

use utoipa_actix_web::service_config::ServiceConfig;

/// The endpoints.
pub fn routes(cfg: &mut ServiceConfig) {
    cfg.service(api::get_policy).service(api::patch_policy);
}
