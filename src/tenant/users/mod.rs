//! The people of a tenant: their names and addresses, whether they may come in, and their roles.
//!
//! Whoever may change people can neither give away more than they themselves may do, nor take over somebody who may do
//! more, nor remove the last active administrator.
//! Deactivation, removal and a new password from an administrator end the person's sessions.

pub mod api;
mod change;
mod import;
mod invitations;
mod list;
mod me;
mod power;
mod reassign;
mod roles;
pub mod rules;
pub mod store;
mod trail;

pub(crate) use power::{check_control, keep_an_admin};
pub(crate) use trail::{tell, void_invitation, void_invitations};

use utoipa_actix_web::service_config::ServiceConfig;

/// The endpoints. `me` comes before `{id}`.
pub fn routes(cfg: &mut ServiceConfig) {
    cfg.service(me::get_me)
        .service(me::patch_me)
        .service(list::list_users)
        .service(api::create_user)
        .service(import::import_users)
        .service(api::get_user)
        .service(change::replace_user)
        .service(change::patch_user)
        .service(change::delete_user)
        .service(reassign::reassign_user)
        .service(invitations::list_invitations)
        .service(invitations::invite_people)
        .service(invitations::resend_invitation)
        .service(invitations::revoke_invitation)
        .service(roles::add_role)
        .service(roles::remove_role);
}
