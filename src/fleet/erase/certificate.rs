//! What was erased and when, signed with the installation's key.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::control::documents::{self, Signature};
use crate::error::{ApiError, ApiResult};
use crate::fleet::{Fleet, refused};
use crate::kernel::{BackupId, InstallationId, Slug, TenantId};
use crate::router::MainConn;

/// What such a certificate is, and in which form: no other document that the installation signs says so.
const KIND: &str = "tenantry erasure certificate 1";

/// A backup that was erased.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ErasedBackup {
    /// Identity.
    pub id: BackupId,
    /// The moment whose data it held.
    pub created_at: DateTime<Utc>,
    /// Bytes in the storage.
    pub bytes: Option<i64>,
}

/// What was erased and when.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Certificate {
    /// What this is, and in which form.
    pub kind: String,
    /// Who erased it.
    pub installation: InstallationId,
    /// The tenant.
    pub tenant: TenantId,
    /// Its public name.
    pub slug: Slug,
    /// When it was made; null if it had been deleted before.
    pub created_at: Option<DateTime<Utc>>,
    /// The cluster that its database was on; null for a customer's own.
    pub cluster: Option<String>,
    /// The databases that were dropped, or emptied where they are the customer's own.
    pub databases: Vec<String>,
    /// The role that was dropped; null where it is the customer's own.
    pub role: Option<String>,
    /// The backups that were erased.
    pub backups: Vec<ErasedBackup>,
    /// The objects that were removed from the storage.
    pub objects: usize,
    /// When the destroyed key of its backups had been made; null if there never was one.
    pub backup_key_made_at: Option<DateTime<Utc>>,
    /// The destroyed keys of its access tokens.
    pub signing_keys: Vec<Uuid>,
    /// When all of that was done.
    pub erased_at: DateTime<Utc>,
}

/// A certificate and its signature.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct SignedCertificate {
    /// What was erased and when.
    pub certificate: Certificate,
    /// Over the certificate as JSON without spaces, its names in alphabetical order.
    #[schema(value_type = Object)]
    pub signature: Signature,
}

impl Certificate {
    /// What it is.
    pub(super) fn kind() -> String {
        KIND.to_owned()
    }

    fn signed_text(certificate: &serde_json::Value) -> Vec<u8> {
        // `Value` keeps its names in alphabetical order.
        certificate.to_string().into_bytes()
    }
}

impl Fleet {
    pub(super) async fn sign(&self, certificate: Certificate) -> ApiResult<SignedCertificate> {
        let value = serde_json::to_value(&certificate).map_err(ApiError::internal)?;
        let (text, keys) = (Certificate::signed_text(&value), self.control.keys.clone());
        let signed = self.control.db.read(async move |conn: &mut MainConn| documents::sign(conn, &keys, &text).await);
        Ok(SignedCertificate { certificate, signature: signed.await? })
    }

    /// Whether a certificate was signed by this installation and has not been changed since.
    ///
    /// # Errors
    /// 409 if not; 503 if the control plane does not answer.
    pub async fn check_certificate(&self, text: &str) -> ApiResult<SignedCertificate> {
        let forged = || refused("The certificate is not this installation's, or was changed. Ask for the original.");
        let value: serde_json::Value = serde_json::from_str(text).map_err(|error| forged().caused_by(error))?;
        let signed: SignedCertificate =
            serde_json::from_value(value.clone()).map_err(|error| forged().caused_by(error))?;
        let (text, signature) = (Certificate::signed_text(&value["certificate"]), signed.signature.clone());
        let genuine =
            self.control.db.read(async move |conn: &mut MainConn| documents::verify(conn, &text, &signature).await);
        if signed.certificate.kind == KIND && genuine.await? { Ok(signed) } else { Err(forged()) }
    }
}
