//! A cluster whose tenants go to others.

use std::os::unix::process::ExitStatusExt as _;

use diesel_async::SimpleAsyncConnection as _;
use futures_util::future::join_all;
use serde_json::{Value, json};
use tenantry::testing::TestApp;

use super::{CONTACTS, Ground};
use crate::fleet::scene::dies;
use crate::support::binary::{program, run};
use crate::support::{db, eventually, seconds};

#[actix_web::test]
async fn a_drained_cluster_gives_its_tenants_to_others() {
    let ground = Ground::new().await;
    let (one, two) = (ground.app.tenant_on("east", "one").await, ground.app.tenant_on("east", "two").await);
    run(&ground.app, &["cluster", "drain", "local", "--no-move"]).await.expect(0);
    let drain = ["cluster", "drain", "east", "--output", "json"];
    // One of them cannot be moved at first.
    db::execute(&ground.server("west"), &format!("CREATE ROLE {}", two.role())).await;
    let halted = ["cluster", "drain", "east", "--halt-after", "move", "--halt-before-journal"];
    let died = program(&ground.app.environment(), &halted).output().await.expect("the program runs");
    assert!(died.status.signal().is_some(), "{died:?}");
    let said = run(&ground.app, &drain).await.expect(3);
    let view = said.json();
    assert_eq!((&view["draining"], &view["tenants"]), (&Value::from(true), &Value::from(1)), "{view}");
    assert_eq!(view["moved"], Value::from(vec![one.slug.as_str()]), "{view}");
    assert_eq!(view["failed"][0]["slug"], two.slug.as_str(), "{view}");
    db::execute(&ground.server("west"), &format!("DROP ROLE {}", two.role())).await;
    assert_eq!(run(&ground.app, &drain).await.expect(0).json()["moved"], Value::from(vec![two.slug.as_str()]));
    for tenant in [&one, &two] {
        tenant.admin().get(CONTACTS).await.expect(200);
        assert_eq!(ground.there(tenant).await.0, ["west"]);
    }
    // The copies keep the cluster, until they are gone.
    assert!(run(&ground.app, &["cluster", "remove", "east", "--yes"]).await.expect(4).stderr.contains("tenant kept"));
    for tenant in [&one, &two] {
        ground.moving(tenant, &["--confirm"]).await.expect(0);
    }
    run(&ground.app, &["cluster", "remove", "east", "--yes"]).await.expect(0);
    let undone = run(&ground.app, &["cluster", "drain", "local", "--undo", "--output", "json"]).await.expect(0).json();
    assert_eq!(undone["draining"], false);

    // The same over REST, done by a worker.
    let (operator, worker) = (ground.app.operator(), ground.app.fleet());
    let job = async |path: String, body: Value| {
        let asked = operator.post(&path, body).await.expect(202);
        let location = asked.header("location").expect("where the job is").to_owned();
        let done = async || {
            worker.work().await.expect("the control plane answers");
            let job = operator.get(&location).await.expect(200);
            assert_ne!(job.data()["state"], "failed", "{job:?}");
            job.data()["state"] == "done"
        };
        eventually(seconds(30), &path, done).await;
        operator.get(&location).await.expect(200).data()["result"].clone()
    };
    let of_one = format!("/api/v1/admin/tenants/{}", one.slug);
    job(format!("{of_one}/rotate-credentials"), serde_json::json!({})).await;
    let moved = job(format!("{of_one}/move"), serde_json::json!({"to": "local"})).await;
    assert!(moved["pauseMs"].as_u64().is_some_and(|ms| ms > 0) && moved["to"] == "local", "{moved}");
    let drained = job("/api/v1/admin/clusters/west/drain".into(), serde_json::json!({})).await;
    assert_eq!(drained["moved"], serde_json::json!([two.slug.as_str()]));
    for tenant in [&one, &two] {
        tenant.admin().get(CONTACTS).await.expect(200);
        assert!(ground.there(tenant).await.0.is_empty());
    }
}

/// A drain that is cancelled begins no move any more, and those under way are taken back: none is left in the middle.
#[actix_web::test]
async fn a_drain_that_is_cancelled_drops_no_move_in_the_middle() {
    let ground = Ground::new().await;
    let mut tenants = Vec::new();
    for name in ["one", "two", "three", "four", "five", "six"] {
        tenants.push(ground.app.tenant_on("east", name).await);
    }
    run(&ground.app, &["cluster", "drain", "local", "--no-move"]).await.expect(0);
    // Their moves wait for these.
    let mut locks = Vec::new();
    for tenant in &tenants {
        let mut lock = db::open(&ground.server("east").with_database(tenant.role())).await;
        lock.batch_execute("BEGIN; LOCK TABLE contacts IN ACCESS EXCLUSIVE MODE").await.expect("the lock");
        locks.push(lock);
    }
    let (operator, worker) = (ground.app.operator(), ground.app.fleet());
    let asked = operator.post("/api/v1/admin/clusters/east/drain", json!({})).await.expect(202);
    let location = asked.header("location").expect("where the job is").to_owned();
    let moves = async |which: &str| {
        let count = format!("SELECT count(*)::text AS word FROM operations WHERE kind = 'move' AND {which}");
        db::word(ground.app.control_database(), &count).await
    };
    let taken = eventually(seconds(30), "a worker has begun", async || {
        worker.work().await.expect("the control plane answers");
        moves("true").await != "0"
    });
    // A move that waits for too long is taken back, and the next one begins: with six some are left in any case. A look
    // of the worker may take long: nobody waits for it here.
    let cancelled = async {
        eventually(seconds(30), "two moves are begun", async || moves("true").await.as_str() >= "2").await;
        operator.post(&format!("{location}/cancel"), json!({})).await.expect(200);
        let untold = "NOT cancel_requested AND state IN ('queued', 'running')";
        eventually(seconds(8), "whoever is under way is told", async || moves(untold).await == "0").await;
    };
    futures_util::join!(taken, cancelled);
    drop(locks);
    let state = async || operator.get(&location).await.expect(200).data()["state"].clone();
    eventually(seconds(30), "it is cancelled", async || state().await == "cancelled").await;
    let begun = moves("true").await;
    assert!(("2"..="5").contains(&begun.as_str()), "{begun}");
    assert_eq!(moves("state = 'undone'").await, begun);
    for tenant in &tenants {
        tenant.admin().get(CONTACTS).await.expect(200);
        assert_eq!(ground.there(tenant).await.0, ["east"]);
    }
}

/// A job that is answered with is one that a worker drives, though a command that died began it; and it is one, however many
/// ask at once.
#[actix_web::test]
async fn a_drain_that_is_asked_for_is_driven_and_begun_once() {
    let app = TestApp::builder().start().await;
    app.cluster("second", &app.server()).await;
    dies(&app, &["cluster", "drain", "second"], "close", false).await;
    let (operator, worker) = (app.operator(), app.fleet());
    let path = "/api/v1/admin/clusters/second/drain";
    let driven = async |job: &str| {
        eventually(seconds(30), "a worker has done it", async || {
            worker.work().await.expect("the control plane answers");
            operator.get(&format!("/api/v1/admin/jobs/{job}")).await.expect(200).data()["state"] == "done"
        })
        .await;
    };
    let begun = "SELECT id::text AS word FROM operations WHERE kind = 'drain' ORDER BY id";
    let died = db::word(app.control_database(), begun).await;
    let asked = operator.post(path, json!({})).await.expect(202);
    assert_eq!(asked.id(), died);
    driven(&died).await;

    let answers = join_all((0..8).map(|_| operator.post(path, json!({})))).await;
    let jobs: Vec<String> = answers.into_iter().map(|answer| answer.expect(202).id()).collect();
    assert_eq!(db::words(app.control_database(), begun).await, [died.as_str(), jobs[0].as_str()]);
    assert!(jobs.iter().all(|job| *job == jobs[0]), "{jobs:?}");
    driven(&jobs[0]).await;
    operator.post("/api/v1/admin/clusters/nowhere/drain", json!({})).await.refused(404, "not_found");
}
