//! Whether the master keys at hand are those of the installation: what is sealed with others, its nodes cannot open.

use std::error::Error as StdError;

use super::Refused;
use crate::control::ControlPlane;
use crate::error::{ApiError, Code};

/// Another installation's keys, or its database.
pub(super) fn foreign() -> anyhow::Error {
    let what = "TENANTRY_MASTER_KEY does not open what the installation in TENANTRY_DATABASE_URL has sealed: the key belongs \
                to another installation";
    Refused::new(what, "set the key that this installation runs with, or the database that the key belongs to").into()
}

/// Refuses foreign keys, before anything is sealed with them.
///
/// # Errors
/// [`foreign`]; else what keeps them from being tried.
pub(super) async fn check(control: &ControlPlane) -> anyhow::Result<()> {
    if control.takes_our_keys().await? { Ok(()) } else { Err(foreign()) }
}

/// A fault of our own side that foreign keys are the cause of says so.
pub(super) async fn behind(control: Option<&ControlPlane>, error: anyhow::Error) -> anyhow::Error {
    let ours = |cause: &(dyn StdError + 'static)| {
        cause.downcast_ref::<ApiError>().is_some_and(|error| error.code() == Code::Internal)
    };
    let Some(control) = control.filter(|_| error.chain().any(ours)) else { return error };
    match control.takes_our_keys().await {
        Ok(false) => foreign(),
        _ => error,
    }
}
