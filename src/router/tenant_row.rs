//! One tenant as the registry's tables have it, its secrets still sealed.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD as BASE64;
use chrono::{DateTime, Utc};
use diesel::sql_types::{Array, BigInt, Binary, Bool, Integer, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel::{OptionalExtension as _, QueryResult};
use diesel_async::RunQueryDsl;
use secrecy::ExposeSecret as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use uuid::Uuid;

use super::conn::MainConn;
use super::connect::{Target, TlsPolicy};
use super::control_plane::unread;
use super::error::{Error, Result};
use super::kept::Kept;
use super::main_db::MainDb;
use super::tenant::{ClusterRef, Tenant};
use super::token::{KeyAlgorithm, KeyId, SigningKey, VerificationKey};
use crate::kernel::crypto::{MacKey, MasterKeys, Place, Sealed};
use crate::kernel::{ClusterId, SigningKeyId, TenantId};

const TENANT: &str = "\
SELECT t.id, t.slug, t.name, t.status, t.kind, t.registration, t.database_name, t.role_name, t.password_sealed, \
       t.url_sealed, t.direct_url_sealed, t.max_connections, t.weight, t.plan, t.schema_version, t.migrations_hash, t.epoch, \
       t.created_at, h.held_until, greatest(t.generation, c.generation) AS generation, \
       c.id AS cluster_id, c.name AS cluster_name, c.host, c.port, c.connection_budget, \
       coalesce(t.tls_mode, c.tls_mode) AS tls_mode, coalesce(t.tls_ca, c.tls_ca) AS tls_ca, \
       coalesce(t.tls_client_cert, c.tls_client_cert) AS tls_client_cert, \
       coalesce(t.tls_client_key_sealed, c.tls_client_key_sealed) AS tls_client_key_sealed, \
       k.ids AS key_ids, k.publics AS key_publics, k.privates AS key_privates, k.in_use AS key_in_use, \
       k.algs AS key_algs, k.begins AS key_begins, k.ends AS key_ends \
FROM tenants t \
LEFT JOIN clusters c ON c.id = t.cluster_id \
LEFT JOIN tenant_holds h ON h.tenant_id = t.id \
CROSS JOIN LATERAL ( \
    SELECT coalesce(array_agg(id ORDER BY id), '{}') AS ids, coalesce(array_agg(public ORDER BY id), '{}') AS publics, \
           coalesce(array_agg(private_sealed ORDER BY id), '{}') AS privates, \
           coalesce(array_agg(retired_at IS NULL ORDER BY id), '{}') AS in_use, \
           coalesce(array_agg(alg ORDER BY id), '{}') AS algs, \
           coalesce(array_agg(signs_from ORDER BY id), '{}') AS begins, \
           coalesce(array_agg(retired_at ORDER BY id), '{}') AS ends \
    FROM signing_keys WHERE tenant_id = t.id AND (retired_at IS NULL OR retired_at > now())) k";

/// See the module. Serialised, it still holds its secrets sealed only.
#[derive(diesel::QueryableByName, Serialize, Deserialize)]
pub(super) struct TenantRow {
    #[diesel(sql_type = SqlUuid)]
    pub(super) id: TenantId,
    #[diesel(sql_type = Text)]
    pub(super) slug: String,
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = Text)]
    status: String,
    #[diesel(sql_type = Text)]
    kind: String,
    #[diesel(sql_type = Text)]
    registration: String,
    #[diesel(sql_type = Text)]
    database_name: String,
    #[diesel(sql_type = Text)]
    role_name: String,
    #[diesel(sql_type = Nullable<Binary>)]
    #[serde(with = "base64_option")]
    password_sealed: Option<Vec<u8>>,
    #[diesel(sql_type = Nullable<Binary>)]
    #[serde(with = "base64_option")]
    url_sealed: Option<Vec<u8>>,
    #[diesel(sql_type = Nullable<Binary>)]
    #[serde(with = "base64_option")]
    direct_url_sealed: Option<Vec<u8>>,
    #[diesel(sql_type = Nullable<Integer>)]
    max_connections: Option<i32>,
    #[diesel(sql_type = Integer)]
    weight: i32,
    #[diesel(sql_type = Nullable<Text>)]
    #[serde(default)]
    plan: Option<String>,
    #[diesel(sql_type = Integer)]
    schema_version: i32,
    #[diesel(sql_type = Nullable<Text>)]
    #[serde(default)]
    migrations_hash: Option<String>,
    #[diesel(sql_type = BigInt)]
    epoch: i64,
    #[diesel(sql_type = Timestamptz)]
    created_at: DateTime<Utc>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    #[serde(default)]
    held_until: Option<DateTime<Utc>>,
    #[diesel(sql_type = BigInt)]
    generation: i64,
    #[diesel(sql_type = Nullable<SqlUuid>)]
    cluster_id: Option<ClusterId>,
    #[diesel(sql_type = Nullable<Text>)]
    cluster_name: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    host: Option<String>,
    #[diesel(sql_type = Nullable<Integer>)]
    port: Option<i32>,
    #[diesel(sql_type = Nullable<Integer>)]
    connection_budget: Option<i32>,
    #[diesel(sql_type = Nullable<Text>)]
    tls_mode: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    tls_ca: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    tls_client_cert: Option<String>,
    #[diesel(sql_type = Nullable<Binary>)]
    #[serde(with = "base64_option")]
    tls_client_key_sealed: Option<Vec<u8>>,
    #[diesel(sql_type = Array<SqlUuid>)]
    key_ids: Vec<Uuid>,
    #[diesel(sql_type = Array<Binary>)]
    #[serde(with = "base64_list")]
    key_publics: Vec<Vec<u8>>,
    #[diesel(sql_type = Array<Binary>)]
    #[serde(with = "base64_list")]
    key_privates: Vec<Vec<u8>>,
    #[diesel(sql_type = Array<Bool>)]
    key_in_use: Vec<bool>,
    // Not in what a release before rotation kept on disk.
    #[diesel(sql_type = Array<Text>)]
    #[serde(default)]
    key_algs: Vec<String>,
    #[diesel(sql_type = Array<Timestamptz>)]
    #[serde(default)]
    key_begins: Vec<DateTime<Utc>>,
    #[diesel(sql_type = Array<Nullable<Timestamptz>>)]
    #[serde(default)]
    key_ends: Vec<Option<DateTime<Utc>>>,
}

impl TenantRow {
    /// The row of one tenant.
    pub(super) async fn find(db: &MainDb, id: TenantId) -> Result<Option<Self>> {
        db.read(async move |conn: &mut MainConn| -> Result<_> { Ok(Self::find_in(conn, id).await?) })
            .await
            .map_err(unread)
    }

    /// The same, in a transaction under way: one that it has just made.
    pub(super) async fn find_in(conn: &mut MainConn, id: TenantId) -> QueryResult<Option<Self>> {
        Kept::<SqlUuid, _>::new([TENANT, " WHERE t.id = "], id).get_result::<Self>(conn).await.optional()
    }

    /// The rows of these tenants, as far as there are any.
    pub(super) async fn of(db: &MainDb, ids: Vec<TenantId>) -> Result<Vec<Self>> {
        db.read(async move |conn: &mut MainConn| -> Result<_> {
            let query = diesel::sql_query(format!("{TENANT} WHERE t.id = ANY($1)"));
            Ok(query.bind::<Array<SqlUuid>, _>(ids).load::<Self>(conn).await?)
        })
        .await
        .map_err(unread)
    }

    /// A page of all tenants, in the order of their ids.
    pub(super) async fn after(db: &MainDb, id: TenantId, limit: i64) -> Result<Vec<Self>> {
        db.read(async move |conn: &mut MainConn| -> Result<_> {
            let query = diesel::sql_query(format!("{TENANT} WHERE t.id > $1 ORDER BY t.id LIMIT $2"));
            Ok(query.bind::<SqlUuid, _>(id).bind::<BigInt, _>(limit).load::<Self>(conn).await?)
        })
        .await
        .map_err(unread)
    }
}

/// What the schema's CHECKs rule out, and what our master keys do not open.
pub(super) fn damaged(what: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::control_plane(what)
}

pub(super) fn open(keys: &MasterKeys, place: Place, sealed: Option<Vec<u8>>) -> Result<secrecy::SecretString> {
    let sealed = sealed.ok_or_else(|| damaged("a sealed value is missing"))?;
    keys.open_text(place, &Sealed::from(sealed)).map_err(damaged)
}

impl TenantRow {
    /// Opens what is sealed in it.
    pub(super) fn read(mut self, keys: &MasterKeys, mac: &MacKey) -> Result<Tenant> {
        let (verification_keys, signing_keys) = self.keys(keys, mac)?;
        let (cluster, target, direct) = self.targets(keys)?;
        Ok(Tenant {
            id: self.id,
            slug: self.slug.parse().map_err(damaged)?,
            name: self.name,
            status: self.status.parse().map_err(|e: String| damaged(e))?,
            kind: self.kind.parse().map_err(|e: String| damaged(e))?,
            registration: self.registration.parse().map_err(|e: String| damaged(e))?,
            cluster,
            target,
            direct,
            max_connections: self.max_connections.and_then(|n| n.try_into().ok()),
            weight: u32::try_from(self.weight).map_err(damaged)?,
            plan: self.plan,
            schema_version: self.schema_version,
            migrations_hash: self.migrations_hash,
            epoch: self.epoch,
            generation: self.generation,
            created_at: self.created_at,
            held_until: self.held_until,
            verification_keys,
            signing_keys,
        })
    }

    fn keys(&mut self, keys: &MasterKeys, mac: &MacKey) -> Result<(Vec<VerificationKey>, Vec<SigningKey>)> {
        let mut verification = Vec::with_capacity(self.key_ids.len());
        let mut signing = Vec::new();
        let publics = std::mem::take(&mut self.key_publics);
        let privates = std::mem::take(&mut self.key_privates);
        for (at, ((id, public), private)) in self.key_ids.iter().zip(publics).zip(privates).enumerate() {
            let key = SigningKeyId::from(*id);
            let algorithm = match self.key_algs.get(at) {
                Some(word) => word.parse().map_err(|e: String| damaged(e))?,
                None => KeyAlgorithm::EdDsa,
            };
            let mut verifies = VerificationKey::new(key, algorithm, public);
            verifies.until = self.key_ends.get(at).copied().flatten();
            verification.push(verifies);
            let kid = KeyId { tenant: self.id, key }.encode(mac);
            let place = Place::new("signing_keys", "private_sealed", *id);
            let opened = keys.open(place, &Sealed::from(private)).map_err(damaged).and_then(|pkcs8| {
                SigningKey::from_pkcs8(kid, algorithm, &pkcs8).ok_or_else(|| damaged("no key of its algorithm"))
            });
            // A former key signs until the next one does; what is left of one that is over may be past reading.
            match opened {
                Ok(mut key) => {
                    key.from = self.key_begins.get(at).copied().unwrap_or_default();
                    signing.push(key);
                }
                Err(error) if self.key_in_use.get(at) == Some(&true) => return Err(error),
                Err(_) => {}
            }
        }
        Ok((verification, signing))
    }

    fn targets(&mut self, keys: &MasterKeys) -> Result<(ClusterRef, Arc<Target>, Arc<Target>)> {
        let id = self.id.uuid();
        let key_place = match self.cluster_id {
            Some(cluster) => Place::new("clusters", "tls_client_key_sealed", cluster.uuid()),
            None => Place::new("tenants", "tls_client_key_sealed", id),
        };
        let client_key = self.tls_client_key_sealed.take().map(|sealed| open(keys, key_place, Some(sealed)));
        let tls = TlsPolicy {
            mode: self.tls_mode.take().unwrap_or_default().parse().map_err(|e: String| damaged(e))?,
            ca: self.tls_ca.take(),
            client_cert: self.tls_client_cert.take(),
            client_key: client_key.transpose()?,
        };
        if let (Some(cluster), Some(name), Some(host), Some(port)) =
            (self.cluster_id, self.cluster_name.take(), self.host.take(), self.port)
        {
            let connection_budget = self.connection_budget.and_then(|n| n.try_into().ok());
            let target = Target {
                host,
                port: u16::try_from(port).map_err(damaged)?,
                database: std::mem::take(&mut self.database_name),
                user: std::mem::take(&mut self.role_name),
                password: open(keys, Place::new("tenants", "password_sealed", id), self.password_sealed.take())?,
                tls,
            };
            let target = Arc::new(target);
            return Ok((ClusterRef { id: cluster, name, connection_budget }, target.clone(), target));
        }
        let url = open(keys, Place::new("tenants", "url_sealed", id), self.url_sealed.take())?;
        let direct = open(keys, Place::new("tenants", "direct_url_sealed", id), self.direct_url_sealed.take())?;
        let cluster = ClusterRef { id: id.into(), name: "dedicated".into(), connection_budget: None };
        let target = Arc::new(Target::parse(&url, tls.clone()).map_err(damaged)?);
        let direct = if url.expose_secret() == direct.expose_secret() {
            target.clone()
        } else {
            Arc::new(Target::parse(&direct, tls).map_err(damaged)?)
        };
        Ok((cluster, target, direct))
    }
}

/// Bytes as text, in the form in which a row is kept outside the database.
pub(super) mod base64_bytes {
    use super::*;

    pub(in crate::router) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64.encode(bytes))
    }

    pub(in crate::router) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(deserializer)?;
        BASE64.decode(text).map_err(de::Error::custom)
    }
}

#[derive(Serialize, Deserialize)]
struct Bytes(#[serde(with = "base64_bytes")] Vec<u8>);

mod base64_option {
    use super::*;

    pub(super) fn serialize<S: Serializer>(bytes: &Option<Vec<u8>>, serializer: S) -> Result<S::Ok, S::Error> {
        bytes.clone().map(Bytes).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<u8>>, D::Error> {
        Ok(Option::<Bytes>::deserialize(deserializer)?.map(|bytes| bytes.0))
    }
}

mod base64_list {
    use super::*;

    pub(super) fn serialize<S: Serializer>(list: &[Vec<u8>], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(list.iter().cloned().map(Bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Vec<u8>>, D::Error> {
        Ok(Vec::<Bytes>::deserialize(deserializer)?.into_iter().map(|bytes| bytes.0).collect())
    }
}
