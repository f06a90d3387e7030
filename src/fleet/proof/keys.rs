//! Nothing that tells tenants apart may be two tenants': signing keys, passwords, databases.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use secrecy::ExposeSecret as _;

use super::Ground;
use super::report::Fault;
use super::stamps::Seen;
use crate::control::signing_keys;
use crate::error::ApiResult;
use crate::fleet::Fleet;
use crate::kernel::TenantId;
use crate::kernel::crypto::sha256;
use crate::router::MainConn;

/// Signing keys: both halves, those out of use included. Gives how many there are.
pub(super) async fn signing(fleet: &Fleet, ground: &Ground) -> ApiResult<(usize, Vec<Fault>)> {
    let all = fleet.control.db.read(async |conn: &mut MainConn| signing_keys::list(conn).await).await?;
    let slugs: HashMap<TenantId, &str> =
        ground.tenants.iter().map(|tenant| (tenant.id, tenant.slug.as_str())).collect();
    let holder = |tenant: Option<TenantId>| match tenant {
        None => "the installation's operators".to_owned(),
        Some(id) => slugs.get(&id).map_or_else(|| id.to_string(), |slug| (*slug).to_owned()),
    };
    let mut faults = Vec::new();
    let mut halves: BTreeMap<Vec<u8>, BTreeSet<String>> = BTreeMap::new();
    for key in &all {
        let subject = holder(key.tenant_id);
        halves.entry(key.public.clone()).or_default().insert(subject.clone());
        let private = key.private(&fleet.control.keys);
        let public = private.ok().zip(key.algorithm().ok()).and_then(|(private, alg)| alg.public_of(&private));
        let Some(public) = public else {
            faults.push(Fault::new("key_unusable", subject, "the private half of a signing key does not open"));
            continue;
        };
        if public != key.public {
            let said = "the private half of a signing key is not that of its public half";
            faults.push(Fault::new("key_halves_differ", &subject, said));
        }
        halves.entry(public).or_default().insert(subject);
    }
    for holders in halves.into_values().filter(|holders| holders.len() > 1) {
        faults.push(shared("key_shared", "a signing key", &holders));
    }
    let signs: BTreeSet<TenantId> =
        all.iter().filter(|key| key.retired_at.is_none()).filter_map(|key| key.tenant_id).collect();
    for tenant in ground.tenants.iter().filter(|tenant| !signs.contains(&tenant.id)) {
        faults.push(Fault::new("key_missing", &tenant.slug, "it has no signing key in use"));
    }
    Ok((all.len(), faults))
}

/// Passwords and databases.
pub(super) fn credentials(seen: &[Seen<'_>]) -> Vec<Fault> {
    let mut passwords: BTreeMap<[u8; 32], BTreeSet<String>> = BTreeMap::new();
    let mut databases: BTreeMap<(&str, u16, &str), BTreeSet<String>> = BTreeMap::new();
    for one in seen {
        let (slug, Some(target)) = (one.tenant.slug.to_string(), &one.target) else { continue };
        let place = (target.host.as_str(), target.port, target.database.as_str());
        databases.entry(place).or_default().insert(slug.clone());
        // A customer's own server may ask for none: then there is nothing to share.
        if !target.password.expose_secret().is_empty() {
            let digest = sha256(target.password.expose_secret().as_bytes());
            passwords.entry(digest).or_default().insert(slug);
        }
    }
    let passwords = passwords.into_values().map(|holders| ("password_shared", "a password", holders));
    let databases = databases.into_values().map(|holders| ("database_shared", "a database", holders));
    let several = passwords.chain(databases).filter(|(.., holders)| holders.len() > 1);
    several.map(|(code, what, holders)| shared(code, what, &holders)).collect()
}

fn shared(code: &'static str, what: &str, holders: &BTreeSet<String>) -> Fault {
    let names = holders.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
    let said = format!("{what} is shared by {names}");
    Fault::new(code, names, said)
}
