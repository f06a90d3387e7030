//! Whether there is an installation, and the master keys at hand are its own: what is sealed with others, its nodes cannot
//! open.

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

/// The refusal, if the control plane was never migrated.
async fn unmade(control: &ControlPlane) -> Option<anyhow::Error> {
    let is_there = control.has_schema().await.unwrap_or(true);
    (!is_there).then(|| Refused::new("the control plane has no schema yet", "run `tenantry migrate`").into())
}

/// Refuses foreign keys, before anything is sealed with them.
///
/// # Errors
/// [`foreign`]; a refusal where nothing was ever migrated; else what keeps the keys from being tried.
pub(super) async fn check(control: &ControlPlane) -> anyhow::Result<()> {
    match control.takes_our_keys().await {
        Ok(true) => Ok(()),
        Ok(false) => Err(foreign()),
        Err(error) => Err(unmade(control).await.unwrap_or_else(|| error.into())),
    }
}

/// As [`check`], but a control plane that cannot be asked now is waited for.
///
/// # Errors
/// [`foreign`]; a refusal where nothing was ever migrated.
pub(super) async fn check_if_there(control: &ControlPlane) -> anyhow::Result<()> {
    match control.takes_our_keys().await {
        Ok(true) => Ok(()),
        Ok(false) => Err(foreign()),
        Err(_) => unmade(control).await.map_or(Ok(()), Err),
    }
}

/// A fault of our own side that foreign keys, or a database that was never migrated, are the cause of says so.
pub(super) async fn behind(control: Option<&ControlPlane>, error: anyhow::Error) -> anyhow::Error {
    let ours = |cause: &(dyn StdError + 'static)| {
        cause.downcast_ref::<ApiError>().is_some_and(|error| error.code() == Code::Internal)
    };
    let Some(control) = control.filter(|_| error.chain().any(ours)) else { return error };
    match control.takes_our_keys().await {
        Ok(true) => error,
        Ok(false) => foreign(),
        Err(_) => unmade(control).await.unwrap_or(error),
    }
}
