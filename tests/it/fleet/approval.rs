//! Sign-up where an operator decides: who waits, and what becomes of them.

use futures_util::future::join_all;
use serde_json::json;
use tenantry::control::signups;
use tenantry::error::ApiError;
use tenantry::kernel::OperationId;
use tenantry::kernel::crypto::sha256;
use tenantry::router::MainConn;
use tenantry::testing::TestApp;

use super::signup::{PASSWORD, PATH, request};
use crate::support::binary::run;
use crate::support::{db, eventually, seconds, unique};

#[actix_web::test]
async fn an_operator_decides_where_sign_ups_need_approval() {
    let app = TestApp::builder().set("TENANTRY_SIGNUP__MODE", "approval").set("TENANTRY_SIGNUP__PER_HOUR", "1000");
    let app = app.start().await;
    let (wanted, unwanted) = (unique("wanted"), unique("unwanted"));
    let keyed = |key: &str| app.anonymous().with("idempotency-key", key);
    let mut jobs = Vec::new();
    for slug in [&wanted, &unwanted] {
        let by = keyed(&unique("key")).with("x-request-id", slug);
        let asked = by.post(PATH, request(slug)).await.expect(202);
        assert_eq!((&asked.data()["state"], &asked.data()["kind"]), (&json!("queued"), &json!("create")));
        assert_eq!(asked.data()["requestId"], json!(slug));
        let at = asked.header("location").unwrap().to_owned();
        assert_eq!(at, format!("/api/v1/jobs/{}", asked.id()));
        assert_eq!(app.anonymous().get(&at).await.expect(200).data()["state"], json!("queued"));
        jobs.push((asked.id(), at));
    }
    app.anonymous().post(PATH, request(&wanted)).await.refused(409, "already_exists");
    // The control plane holds nothing personal in clear.
    let row = "SELECT signups::text || encode(admin_sealed, 'escape') || (SELECT string_agg(o::text, '') FROM operations o) \
               AS word FROM signups";
    for row in db::words(app.control_database(), row).await {
        assert!(!row.contains("founder@") && !row.contains("Fae") && !row.contains("argon2"), "{row}");
    }
    let operator = app.operator();
    let list = operator.get("/api/v1/admin/sign-ups").await.expect(200);
    assert_eq!(list.data()[0]["adminEmail"], json!(format!("founder@{wanted}.test")));
    assert_eq!(list.data().as_array().map(Vec::len), Some(2));
    // However long they wait, that is nothing to mend.
    let long_ago = "UPDATE operations SET started_at = started_at - interval '1 hour'";
    db::execute(app.control_database(), long_ago).await;
    let found = operator.get("/api/v1/admin/fleet/doctor").await.expect(200);
    assert!(found.data()["findings"].is_array(), "{found:?}");
    assert!(jobs.iter().all(|(id, _)| !found.text.contains(id)), "{found:?}");

    let said = run(&app, &["tenant", "signups", "list", "--output", "json"]).await.expect(0).json();
    assert_eq!(said[1]["slug"], json!(unwanted));
    run(&app, &["tenant", "signups", "refuse", &jobs[1].0]).await.expect(0);
    let approved = operator.post(&format!("/api/v1/admin/sign-ups/{}/approve", jobs[0].0), json!({})).await.expect(200);
    assert_eq!(approved.data()["slug"], json!(wanted));
    assert!(approved.data().get("pool").is_some(), "{approved:?}");
    let states = [&jobs[0].1, &jobs[1].1];
    for (at, state) in states.into_iter().zip(["done", "cancelled"]) {
        assert_eq!(app.anonymous().get(at).await.expect(200).data()["state"], json!(state));
    }
    let login = json!({"tenant": wanted, "email": format!("founder@{wanted}.test"), "password": PASSWORD});
    eventually(seconds(5), "the tenant serves", async || {
        app.anonymous().post("/api/v1/auth/login", login.clone()).await.status == 200
    })
    .await;
    // What they said of themselves is gone, and a decision is made once.
    assert_eq!(db::words(app.control_database(), "SELECT slug AS word FROM signups").await, Vec::<String>::new());
    let path = format!("/api/v1/admin/sign-ups/{}/approve", jobs[1].0);
    operator.post(&path, json!({})).await.refused(404, "not_found");
    // A tenant's making is no stranger's to see.
    let job =
        db::word(app.control_database(), "SELECT id::text AS word FROM operations WHERE tenant_id IS NOT NULL").await;
    app.anonymous().get(&format!("/api/v1/jobs/{job}")).await.refused(404, "not_found");
    // The same request again is the same job, though it died before it could say so.
    let key = unique("key");
    let asked = keyed(&key).post(PATH, request(&unwanted)).await.expect(202);
    let again = keyed(&key).post(PATH, request(&unwanted)).await.expect(202);
    assert_eq!((again.id(), again.header("idempotency-replayed")), (asked.id(), Some("true")));
    db::execute(app.control_database(), "UPDATE request_records SET status = NULL, body = NULL").await;
    assert_eq!(keyed(&key).post(PATH, request(&unwanted)).await.expect(202).id(), asked.id());
    // It is refused, not cancelled: what they said of themselves would stay.
    let cancel = format!("/api/v1/admin/jobs/{}/cancel", asked.id());
    operator.post(&cancel, json!({})).await.refused(409, "conflict");
    operator.post(&format!("/api/v1/admin/sign-ups/{}/refuse", asked.id()), json!({})).await.expect(200);
}

#[actix_web::test]
async fn a_sign_up_is_decided_once_however_many_operators_try() {
    let app = TestApp::builder().set("TENANTRY_SIGNUP__MODE", "approval").set("TENANTRY_SIGNUP__PER_HOUR", "1000");
    let app = app.start().await;
    let operator = app.operator();
    for other in ["approve", "refuse"] {
        let slug = unique("decided");
        let job = app.anonymous().post(PATH, request(&slug)).await.expect(202).id();
        let paths = ["approve", other].map(|verb| format!("/api/v1/admin/sign-ups/{job}/{verb}"));
        let decide = paths.iter().map(|path| operator.post(path, json!({})));
        let [one, two] = join_all(decide).await.try_into().expect("two answers");
        let (won, lost) = if one.status == 200 { ("approve", two) } else { (other, one) };
        assert!([404, 409].contains(&lost.status), "{other}: {lost:?}");
        let state = app.anonymous().get(&format!("/api/v1/jobs/{job}")).await.expect(200).data()["state"].clone();
        let made = format!("SELECT status AS word FROM tenants WHERE slug = '{slug}'");
        let made = db::words(app.control_database(), &made).await;
        let expected = if won == "approve" { ("done", vec!["active".to_owned()]) } else { ("cancelled", vec![]) };
        assert_eq!((state.as_str(), made), (Some(expected.0), expected.1), "{other}");
    }
    // Nor is one that was decided refused with all who wait.
    let mut jobs = Vec::new();
    for _ in 0..2 {
        jobs.push(app.anonymous().post(PATH, request(&unique("decided"))).await.expect(202).id());
    }
    let decided = format!("UPDATE operations SET state = 'done', finished_at = now() WHERE id = '{}'", jobs[0]);
    db::execute(app.control_database(), &decided).await;
    let ids: Vec<OperationId> = jobs.iter().map(|job| job.parse().expect("an id")).collect();
    let control = app.control();
    let refused = control.db.transaction(async move |conn: &mut MainConn| -> Result<usize, ApiError> {
        signups::refuse(conn, &ids, "Nobody.").await
    });
    assert_eq!(refused.await.expect("the control plane answers"), 1);
    for (job, state) in jobs.iter().zip(["done", "cancelled"]) {
        let is = format!("SELECT state AS word FROM operations WHERE id = '{job}'");
        assert_eq!(db::word(app.control_database(), &is).await, state);
    }
}

async fn by_approval() -> TestApp {
    let app = TestApp::builder().set("TENANTRY_SIGNUP__MODE", "approval").set("TENANTRY_SIGNUP__PER_HOUR", "1000");
    app.start().await
}

#[actix_web::test]
async fn those_who_wait_are_listed_in_pages_the_longest_waiting_first() {
    let app = by_approval().await;
    let mut asked = Vec::new();
    for _ in 0..25 {
        asked.push(app.anonymous().post(PATH, request(&unique("page"))).await.expect(202).id());
    }
    let operator = app.operator();
    let page = async |query: &str| {
        let page = operator.get(&format!("/api/v1/admin/sign-ups{query}")).await.expect(200);
        let ids: Vec<_> = page.data().as_array().expect("a list").iter().map(|one| one["id"].clone()).collect();
        (ids, page.body["meta"]["pagination"].clone())
    };
    let (first, about) = page("").await;
    assert_eq!(first, asked[..20]);
    assert_eq!((&about["hasNext"], &about["total"]), (&json!(true), &json!(null)));
    // Whoever is decided on meanwhile moves nobody to another page.
    operator.post(&format!("/api/v1/admin/sign-ups/{}/refuse", asked[3]), json!({})).await.expect(200);
    let next = about["nextCursor"].as_str().expect("a cursor");
    let (rest, about) = page(&format!("?includeTotal=true&cursor={next}")).await;
    assert_eq!(rest, asked[20..]);
    assert_eq!((&about["hasNext"], &about["total"]), (&json!(false), &json!(24)));
    let back = about["prevCursor"].as_str().expect("a cursor");
    let (before, about) = page(&format!("?pageSize=5&cursor={back}")).await;
    assert_eq!((before.as_slice(), &about["hasPrev"]), (&first[15..], &json!(true)));
    operator.get(&format!("/api/v1/admin/jobs?cursor={next}")).await.refused(400, "cursor_invalid");
    let said = run(&app, &["tenant", "signups", "list", "--output", "json"]).await.expect(0).json();
    assert_eq!(said.as_array().map(Vec::len), Some(24));
}

/// A flood is not sent away one by one.
#[actix_web::test]
async fn all_who_wait_are_refused_at_once_and_their_slugs_are_free() {
    let app = by_approval().await;
    let (early, late) = (unique("early"), unique("late"));
    let mut jobs = Vec::new();
    for slug in [&early, &late] {
        jobs.push(app.anonymous().post(PATH, request(slug)).await.expect(202).id());
    }
    let flood = "WITH waiting AS (INSERT INTO operations (id, kind, state, input) \
                 SELECT gen_random_uuid(), 'create', 'queued', '{\"approval\": true}' FROM generate_series(1, 450) \
                 RETURNING id) \
                 INSERT INTO signups (id, slug, name, admin_sealed) \
                 SELECT id, 's' || replace(id::text, '-', ''), 'Waiting', '\\x00' FROM waiting";
    db::execute(app.control_database(), flood).await;
    let older = format!("UPDATE signups SET created_at = created_at - interval '1 hour' WHERE slug <> '{late}'");
    db::execute(app.control_database(), &older).await;
    let refuse = ["tenant", "signups", "refuse", "--output", "json"];
    let with = |more: &[&'static str]| [&refuse[..], more].concat();
    run(&app, &with(&["--all"])).await.expect(4);
    run(&app, &with(&["--yes"])).await.expect(2);
    run(&app, &with(&["--yes", "--all", "--before", "2026-03-01T12:00:00Z"])).await.expect(2);
    let waiting = async || db::words(app.control_database(), "SELECT slug AS word FROM signups").await.len();
    assert_eq!(waiting().await, 452, "nothing was done");

    // Whom somebody decides about at this moment is theirs.
    let key = sha256(format!("sign-up {}", jobs[0]).as_bytes());
    let key = i64::from_be_bytes(key[..8].try_into().unwrap());
    let mut other = db::open(app.control_database()).await;
    db::words_on(&mut other, &format!("SELECT pg_advisory_lock({key})::text AS word")).await;
    let half_an_hour_ago = "SELECT to_char(now() AT TIME ZONE 'UTC' - interval '30 minutes', \
                            'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"') AS word";
    let time = db::word(app.control_database(), half_an_hour_ago).await;
    let before = [&refuse[..], &["--yes", "--before", time.as_str()]].concat();
    assert_eq!(run(&app, &before).await.expect(0).json(), json!({"refused": 450}));
    assert_eq!(waiting().await, 2);
    drop(other);
    eventually(seconds(10), "nobody decides any more", async || {
        run(&app, &with(&["--yes", "--all"])).await.expect(0);
        waiting().await == 0
    })
    .await;
    assert_eq!(app.operator().get("/api/v1/admin/sign-ups").await.expect(200).data(), &json!([]));
    for (job, slug) in jobs.iter().zip([&early, &late]) {
        let job = app.anonymous().get(&format!("/api/v1/jobs/{job}")).await.expect(200);
        assert_eq!(job.data()["state"], json!("cancelled"));
        app.anonymous().post(PATH, request(slug)).await.expect(202);
    }
}

#[actix_web::test]
async fn so_many_wait_for_an_operator_and_no_more() {
    let app = by_approval().await;
    let many = "WITH waiting AS (INSERT INTO operations (id, kind, state, input) \
                SELECT gen_random_uuid(), 'create', 'queued', '{\"approval\": true}' FROM generate_series(1, 9999) \
                RETURNING id) \
                INSERT INTO signups (id, slug, name, admin_sealed) \
                SELECT id, 's' || replace(id::text, '-', ''), 'Waiting', '\\x00' FROM waiting";
    db::execute(app.control_database(), many).await;
    let last = app.anonymous().with("idempotency-key", &unique("key"));
    let slug = unique("last");
    let asked = last.post(PATH, request(&slug)).await.expect(202);
    let late = app.anonymous().with("idempotency-key", &unique("key"));
    let other = unique("late");
    let refused = late.post(PATH, request(&other)).await.refused(503, "overloaded");
    assert!(refused.header("retry-after").is_some(), "{refused:?}");
    // Whoever waits already is told so, though the answer was lost.
    db::execute(app.control_database(), "UPDATE request_records SET status = NULL, body = NULL").await;
    assert_eq!(last.post(PATH, request(&slug)).await.expect(202).id(), asked.id());
    app.operator().post(&format!("/api/v1/admin/sign-ups/{}/refuse", asked.id()), json!({})).await.expect(200);
    late.post(PATH, request(&other)).await.expect(202);
}
