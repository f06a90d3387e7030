//! The control plane: which tenants there are and where, the keys, the journal of operations, the operators.
//!
//! Works on `MainConn` alone, and holds no personal data of tenants' people.

pub mod addresses;
pub mod backups;
pub mod clusters;
pub mod dirty;
pub mod docs;
pub mod documents;
pub mod installation;
pub mod kept;
pub mod migration_runs;
pub mod migrations;
mod names;
pub mod operations;
pub mod operators;
pub mod people;
pub mod ready;
pub mod registry_log;
pub mod requests;
mod rewrap;
mod schema;
pub mod searches;
pub mod signing_keys;
pub mod signups;
pub mod tenants;

use std::sync::Arc;

pub use names::names_on_servers;
pub use rewrap::{Rewrapped, SealedLook, Shut, rewrap, sealed};

use utoipa_actix_web::service_config::ServiceConfig;

use crate::error::{ApiError, ApiResult, Code};
use crate::kernel::Clock;
use crate::kernel::crypto::{MasterKeys, Place, Sealed};
use crate::router::migrate::{Applied, MigrateError};
use crate::router::{Installation, MainConn, MainDb, Target, TlsMode, TlsPolicy};

/// What every use of the control plane needs. Clones share it.
#[derive(Debug, Clone)]
pub struct ControlPlane {
    /// The database.
    pub db: MainDb,
    /// Seal and open what is secret in it.
    pub keys: Arc<MasterKeys>,
    /// The clock.
    pub clock: Clock,
}

impl ControlPlane {
    /// A control plane on a database; opens nothing yet.
    #[must_use]
    pub fn new(db: MainDb, keys: Arc<MasterKeys>, clock: Clock) -> Self {
        Self { db, keys, clock }
    }

    /// Brings the control plane's database to the embedded schema. Once it is there, this costs one look.
    ///
    /// # Errors
    /// [`MigrateError`]; migrations before the failed one stay applied.
    pub async fn migrate(target: &Target) -> Result<Applied, MigrateError> {
        migrations::run(target).await
    }

    /// Makes the installation's identity, MAC key and operators' signing key, if they are not there yet.
    ///
    /// # Errors
    /// If the control plane does not answer, or its secrets do not open with our master keys.
    pub async fn ensure_installation(&self) -> ApiResult<Installation> {
        let keys = self.keys.clone();
        self.db
            .read(async move |conn| {
                let installation = installation::ensure(conn, &keys).await?;
                signing_keys::ensure_operators(conn, &keys).await?;
                Ok(installation)
            })
            .await
            .map_err(fault)
    }

    /// Whether its schema is there at all.
    ///
    /// # Errors
    /// If the control plane does not answer.
    pub async fn has_schema(&self) -> ApiResult<bool> {
        let there = self.db.read(async |conn: &mut MainConn| installation::has_schema(conn).await).await;
        there.map_err(fault)
    }

    /// Whether our master keys are those of the installation. What is sealed with others, its nodes cannot open.
    ///
    /// # Errors
    /// If the control plane does not answer, or has no schema.
    pub async fn takes_our_keys(&self) -> ApiResult<bool> {
        let keys = self.keys.clone();
        let taken = self.db.read(async move |conn: &mut MainConn| installation::takes(conn, &keys).await).await;
        taken.map_err(fault)
    }
}

/// A statement that failed because its database is away says that of the control plane here, not of a tenant's.
fn fault(error: ApiError) -> ApiError {
    match error.code() {
        Code::TenantDatabaseUnavailable => ApiError::new(Code::ControlPlaneUnavailable).caused_by(error),
        _ => error,
    }
}

/// Opens a sealed text, which the database says must be there.
fn open_text(keys: &MasterKeys, place: Place, sealed: Option<Vec<u8>>) -> ApiResult<secrecy::SecretString> {
    let sealed = sealed.ok_or_else(|| ApiError::internal("a sealed value is missing"))?;
    keys.open_text(place, &Sealed::from(sealed)).map_err(ApiError::internal)
}

/// Reads a word that a CHECK of the schema keeps to the known ones.
fn word<T: std::str::FromStr<Err = String>>(text: &str) -> ApiResult<T> {
    text.parse().map_err(ApiError::internal)
}

/// The TLS columns of a cluster or a dedicated tenant.
fn tls_policy(
    keys: &MasterKeys,
    place: Place,
    mode: &str,
    ca: Option<String>,
    client_cert: Option<String>,
    client_key_sealed: Option<Vec<u8>>,
) -> ApiResult<TlsPolicy> {
    let client_key = client_key_sealed.map(|sealed| open_text(keys, place, Some(sealed))).transpose()?;
    Ok(TlsPolicy { mode: word::<TlsMode>(mode)?, ca, client_cert, client_key })
}

/// Every route of the control plane's own features.
pub fn routes(cfg: &mut ServiceConfig) {
    cfg.configure(operators::routes);
}
