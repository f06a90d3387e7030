//! A move with something in its way: the tenant is served where it was, and nothing is left behind.

use diesel_async::SimpleAsyncConnection as _;
use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use tenantry::dev::LocalPostgresOptions;
use tenantry::fleet::relocate::{Method, Step};
use tenantry::router::Target;
use tenantry::testing::{Fault, Tenant, TestApp};
use tokio::process::Command;
use tokio::time::timeout;

use super::{CONTACTS, Ground, filler, is_moved, logical};
use crate::fleet::scene::dies;
use crate::support::binary::{Said, run};
use crate::support::servers::Server;
use crate::support::{db, eventually, seconds, shared};

/// Whatever stands in the way: the tenant is served where it was, and nothing is left behind.
#[actix_web::test]
async fn a_move_that_fails_changes_nothing() {
    let mut ground = Ground::new().await;
    let tenant = ground.app.tenant_on("east", "staying").await;
    let admin = tenant.admin();
    let id = admin.contact("Faithful").await;
    let west = ground.server("west");
    let stays = async |ground: &Ground, what: &str| {
        assert_eq!(ground.there(&tenant).await, (vec!["east"], vec!["east"]), "{what}");
        admin.get(&format!("{CONTACTS}/{id}")).await.expect(200);
        let held = "SELECT count(*)::text AS word FROM tenant_holds";
        assert_eq!(db::word(ground.app.control_database(), held).await, "0", "{what}");
    };

    ground.moving(&tenant, &["--to", "nowhere"]).await.expect(4);
    ground.moving(&tenant, &["--to", "east"]).await.expect(4);
    stays(&ground, "no such cluster").await;
    run(&ground.app, &["cluster", "set", "west", "--max-tenants", "1"]).await.expect(0);
    let other = ground.app.tenant_on("west", "there").await;
    assert!(ground.moving(&tenant, &["--to", "west"]).await.expect(4).stderr.contains("no room"));
    stays(&ground, "target full").await;
    run(&ground.app, &["cluster", "set", "west", "--max-tenants", "default"]).await.expect(0);
    run(&ground.app, &["tenant", "delete", other.slug.as_str(), "--now", "--yes"]).await.expect(0);

    let late = ground.moving(&tenant, &["--to", "west", "--hold-deadline", "1ms"]).await.expect(4);
    assert!(late.stderr.contains("--hold-deadline"), "{late:?}");
    stays(&ground, "hold deadline").await;

    ground.crash(&tenant, &["--to", "west"], Step::Copy, false).await;
    let copy = west.with_database(tenant.role());
    db::execute(&copy, "UPDATE contacts SET last_name = 'Faithless'").await;
    let differs = ground.moving(&tenant, &["--to", "west"]).await.expect(4);
    assert!(differs.stderr.contains("public.contacts"), "{differs:?}");
    stays(&ground, "verification differs").await;

    // The mover dies and nobody comes back for it: when the hold has run out, a worker takes the move back.
    ground.crash(&tenant, &["--to", "west", "--hold-deadline", "500ms"], Step::Fence, false).await;
    let (fleet, waiting) = (ground.app.fleet(), admin.get(CONTACTS));
    let worker = async {
        let ended = async || fleet.end_expired_holds().await.expect("the control plane answers") == 1;
        eventually(seconds(20), "the hold is ended", ended).await;
    };
    let (answer, ()) = tokio::join!(waiting, worker);
    assert!(answer.status == 200 || answer.code() == "tenant_unavailable", "{answer:?}");
    let serves = async || admin.get(CONTACTS).await.status == 200;
    eventually(seconds(10), "the source serves", serves).await;
    stays(&ground, "the mover is gone").await;

    // The target goes away in the middle: what it has is dropped once it is back.
    ground.crash(&tenant, &["--to", "west"], Step::Target, false).await;
    ground.servers[1].1.stop().await;
    ground.moving(&tenant, &["--to", "west"]).await.expect(1);
    let served = async || admin.get(CONTACTS).await.status == 200;
    eventually(seconds(10), "the source serves", served).await;
    ground.servers[1].1.restart().await;
    assert_eq!(ground.app.fleet().purge_kept().await.unwrap(), 1);
    stays(&ground, "target unreachable").await;
}

/// A tenant on `east` that is to stay there whatever happens.
struct Stays<'a> {
    ground: &'a Ground,
    tenant: Tenant,
    id: String,
}

impl<'a> Stays<'a> {
    async fn new(ground: &'a Ground) -> Self {
        let tenant = ground.app.tenant_on("east", "faithful").await;
        let id = tenant.admin().contact("Faithful").await;
        Self { ground, tenant, id }
    }

    /// It is served, at its source alone, and nothing of it is left anywhere else.
    async fn there(&self, what: &str) {
        assert_eq!(self.ground.there(&self.tenant).await, (vec!["east"], vec!["east"]), "{what}");
        assert!(self.ground.leftovers(&self.tenant).await.is_empty(), "{what}");
        let serves = async || self.tenant.admin().get(&format!("{CONTACTS}/{}", self.id)).await.status == 200;
        eventually(seconds(10), what, serves).await;
        self.tenant.admin().contact("Written").await;
    }

    async fn moving(&self, method: Method, more: &[&str]) -> Said {
        let arguments = [&["--to", "west", "--method", method.as_str()], more].concat();
        self.ground.moving(&self.tenant, &arguments).await
    }

    async fn crash(&self, method: Method, step: Step) {
        self.ground.crash(&self.tenant, &["--to", "west", "--method", method.as_str()], step, false).await;
    }
}

/// A file of the target's server that can grow no more is what a full disk is to it.
#[actix_web::test]
async fn a_full_disk_at_the_target_leaves_the_source_serving() {
    const ROOM: u64 = (17 << 20) + 4096;
    let ground = Ground::new().await;
    let stays = Stays::new(&ground).await;
    db::execute(&ground.server("east").with_database(stays.tenant.role()), &filler(8, 14_000)).await;
    ground.servers[1].1.limit_files(Some(ROOM));
    for method in Method::ALL {
        let full = stays.moving(*method, &[]).await.expect(4);
        assert!(full.stderr.contains("disk"), "{method}: {full:#?}");
        stays.there(&format!("full disk, {method}")).await;
    }
    ground.servers[1].1.limit_files(None);
    // Connections that are cut in the middle of the rows.
    ground.network("west").set(Fault::CutAfter(1 << 20)).await;
    stays.moving(Method::Dump, &[]).await.expect(1);
    stays.there("cut off").await;
    ground.network("west").set(Fault::Pass).await;
    // Nothing but that was in its way.
    is_moved(&stays.moving(Method::Dump, &[]).await.expect(0).json(), "west");
}

#[actix_web::test]
async fn an_administrator_who_lost_a_right_leaves_the_source_serving() {
    let ground = Ground::new().await;
    let stays = Stays::new(&ground).await;
    let west = ground.server("west");
    db::execute(
        &west,
        "CREATE ROLE mover LOGIN CREATEROLE CREATEDB PASSWORD 'of mover'; GRANT pg_monitor TO mover; \
         GRANT CONNECT ON DATABASE postgres, template1 TO mover",
    )
    .await;
    ground.app.cluster("limited", &Target { user: "mover".into(), password: "of mover".into(), ..west.clone() }).await;
    let to_limited = ["--to", "limited"];
    ground.crash(&stays.tenant, &to_limited, Step::Prepare, false).await;
    for right in ["CREATEDB", "CREATEROLE"] {
        db::execute(&west, &format!("ALTER ROLE mover NO{right}")).await;
        let refused = ground.moving(&stays.tenant, &to_limited).await.expect(4);
        assert!(refused.stderr.contains("CREATEROLE CREATEDB"), "{refused:#?}");
        stays.there(right).await;
        db::execute(&west, &format!("ALTER ROLE mover {right}")).await;
    }
    is_moved(&ground.moving(&stays.tenant, &to_limited).await.expect(0).json(), "limited");
}

#[actix_web::test]
async fn a_target_that_falls_silent_leaves_the_source_serving() {
    let ground = Ground::new().await;
    let stays = Stays::new(&ground).await;
    // Under the hold: past the deadline the source serves, and what is there is dropped later.
    stays.crash(Method::Dump, Step::Fence).await;
    ground.network("west").set(Fault::BlackHole).await;
    let late = stays.moving(Method::Dump, &["--hold-deadline", "2s"]).await.expect(4);
    assert!(late.stderr.contains("--hold-deadline"), "{late:#?}");
    let served = async || stays.tenant.admin().get(CONTACTS).await.status == 200;
    eventually(seconds(10), "the source serves", served).await;
    ground.network("west").set(Fault::Pass).await;
    assert_eq!(ground.app.fleet().purge_kept().await.unwrap(), 1);
    stays.there("silent under the hold").await;

    // With a subscription, which a database that is dropped must not have.
    stays.crash(Method::Replicate, Step::Replicate).await;
    ground.network("west").set(Fault::BlackHole).await;
    ground.moving(&stays.tenant, &["--abort"]).await.expect(0);
    ground.network("west").set(Fault::Pass).await;
    assert_eq!(ground.leftovers(&stays.tenant).await.len(), 1, "the subscription");
    assert_eq!(ground.app.fleet().purge_kept().await.unwrap(), 1);
    stays.there("silent while it was taken back").await;
}

/// The source does not answer, so that what replication has made there stays: a worker takes it away, although the tenant
/// was never held.
#[actix_web::test]
async fn a_move_that_could_not_be_taken_back_is_taken_back_by_a_worker() {
    let ground = Ground::new().await;
    let stays = Stays::new(&ground).await;
    stays.crash(Method::Replicate, Step::Replicate).await;
    ground.network("east").set(Fault::Refuse).await;
    stays.moving(Method::Replicate, &[]).await.expect(1);
    ground.network("east").set(Fault::Pass).await;
    assert!(!ground.leftovers(&stays.tenant).await.is_empty(), "the slot keeps the source's log");
    assert_eq!(ground.app.fleet().end_expired_holds().await.unwrap(), 1);
    stays.there("taken back by a worker").await;
    assert_eq!(ground.app.fleet().end_expired_holds().await.unwrap(), 0);
}

/// The findings of `fleet doctor` about slots that keep a server's log.
async fn slots_left(ground: &Ground) -> Vec<Value> {
    let said = run(&ground.app, &["fleet", "doctor", "--output", "json"]).await.json();
    let all = said["findings"].as_array().cloned().expect("findings");
    all.into_iter().filter(|finding| finding["code"] == "slot_left").collect()
}

/// The process that sends the source's changes stands still: its slot cannot be dropped, and would keep the source's log for
/// ever if nobody came back for it.
#[actix_web::test]
async fn a_move_is_not_taken_back_before_its_slot_is_gone() {
    const READER: &str = "SELECT active_pid::text AS word FROM pg_replication_slots \
                          WHERE slot_name LIKE 'tenantry_move_%' AND active";
    let ground = Ground::new().await;
    let stays = Stays::new(&ground).await;
    let (east, plane) = (ground.server("east"), ground.app.control_database());
    stays.crash(Method::Replicate, Step::Replicate).await;
    let mut reader = String::new();
    eventually(seconds(20), "the target follows", async || {
        reader = db::word(&east, READER).await;
        !reader.is_empty()
    })
    .await;
    assert_eq!(slots_left(&ground).await, [] as [Value; 0], "its move is under way");
    let reader = Pid::from_raw(reader.parse().expect("a process"));
    signal::kill(reader, Signal::SIGSTOP).expect("it stands still");
    let said = ground.moving(&stays.tenant, &["--abort"]).await;
    let state = db::word(plane, "SELECT state AS word FROM operations WHERE kind = 'move'").await;
    let left = ground.leftovers(&stays.tenant).await;
    signal::kill(reader, Signal::SIGCONT).expect("it goes on");
    assert!(said.expect(1).stderr.contains("tenantry_move_"), "it says which");
    assert_ne!(state, "undone");
    assert!(left.len() >= 2, "the slot, and the role for whoever comes back: {left:?}");
    ground.moving(&stays.tenant, &["--abort"]).await.expect(0);
    stays.there("taken back once it is let go of").await;

    // One that was left behind all the same.
    let slot = stays.tenant.role().replacen("t_", "tenantry_move_", 1);
    let make = format!("SELECT slot_name::text AS word FROM pg_create_logical_replication_slot('{slot}', 'pgoutput')");
    db::words(&east.with_database(stays.tenant.role()), &make).await;
    let found = slots_left(&ground).await;
    assert!(found.len() == 1 && found[0]["subject"] == slot.as_str(), "{found:?}");
    let mut mends = Command::new("sh");
    mends.args(["-c", found[0]["remedy"].as_str().expect("a command")]);
    mends.env("CLUSTER_ADMIN_URL", east.to_url().expose_secret());
    let mended = mends.output().await.expect("a shell");
    assert!(mended.status.success(), "{mended:?}");
    assert_eq!(slots_left(&ground).await, [] as [Value; 0]);
    stays.there("nothing is left").await;
}

/// What the source is asked does not come to its end: no hold of a tenant on another server waits for it.
#[actix_web::test]
async fn a_server_that_hangs_holds_up_no_hold_of_another() {
    const HOLDS: &str = "SELECT tenant_id::text AS word FROM tenant_holds WHERE held_until < clock_timestamp()";
    let ground = Ground::new().await;
    let stays = Stays::new(&ground).await;
    let (elsewhere, plane) = (ground.app.tenant_on("west", "elsewhere").await, ground.app.control_database());
    ground.crash(&stays.tenant, &["--to", "west", "--hold-deadline", "500ms"], Step::Fence, false).await;
    let run_out = async || db::words(plane, HOLDS).await.len() == 1;
    eventually(seconds(30), "the hold has run out", run_out).await;
    let hold = "INSERT INTO tenant_holds (tenant_id, operation_id, held_until) \
                SELECT id, gen_random_uuid(), now() - interval '1 second' FROM tenants WHERE id";
    db::execute(plane, &format!("{hold} = '{}'", elsewhere.id)).await;
    // The role of the tenant cannot be let in again.
    let mut gate = db::open(&ground.server("east")).await;
    gate.batch_execute("BEGIN; LOCK TABLE pg_authid IN EXCLUSIVE MODE").await.expect("nobody has it");
    let fleet = ground.app.fleet().with_look_deadline(seconds(4));
    let ended = timeout(shared(seconds(20)), fleet.end_expired_holds()).await.expect("it is not waited for");
    assert_eq!(ended.expect("the control plane answers"), 1);
    assert_eq!(db::words(plane, HOLDS).await, [stays.tenant.id.to_string()]);
    elsewhere.admin().get(CONTACTS).await.expect(200);
    drop(gate);
    let taken_back = async || fleet.end_expired_holds().await.expect("the control plane answers") == 1;
    eventually(seconds(20), "its own ends the next time", taken_back).await;
    stays.there("taken back once the server answers").await;
}

/// The control plane commits the switch, and nobody hears of it: there is nothing to take back, and the move comes to its
/// end. A hold that was left beside such a move goes.
#[actix_web::test]
async fn a_switch_whose_answer_is_lost_is_gone_on_with() {
    // Whoever waits for a standby that nobody is has committed already; the switch alone does.
    const WAITS: &str = "\
        CREATE FUNCTION waits() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
            PERFORM set_config('synchronous_commit', 'on', true); RETURN NEW; END $$; \
        CREATE TRIGGER waits BEFORE UPDATE OF cluster_id ON tenants FOR EACH ROW EXECUTE FUNCTION waits()";
    const LOSE: &str =
        "SELECT pg_terminate_backend(pid)::text AS word FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
    let settings = [("wal_level", "replica"), ("max_wal_senders", "2"), ("synchronous_standby_names", "nobody")];
    let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let plane = Server::start_with(|options| LocalPostgresOptions { settings: settings.into(), ..options }).await;
    let app = TestApp::builder().control_database(plane.target()).start().await;
    let ground = Ground::of(app, logical().await, logical().await).await;
    let (stays, plane) = (Stays::new(&ground).await, ground.app.control_database());
    db::execute(plane, WAITS).await;
    let lost = async || db::words(plane, LOSE).await == ["true"];
    let moving = stays.moving(Method::Dump, &["--hold-deadline", "60s"]);
    let (said, ()) = tokio::join!(moving, eventually(seconds(60), "the switch has committed", lost));
    is_moved(&said.expect(0).json(), "west");
    let (held, state) = ("SELECT count(*)::text AS word FROM tenant_holds", "SELECT state AS word FROM operations");
    let state = format!("{state} WHERE kind = 'move'");
    assert_eq!(
        (db::word(plane, held).await, db::words(plane, &state).await),
        ("0".to_owned(), vec!["done".to_owned()])
    );
    stays.tenant.admin().get(&format!("{CONTACTS}/{}", stays.id)).await.expect(200);

    let worker = ground.app.fleet();
    for left in ["done", "failed"] {
        let hold = "INSERT INTO tenant_holds (tenant_id, operation_id, held_until) \
                    SELECT tenant_id, id, now() - interval '1 second' FROM operations WHERE kind = 'move'";
        let end = format!("UPDATE operations SET state = '{left}' WHERE kind = 'move'");
        db::execute(plane, &format!("{end}; {hold}")).await;
        assert_eq!(worker.end_expired_holds().await.unwrap(), 1, "{left}");
        assert_eq!(db::word(plane, held).await, "0", "{left}");
        assert_eq!(ground.there(&stays.tenant).await.0, ["west"], "{left}");
    }
    is_moved(&stays.moving(Method::Dump, &[]).await.expect(0).json(), "west");
    assert_eq!(db::words(plane, &state).await, ["done"]);
}

/// It failed when the target might have been open, and the target did not answer: nobody may write to either. Once it does
/// answer, the same request goes on with the same job.
#[actix_web::test]
async fn a_failed_move_is_gone_on_with_over_rest() {
    let ground = Ground::new().await;
    let stays = Stays::new(&ground).await;
    stays.crash(Method::Dump, Step::Open).await;
    ground.network("west").set(Fault::BlackHole).await;
    stays.moving(Method::Dump, &["--hold-deadline", "60s"]).await.expect(1);
    assert_eq!(ground.there(&stays.tenant).await.0, ["west"], "the source stays shut");
    ground.moving(&stays.tenant, &["--abort"]).await.expect(1);
    ground.network("west").set(Fault::Pass).await;
    let failed = "SELECT id::text AS word FROM operations WHERE kind = 'move' AND state = 'failed'";
    let failed = db::word(ground.app.control_database(), failed).await;
    let (operator, worker) = (ground.app.operator(), ground.app.fleet());
    let path = format!("/api/v1/admin/tenants/{}/move", stays.tenant.slug);
    let elsewhere = operator.post(&path, json!({"to": "local"})).await.expect(409);
    assert!(elsewhere.text.contains("'west'"), "{elsewhere:?}");
    for (deadline, both) in [("0ms", false), ("11m", false), ("soon", false), ("30s", true)] {
        let mut body = json!({"to": "west", "holdDeadline": deadline});
        if both {
            body["holdDeadlineMs"] = json!(30_000);
        }
        let refused = operator.post(&path, body).await.expect(422);
        assert_eq!(refused.invalid()[0].0, "holdDeadline", "{refused:?}");
    }
    let asked = operator.post(&path, json!({"to": "west", "holdDeadline": "45s"})).await.expect(202);
    assert_eq!(asked.data()["id"], failed.as_str(), "not another one");
    let done = async || {
        worker.work().await.expect("the control plane answers");
        operator.get(&format!("/api/v1/admin/jobs/{failed}")).await.expect(200).data()["state"] == "done"
    };
    eventually(seconds(30), "it is done", done).await;
    stays.tenant.admin().get(&format!("{CONTACTS}/{}", stays.id)).await.expect(200);
    assert_eq!(ground.there(&stays.tenant).await.0, ["west"]);
}

/// Whether the server has taken the new password nobody knows if its answer is lost: the rotation does not end as failed,
/// a worker goes on with it.
#[actix_web::test]
async fn a_rotation_whose_server_does_not_answer_is_gone_on_with() {
    let ground = Ground::new().await;
    let tenant = ground.app.tenant_on("east", "turned").await;
    let arguments = ["tenant", "rotate-credentials", tenant.slug.as_str()];
    dies(&ground.app, &arguments, "plan", false).await;
    ground.network("east").set(Fault::Refuse).await;
    run(&ground.app, &arguments).await.expect(1);
    let state = format!(
        "SELECT state AS word FROM operations WHERE tenant_id = '{}' AND kind = 'rotate_credentials'",
        tenant.id
    );
    assert_eq!(db::word(ground.app.control_database(), &state).await, "running");
    ground.network("east").set(Fault::Pass).await;
    let worker = ground.app.fleet();
    let done = async || {
        worker.work().await.expect("the control plane answers");
        db::word(ground.app.control_database(), &state).await == "done"
    };
    eventually(seconds(30), "a worker ends it", done).await;
    tenant.admin().get(CONTACTS).await.expect(200);
}
