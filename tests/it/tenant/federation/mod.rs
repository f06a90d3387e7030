//! Signing in through identity providers: two that are certified, and one that does what it is told.

mod change;
mod lies;
mod links;
mod sign_in;
mod trust;

use serde_json::{Value, json};
use tenantry::testing::{Answer, Persona, Tenant};

use crate::support::identity::{back, begin};
use crate::support::unique;

const PASSWORD: &str = "an uncommon sentence of five words";

fn person(sub: &str, email: &str, verified: bool) -> Value {
    json!({"sub": sub, "email": email, "verified": verified, "name": "Ada Lovelace"})
}

/// A sign-in at the evil provider with such an ID token.
async fn with(tenant: &Tenant, slug: &str, wish: Value) -> Answer {
    let begun = begin(tenant, slug).await;
    back(&tenant.anonymous(), &begun.state, &begun.code(&wish), None).await
}

/// Somebody who may set providers up and nothing else.
async fn keeper(tenant: &Tenant) -> Persona {
    let role = json!({"name": "door", "permissions": ["identity-providers:write", "identity-providers:read"]});
    tenant.admin().post("/api/v1/roles", role).await.expect(201);
    let email = format!("{}@acme.test", unique("door"));
    let wanted = json!({"email": email, "firstName": "D", "lastName": "D", "password": PASSWORD, "roles": ["door"]});
    tenant.admin().post("/api/v1/users", wanted).await.expect(201);
    tenant.person(&email, PASSWORD)
}

async fn add(tenant: &Tenant, email: &str) -> String {
    let body = json!({"email": email, "firstName": "X", "lastName": "X", "password": PASSWORD, "roles": ["user"]});
    tenant.admin().post("/api/v1/users", body).await.expect(201).id()
}
