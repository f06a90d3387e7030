//! Changes of the registry win, everywhere within two seconds.

use std::sync::Arc;

use async_trait::async_trait;
use futures_util::join;
use tenantry::kernel::{Slug, TenantId};
use tenantry::router::{
    Changes, ClaimsOnly, ControlPlaneRegistry, Error, Installation, Registry, Result, Router, RouterConfig, Tenant,
    TenantHints,
};
use tenantry::testing::TestApp;

use crate::support::{db, eventually, seconds, unique};

#[actix_web::test]
async fn suspension_holds_within_two_seconds_for_tokens_already_issued() {
    let home = TestApp::shared().await;
    let other = TestApp::builder().beside(home).start().await;
    let acme = home.tenant("acme").await;
    let here = acme.admin();
    let there = here.at(other.url());
    join!(async { here.get("/api/v1/contacts").await.expect(200) }, async {
        there.get("/api/v1/contacts").await.expect(200)
    });
    acme.suspend().await;
    for node in [&here, &there] {
        eventually(seconds(2), "suspended", async || node.get("/api/v1/contacts").await.status == 403).await;
        node.get("/api/v1/contacts").await.refused(403, "tenant_suspended");
    }
    let refresh = serde_json::json!({"refreshToken": here.refresh_token().await});
    here.anonymous().post("/api/v1/auth/refresh", refresh).await.refused(403, "tenant_suspended");
    acme.log_in_as(acme.email(), acme.password()).await.refused(401, "invalid_credentials");
    // Its connections are given back.
    let gone = async || {
        home.router().pools().snapshot(acme.id).is_none() && other.router().pools().snapshot(acme.id).is_none()
    };
    eventually(seconds(5), "no pool is kept for it", gone).await;
    acme.resume().await;
    for node in [&here, &there] {
        eventually(seconds(2), "resumed", async || node.get("/api/v1/contacts").await.status == 200).await;
    }
}

#[actix_web::test]
async fn a_new_tenant_serves_at_once_even_after_it_was_asked_for() {
    let app = TestApp::shared().await;
    let slug = unique("asked");
    let nobody = app.anonymous();
    let body = serde_json::json!({"tenant": slug, "email": "a@example.com", "password": "x"});
    nobody.post("/api/v1/auth/login", body).await.refused(401, "invalid_credentials");
    nobody.get(&format!("/t/{slug}/.well-known/jwks.json")).await.expect(404);
    let wanted = tenantry::fleet::CreateTenant {
        slug: slug.parse().unwrap(),
        name: None,
        cluster: None,
        registration: None,
        region: None,
        plan: None,
        max_connections: None,
        admin: None,
    };
    app.fleet().create(&wanted, &Default::default(), &tenantry::fleet::Silent).await.unwrap();
    let known = async || nobody.get(&format!("/t/{slug}/.well-known/jwks.json")).await.status == 200;
    eventually(seconds(2), "it is known", known).await;
}

#[actix_web::test]
async fn another_name_ends_the_tokens_of_the_old_one() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let admin = acme.admin();
    admin.get("/api/v1/users/me").await.expect(200);
    let renamed = unique("renamed");
    db::execute(app.control_database(), &format!("UPDATE tenants SET slug = '{renamed}' WHERE id = '{}'", acme.id))
        .await;
    eventually(seconds(2), "the old tokens end", async || admin.get("/api/v1/users/me").await.status == 401).await;
    admin.get("/api/v1/users/me").await.refused(401, "token_invalid");
    let body = serde_json::json!({"tenant": renamed, "email": acme.email(), "password": acme.password()});
    acme.anonymous().post("/api/v1/auth/login", body).await.expect(200);
    acme.log_in_as(acme.email(), acme.password()).await.refused(401, "invalid_credentials");
}

#[actix_web::test]
async fn work_that_no_request_brings_gets_the_databases_of_tenants_that_serve() {
    let app = TestApp::shared().await;
    let (acme, globex) = (app.tenant("acme").await, app.tenant("globex").await);
    let control = app.control();
    let registry = Arc::new(ControlPlaneRegistry::new(control.db, control.keys));
    let config = RouterConfig::new("http://tenantry.test");
    let router = Router::start(registry, Arc::new(ClaimsOnly), config).await.unwrap();
    for tenant in [&acme, &globex] {
        assert_eq!(router.of_tenant(tenant.id).await.unwrap().tenant().id, tenant.id);
    }
    acme.suspend().await;
    app.fleet().archive(globex.id).await.unwrap();
    let suspended = async || matches!(router.of_tenant(acme.id).await, Err(Error::TenantSuspended));
    eventually(seconds(5), "suspended", suspended).await;
    let archived = async || matches!(router.of_tenant(globex.id).await, Err(Error::TenantUnknown));
    eventually(seconds(5), "archived", archived).await;
    assert!(matches!(router.of_tenant(TenantId::generate()).await, Err(Error::TenantUnknown)));
    acme.resume().await;
    eventually(seconds(5), "resumed", async || router.of_tenant(acme.id).await.is_ok()).await;
    router.shutdown().await;
}

#[actix_web::test]
async fn an_archived_tenant_s_tokens_are_nobody_s() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let admin = acme.admin();
    admin.get("/api/v1/users/me").await.expect(200);
    app.fleet().archive(acme.id).await.unwrap();
    eventually(seconds(2), "archived", async || admin.get("/api/v1/users/me").await.status == 401).await;
    admin.get("/api/v1/users/me").await.refused(401, "token_invalid");
}

/// The registry without its announcements.
struct Silent(ControlPlaneRegistry);

#[async_trait]
impl Registry for Silent {
    async fn installation(&self) -> Result<Installation> {
        self.0.installation().await
    }
    async fn tenant_by_id(&self, id: TenantId) -> Result<Option<Tenant>> {
        self.0.tenant_by_id(id).await
    }
    async fn id_by_slug(&self, slug: &Slug) -> Result<Option<TenantId>> {
        self.0.id_by_slug(slug).await
    }
    async fn changes_since(&self, generation: Option<i64>) -> Result<Changes> {
        self.0.changes_since(generation).await
    }
    async fn announced(&self) -> Result<()> {
        std::future::pending().await
    }
}

#[actix_web::test]
async fn without_announcements_the_poll_is_quick_enough() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let control = app.control();
    let registry = Silent(ControlPlaneRegistry::new(control.db, control.keys));
    let config = RouterConfig::new("http://tenantry.test");
    let router = Router::start(Arc::new(registry), Arc::new(ClaimsOnly), config).await.unwrap();
    let hints = TenantHints::default();
    router.named(Some(acme.slug.as_str()), &hints).await.unwrap();
    acme.suspend().await;
    let suspended = async || matches!(router.named(Some(acme.slug.as_str()), &hints).await, Err(Error::TenantUnknown));
    eventually(seconds(2), "the poll has seen it", suspended).await;
    router.shutdown().await;
}
