//! The control plane is lost, or its announcements are: known tenants are served, and what was decided still holds.

use std::time::{Duration, Instant};

use chrono::TimeDelta;
use tenantry::router::Target;
use tenantry::testing::{Fault, FaultProxy, Persona, Tenant, TestApp, TestCluster};

use super::ground::{PATIENCE, RECOVERY, read, undisturbed, warm};
use crate::support::{db, eventually, say, seconds};

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

async fn control_plane_lost(name: &str, fault: Fault) {
    let plane = TestCluster::get().await.database("plane").await;
    let proxy = FaultProxy::start(plane.target());
    let app = TestApp::builder().control_database(proxy.target()).start().await;
    let tenants = warm(&app, 3).await;
    let operator = app.operator();
    operator.get("/api/v1/admin/tenants").await.expect(200);
    let (to_suspend, known) = (&tenants[0], &tenants[1..]);
    undisturbed(known, async {
        proxy.set(fault).await;
        let begun = Instant::now();
        let told = operator.get("/api/v1/admin/tenants").await.refused(503, "control_plane_unavailable");
        say(&format!("{name}: operators are told after {:?}", begun.elapsed()));
        assert!(told.header("retry-after").is_some(), "{told:?}");
        assert!(begun.elapsed() < PATIENCE, "{:?}", begun.elapsed());
        for tenant in &tenants {
            tenant.log_in_as(tenant.email(), tenant.password()).await.expect(200);
            tenant.admin().contact("Without the control plane").await;
        }
        // Decided while nobody could hear of it.
        suspend(plane.target(), to_suspend).await;
        proxy.set(Fault::Pass).await;
        until_suspended(RECOVERY, &to_suspend.admin()).await;
        let back = async || operator.get("/api/v1/admin/tenants").await.status == 200;
        eventually(RECOVERY, "operators are served again", back).await;
    })
    .await;
    // And changes are followed as before.
    suspend(plane.target(), &known[0]).await;
    until_suspended(seconds(5), &known[0].admin()).await;
}

#[actix_web::test]
async fn without_a_control_plane_known_tenants_are_served() {
    control_plane_lost("control plane reset", Fault::Reset).await;
}

#[actix_web::test]
async fn with_the_control_plane_in_a_black_hole_known_tenants_are_served() {
    control_plane_lost("control plane in a black hole", Fault::BlackHole).await;
}

/// The poll is the guarantee: suspension holds on every node within two seconds when no announcement is ever made.
#[actix_web::test]
async fn suspension_holds_within_two_seconds_without_announcements() {
    let app = TestApp::builder().start().await;
    let other = TestApp::builder().beside(&app).start().await;
    let definition = "SELECT pg_get_functiondef('registry_changed'::regproc)::text AS word";
    let definition = db::word(app.control_database(), definition).await;
    let silent = definition.replace("PERFORM pg_notify", "-- PERFORM pg_notify");
    assert_ne!(silent, definition, "it announces no longer in this way");
    db::execute(app.control_database(), &silent).await;
    for tenant in warm(&app, 2).await {
        let (here, there) = (tenant.admin(), tenant.admin().at(other.url()));
        read(&there).await.expect(200);
        suspend(app.control_database(), &tenant).await;
        futures_util::join!(until_suspended(seconds(2), &here), until_suspended(seconds(2), &there));
    }
}

/// The connection that listens dies: the poll stands in for it, and it listens again by itself.
#[actix_web::test]
async fn suspension_holds_within_two_seconds_after_the_listener_was_killed() {
    let app = TestApp::builder().start().await;
    let tenants = warm(&app, 2).await;
    let listeners = format!(
        "SELECT pg_terminate_backend(pid, 5000)::text AS word FROM pg_stat_activity \
         WHERE datname = '{}' AND application_name = 'tenantry-listen'",
        app.control_database().database
    );
    for tenant in &tenants {
        let listening = async || !db::words(&app.server(), &listeners).await.is_empty();
        eventually(PATIENCE, "somebody listens, and is killed", listening).await;
        suspend(app.control_database(), tenant).await;
        until_suspended(seconds(2), &tenant.admin()).await;
    }
}

/// Clocks of nodes differ within the leeway: a token made by one is good at the other, both ways.
#[actix_web::test]
async fn nodes_whose_clocks_differ_serve_each_other_s_tokens() {
    let app = TestApp::builder().start().await;
    let tenant = app.tenant("acme").await;
    for ahead in [true, false] {
        let other = TestApp::builder().beside(&app).start().await;
        other.clock().advance(TimeDelta::seconds(if ahead { 4 } else { -4 }));
        let (here, there) = (tenant.another_login().await, app.at(&tenant).at(other.url()).another_login().await);
        for (person, node) in [(&here, &other), (&there, &app)] {
            read(&person.at(node.url())).await.expect(200);
        }
    }
}
