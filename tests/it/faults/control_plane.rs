//! The control plane is lost, or its announcements are: known tenants are served, and what was decided still holds.

use std::time::{Duration, Instant};

use chrono::TimeDelta;
use tenantry::router::Target;
use tenantry::testing::{Fault, FaultProxy, Persona, Tenant, TestApp, TestCluster};

use super::ground::{PATIENCE, RECOVERY, read, undisturbed, warm};
use crate::support::{db, eventually, say, seconds, shared};

/// Suspends, past every command: the row in the registry alone.
async fn suspend(control: &Target, tenant: &Tenant) {
    db::execute(control, &format!("UPDATE tenants SET status = 'suspended' WHERE id = '{}'", tenant.id)).await;
}

async fn until_suspended(within: Duration, person: &Persona) {
    let begun = Instant::now();
    eventually(within, "suspended", async || read(person).await.status == 403).await;
    read(person).await.refused(403, "tenant_suspended");
    say(&format!("suspended: held after {:?}", begun.elapsed()));
}

/// Known tenants are served, logins and writes included, while the control plane is gone, and while nothing of it comes
/// through; operators are told; what was decided meanwhile holds afterwards.
#[actix_web::test]
async fn without_the_control_plane_known_tenants_are_served() {
    let plane = TestCluster::get().await.database("plane").await;
    let proxy = FaultProxy::start(plane.target());
    let app = TestApp::builder().control_database(proxy.target()).start().await;
    let tenants = warm(&app, 3).await;
    let operator = app.operator();
    operator.get("/api/v1/admin/tenants").await.expect(200);
    undisturbed(&tenants[..1], async {
        for (tenant, fault) in tenants[1..].iter().zip([Fault::Reset, Fault::BlackHole]) {
            proxy.set(fault).await;
            let begun = Instant::now();
            let told = operator.get("/api/v1/admin/tenants").await.refused(503, "control_plane_unavailable");
            say(&format!("control plane, {fault:?}: operators are told after {:?}", begun.elapsed()));
            assert!(told.header("retry-after").is_some(), "{told:?}");
            assert!(begun.elapsed() < shared(PATIENCE), "{:?}", begun.elapsed());
            for known in [tenant, &tenants[0]] {
                known.log_in_as(known.email(), known.password()).await.expect(200);
                known.admin().contact("Without the control plane").await;
            }
            // Decided while nobody could hear of it.
            suspend(plane.target(), tenant).await;
            proxy.set(Fault::Pass).await;
            until_suspended(RECOVERY, &tenant.admin()).await;
            let back = async || operator.get("/api/v1/admin/tenants").await.status == 200;
            eventually(RECOVERY, "operators are served again", back).await;
        }
    })
    .await;
    // And changes are followed as before.
    suspend(plane.target(), &tenants[0]).await;
    until_suspended(seconds(5), &tenants[0].admin()).await;
}

/// A tenant that just changed is known as well: its people can log in when the control plane is lost right afterwards.
#[actix_web::test]
async fn a_tenant_that_changed_is_known_by_its_name_without_the_control_plane() {
    let plane = TestCluster::get().await.database("plane").await;
    let proxy = FaultProxy::start(plane.target());
    let app = TestApp::builder().control_database(proxy.target()).start().await;
    let acme = &warm(&app, 1).await[0];
    db::execute(plane.target(), &format!("UPDATE tenants SET name = 'Changed' WHERE id = '{}'", acme.id)).await;
    let admin = acme.admin();
    let heard = async || admin.get("/api/v1/tenants/current").await.text.contains("Changed");
    eventually(PATIENCE, "the change is heard of", heard).await;
    proxy.set(Fault::Reset).await;
    acme.log_in_as(acme.email(), acme.password()).await.expect(200);
}

/// The poll is the guarantee: suspension holds on every node within two seconds after the connections that listen were
/// killed, and when no announcement is ever made.
#[actix_web::test]
async fn suspension_holds_within_two_seconds_without_announcements() {
    let app = TestApp::builder().start().await;
    let other = TestApp::builder().beside(&app).start().await;
    let tenants = warm(&app, 2).await;
    for tenant in &tenants {
        read(&tenant.admin().at(other.url())).await.expect(200);
    }
    let held = async |tenant: &Tenant| {
        suspend(app.control_database(), tenant).await;
        let (here, there) = (tenant.admin(), tenant.admin().at(other.url()));
        futures_util::join!(until_suspended(seconds(2), &here), until_suspended(seconds(2), &there));
    };
    let of_listeners = |what: &str| {
        let database = &app.control_database().database;
        format!(
            "SELECT {what}::text AS word FROM pg_stat_activity \
             WHERE datname = '{database}' AND query = 'LISTEN tenantry_registry'"
        )
    };
    let listening = async || db::words(&app.server(), &of_listeners("pid")).await.len() == 2;
    eventually(PATIENCE, "both nodes listen", listening).await;
    assert_eq!(db::words(&app.server(), &of_listeners("pg_terminate_backend(pid, 5000)")).await.len(), 2);
    held(&tenants[0]).await;

    let definition = "SELECT pg_get_functiondef('registry_changed'::regproc)::text AS word";
    let definition = db::word(app.control_database(), definition).await;
    let silent = definition.replace("PERFORM pg_notify", "-- PERFORM pg_notify");
    assert_ne!(silent, definition, "it announces no longer in this way");
    db::execute(app.control_database(), &silent).await;
    held(&tenants[1]).await;
}

/// Clocks of nodes differ within the leeway: a token made by one is good at the other, both ways.
#[actix_web::test]
async fn nodes_whose_clocks_differ_serve_each_other_s_tokens() {
    let app = TestApp::shared().await;
    let tenant = app.tenant("acme").await;
    for ahead in [true, false] {
        let other = TestApp::builder().beside(app).start().await;
        other.clock().advance(TimeDelta::seconds(if ahead { 4 } else { -4 }));
        let (here, there) = (tenant.another_login().await, app.at(&tenant).at(other.url()).another_login().await);
        for (person, node) in [(&here, &other), (&there, app)] {
            read(&person.at(node.url())).await.expect(200);
        }
    }
}
