//! A forge of a test's tenant.

pub(crate) use tenantry::fleet::proof::forge::{Forge, part};
use tenantry::kernel::crypto::{Place, Sealed};
use tenantry::testing::{Tenant, TestApp};

use super::{db, unhex};

/// Takes the tenant's key out of the control plane (with the master key), and a token of its administrator.
pub(crate) async fn forge_of(app: &TestApp, tenant: &Tenant) -> Forge {
    let row = db::word(
        app.control_database(),
        &format!(
            "SELECT id || ' ' || encode(private_sealed, 'hex') || ' ' || encode(public, 'hex') AS word \
             FROM signing_keys WHERE tenant_id = '{}'",
            tenant.id
        ),
    )
    .await;
    let mut columns = row.split(' ');
    let id = columns.next().and_then(|id| id.parse().ok()).expect("a key's id");
    let sealed = Sealed::from(unhex(columns.next().expect("a sealed key")));
    let public = unhex(columns.next().expect("a public key"));
    let place = Place::new("signing_keys", "private_sealed", id);
    let private = app.control().keys.open(place, &sealed).expect("our own master key opens it");
    Forge::new(&private, public, tenant.admin().token().await).expect("an Ed25519 key, and a token")
}
