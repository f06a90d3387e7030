//! Which tenant a request belongs to: the token says it; header, host and parameter may only confirm.

use std::sync::Arc;
use std::time::Duration;

use moka::policy::EvictionPolicy;
use moka::sync::Cache;

use super::error::{Error, Result};
use super::registry::RegistryCache;
use super::tenant::{Tenant, TenantStatus};
use super::token::{ACCESS_TYP, AccessClaims, KeyId, strict_kid};
use super::{Guards, RouterConfig};
use crate::kernel::crypto::{MacKey, sha256};
use crate::kernel::{Slug, TenantId};

/// What verified tokens may take that are remembered, so that a signature is checked once; in bytes, about.
const REMEMBERED: u64 = 256 << 20;
/// What a token takes, about: its claims once read, many of them small, for each of its bytes, and what comes with any.
const PER_BYTE: usize = 4;
const PER_TOKEN: usize = 512;
const REMEMBERED_FOR: Duration = Duration::from_secs(600);

/// Tenant names found in a request besides its token; they only confirm.
#[derive(Debug, Clone, Default)]
pub struct TenantHints {
    /// `X-Tenant-ID`: id or slug.
    pub header: Option<String>,
    /// The subdomain of [`RouterConfig::tenant_domain`].
    pub host: Option<String>,
    /// `?tenant=`.
    pub query: Option<String>,
}

impl TenantHints {
    fn all(&self) -> impl Iterator<Item = &str> {
        [&self.header, &self.host, &self.query].into_iter().flatten().map(String::as_str)
    }

    /// Whether every name present is this tenant's.
    pub(super) fn confirm(&self, tenant: &Tenant) -> Result<()> {
        let names = |hint: &str| hint == tenant.slug.as_str() || hint == tenant.id.to_string();
        if self.all().all(names) { Ok(()) } else { Err(Error::TenantMismatch) }
    }
}

struct Remembered {
    claims: Arc<AccessClaims>,
    key: KeyId,
    weight: u32,
}

/// See the module.
pub(super) struct Resolver {
    tokens: Cache<[u8; 32], Arc<Remembered>>,
    guards: Guards,
}

impl Resolver {
    pub(super) fn new(guards: Guards) -> Self {
        Self {
            tokens: Cache::builder()
                .max_capacity(REMEMBERED)
                .weigher(|_, token: &Arc<Remembered>| token.weight)
                .time_to_live(REMEMBERED_FOR)
                .eviction_policy(EvictionPolicy::lru())
                .build(),
            guards,
        }
    }

    /// The tenant whose key signed the token, and what the token says. No tenant database is opened here.
    pub(super) async fn verify(
        &self,
        token: &str,
        hints: &TenantHints,
        registry: &RegistryCache,
        mac: &MacKey,
        config: &RouterConfig,
    ) -> Result<(Arc<Tenant>, Arc<AccessClaims>)> {
        let hash = sha256(token.as_bytes());
        let (tenant, claims) = match self.tokens.get(&hash) {
            Some(known) => {
                let tenant = self.tenant(known.key.tenant, registry).await?;
                // The entry dies with the key, and with the issuer's name.
                let now = config.clock.now();
                let stands = tenant.verification_keys.iter().any(|k| k.id == known.key.key && k.counts(now))
                    && is_issuer(&known.claims.iss, &tenant.slug, config);
                if !stands {
                    self.tokens.invalidate(&hash);
                    return Err(Error::TokenInvalid("key withdrawn"));
                }
                (tenant, known.claims.clone())
            }
            None => {
                let (tenant, claims, key) = self.verify_signature(token, registry, mac, config).await?;
                let claims = Arc::new(claims);
                self.remember(hash, token, claims.clone(), key);
                (tenant, claims)
            }
        };
        let now = config.clock.now().timestamp();
        let leeway = i64::try_from(config.clock_leeway.as_secs()).unwrap_or(0);
        if claims.exp.saturating_add(leeway) <= now {
            return Err(Error::TokenExpired);
        }
        if claims.iat > now.saturating_add(leeway) {
            return Err(Error::TokenInvalid("iat"));
        }
        if self.guards.confirm_hints {
            hints.confirm(&tenant)?;
        }
        serving(&tenant)?;
        Ok((tenant, claims))
    }

    fn remember(&self, hash: [u8; 32], token: &str, claims: Arc<AccessClaims>, key: KeyId) {
        let weight = u32::try_from(PER_TOKEN + PER_BYTE * token.len()).unwrap_or(u32::MAX);
        self.tokens.insert(hash, Arc::new(Remembered { claims, key, weight }));
    }

    async fn tenant(&self, id: TenantId, registry: &RegistryCache) -> Result<Arc<Tenant>> {
        registry.get(id).await.map_err(|error| match error {
            Error::TenantUnknown => Error::TokenInvalid("tenant"),
            other => other,
        })
    }

    async fn verify_signature(
        &self,
        token: &str,
        registry: &RegistryCache,
        mac: &MacKey,
        config: &RouterConfig,
    ) -> Result<(Arc<Tenant>, AccessClaims, KeyId)> {
        let typ = if self.guards.check_typ { Some(ACCESS_TYP) } else { None };
        let kid = strict_kid(token, typ)?;
        let key_id = KeyId::decode(mac, &kid).ok_or(Error::TokenInvalid("kid"))?;
        let tenant = self.tenant(key_id.tenant, registry).await?;
        let now = config.clock.now();
        let key = tenant.verification_keys.iter().find(|k| k.id == key_id.key && k.counts(now));
        let key = key.ok_or(Error::TokenInvalid("key"))?.clone();
        let leeway = config.clock_leeway.as_secs();
        if self.guards.bind_key {
            let issuer = config.issuer(&tenant.slug);
            let claims: AccessClaims = key.verify(token, &issuer, &issuer, leeway)?;
            // Compared as text: a look-alike spelling of the id is not the id.
            if claims.tid != tenant.id.to_string() {
                return Err(Error::TokenInvalid("tid"));
            }
            if !claims.agree() {
                return Err(Error::TokenInvalid("claims that do not agree"));
            }
            return Ok((tenant, claims, key_id));
        }
        // Without the guard: what a naive server does, which believes the claim.
        let claims: AccessClaims = key.verify_signature_only(token)?;
        let claimed = claims.tid.parse().map_err(|_| Error::TokenInvalid("tid"))?;
        let tenant = self.tenant(claimed, registry).await?;
        Ok((tenant, claims, key_id))
    }
}

/// Whether this is [`RouterConfig::issuer`] of the tenant, without writing that down for every request.
fn is_issuer(issuer: &str, slug: &Slug, config: &RouterConfig) -> bool {
    let rest = issuer.strip_prefix(config.public_url.as_str()).and_then(|rest| rest.strip_suffix(slug.as_str()));
    rest == Some("/t/")
}

/// Whether a tenant serves the bearer of one of its tokens.
pub(super) fn serving(tenant: &Tenant) -> Result<()> {
    match tenant.status {
        TenantStatus::Active => Ok(()),
        TenantStatus::Suspended => Err(Error::TenantSuspended),
        TenantStatus::Provisioning => Err(Error::TenantUnavailable { retry_after: Duration::from_secs(1) }),
        TenantStatus::Archived => Err(Error::TokenInvalid("tenant archived")),
    }
}

/// The tenant that a request without a token names: in its body, by header or by host. Several names must agree.
pub(super) async fn named(body: Option<&str>, hints: &TenantHints, registry: &RegistryCache) -> Result<Arc<Tenant>> {
    let name = body.or(hints.header.as_deref()).or(hints.host.as_deref()).ok_or(Error::TenantRequired)?;
    let tenant = match name.parse::<TenantId>() {
        Ok(id) if body.is_none() => registry.get(id).await?,
        _ => registry.get_by_slug(&name.parse::<Slug>().map_err(|_| Error::TenantUnknown)?).await?,
    };
    // To a stranger, a tenant that does not serve is one that does not exist, whatever else the request names.
    serving(&tenant).map_err(|error| match error {
        making @ Error::TenantUnavailable { .. } => making,
        _ => Error::TenantUnknown,
    })?;
    hints.confirm(&tenant)?;
    Ok(tenant)
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use uuid::Uuid;

    use super::*;
    use crate::router::token::MAX_TOKEN_LEN;

    #[test]
    fn long_tokens_take_no_more_than_short_ones() {
        let resolver = Resolver::new(Guards::default());
        let id = Uuid::now_v7();
        let claims = json!({
            "iss": "i", "aud": "i", "sub": id, "tid": id.to_string(), "sid": id, "jti": id, "iat": 0, "exp": 0,
            "roles": [], "amr": [], "auth_time": 0, "ver": 0,
        });
        let claims: Arc<AccessClaims> = Arc::new(serde_json::from_value(claims).unwrap());
        let key = KeyId { tenant: id.into(), key: id.into() };
        let token = "t".repeat(MAX_TOKEN_LEN);
        for number in 0..20_000_u32 {
            resolver.remember(sha256(&number.to_be_bytes()), &token, claims.clone(), key);
        }
        for _ in 0..100 {
            resolver.tokens.run_pending_tasks();
        }
        let (takes, tokens) = (resolver.tokens.weighted_size(), resolver.tokens.entry_count());
        assert!(takes <= REMEMBERED && tokens > 10_000, "{tokens} tokens take {takes} bytes");
        let each = u64::try_from(MAX_TOKEN_LEN).unwrap() * 4;
        assert!(tokens * each <= REMEMBERED, "{tokens} tokens of {each} bytes");
    }

    #[test]
    fn an_issuer_is_one_of_its_tenant_only() {
        let config = RouterConfig::new("https://api.example.com");
        let slug: Slug = "acme".parse().unwrap();
        assert!(is_issuer(&config.issuer(&slug), &slug, &config));
        for other in
            ["https://api.example.com/t/acme2", "https://api.example.com/t/t/acme", "https://api.example.com/tacme"]
        {
            assert!(!is_issuer(other, &slug, &config), "{other}");
        }
        assert!(!is_issuer("https://api.example.comacme", &slug, &config) && !is_issuer("", &slug, &config));
    }
}
