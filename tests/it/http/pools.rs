//! Pools, to see: what operators are told of them, and what is measured.

use std::cell::RefCell;
use std::sync::Arc;

use diesel_async::SimpleAsyncConnection as _;
use futures_util::future::select_all;
use serde_json::Value;
use tenantry::router::{ClaimsOnly, ControlPlaneRegistry, Error, Router, RouterConfig, TenantHints, TenantTx};
use tenantry::testing::{Answer, Persona, TestApp};

use crate::support::{db, eventually, seconds};

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0";

fn slugs(answer: &Answer) -> Vec<String> {
    let tenants = answer.data()["tenants"].as_array().expect("tenants");
    tenants.iter().map(|tenant| tenant["slug"].as_str().expect("a slug").to_owned()).collect()
}

fn of<'a>(answer: &'a Answer, slug: &str) -> &'a Value {
    let tenants = answer.data()["tenants"].as_array().expect("tenants");
    tenants.iter().find(|tenant| tenant["slug"] == slug).unwrap_or_else(|| panic!("{slug} is not in {answer:?}"))
}

async fn metrics(app: &TestApp, who: &Persona) -> Answer {
    who.at(app.management_url()).get("/metrics").await.expect(200)
}

#[actix_web::test]
async fn operators_see_who_stands_out() {
    let app = TestApp::builder().start().await;
    let (acme, globex) = (app.tenant("acme").await, app.tenant("globex").await);
    let operator = app.operator();
    for _ in 0..5 {
        acme.admin().get("/api/v1/contacts").await.expect(200);
    }
    globex.admin().get("/api/v1/contacts").await.expect(200);
    let seen = operator.get("/api/v1/admin/pools?by=requests").await.expect(200);
    assert_eq!(slugs(&seen), [acme.slug.as_str(), globex.slug.as_str()]);
    let port = app.url().rsplit(':').next().unwrap_or_default();
    assert!(seen.data()["node"].as_str().is_some_and(|node| node.ends_with(&format!(":{port}"))), "{seen:?}");
    let cluster = &seen.data()["clusters"][0];
    assert_eq!((&cluster["name"], &cluster["breakersOpen"]), (&"local".into(), &0.into()));
    for field in ["budget", "slice", "open", "idle", "opening", "closing", "waiting", "waitingTenants", "openingsLimit"]
    {
        assert!(cluster[field].is_u64(), "{field}: {cluster}");
    }
    let pool = of(&seen, acme.slug.as_str());
    assert_eq!((&pool["tenantId"], &pool["breaker"]), (&acme.id.to_string().into(), &Value::Null));
    let usage = &pool["usage"];
    assert!(usage["requests"].as_u64() >= Some(5) && usage["databaseMicros"].as_u64() > Some(0), "{usage}");
    assert!(usage["coldStarts"].as_u64() >= Some(1) && usage["connectionsOpened"].as_u64() >= Some(1), "{usage}");
    assert!(usage["waitMicros"].as_u64() > Some(0) && usage["recentMaxWaitMicros"].as_u64() > Some(0), "{usage}");
    let first = operator.get("/api/v1/admin/pools?by=requests&limit=1").await.expect(200);
    assert_eq!(slugs(&first), [acme.slug.as_str()]);
    for by in ["wait", "database", "waiting", "connections"] {
        operator.get(&format!("/api/v1/admin/pools?by={by}&limit=1000")).await.expect(200);
    }
}

#[actix_web::test]
async fn whoever_waits_for_connections_comes_first() {
    let home = TestApp::shared().await;
    let app = TestApp::builder().beside(home).set("TENANTRY_ROUTER__TENANT_MAX_CONNECTIONS", "1").start().await;
    let (acme, globex) = (app.at(&home.tenant("acme").await), app.at(&home.tenant("globex").await));
    let (admin, operator) = (acme.admin(), app.operator());
    admin.get("/api/v1/contacts").await.expect(200);
    globex.admin().get("/api/v1/contacts").await.expect(200);
    let mut holder = db::open(acme.database()).await;
    holder.batch_execute("BEGIN; LOCK TABLE contacts IN ACCESS EXCLUSIVE MODE").await.unwrap();
    // Those that come at once share the one connection; whoever comes after waits.
    let stuck = RefCell::new(Vec::new());
    let waits = async || {
        let admin = admin.clone();
        stuck.borrow_mut().push(actix_web::rt::spawn(async move { admin.get("/api/v1/contacts").await.status }));
        let seen = operator.get("/api/v1/admin/pools?by=waiting").await.expect(200);
        slugs(&seen)[0] == acme.slug.as_str() && of(&seen, acme.slug.as_str())["waiting"].as_u64() > Some(0)
    };
    eventually(seconds(5), "requests wait", waits).await;
    holder.batch_execute("ROLLBACK").await.unwrap();
    for answer in stuck.into_inner() {
        assert_eq!(answer.await.unwrap(), 200);
    }
    for (by, count) in [("wait", "waitMicros"), ("database", "databaseMicros")] {
        let seen = operator.get(&format!("/api/v1/admin/pools?by={by}")).await.expect(200);
        let counts = slugs(&seen).iter().map(|slug| of(&seen, slug)["usage"][count].as_u64()).collect::<Vec<_>>();
        assert!(counts.len() == 2 && counts.is_sorted_by(|a, b| a >= b), "{by}: {counts:?}");
    }
}

#[actix_web::test]
async fn a_tenant_that_lost_its_connection_shows_what_it_suffered() {
    let app = TestApp::builder().connection_budget(1).start().await;
    let (acme, globex) = (app.tenant("acme").await, app.tenant("globex").await);
    let (first, second, operator) = (acme.admin(), globex.admin(), app.operator());
    let suffered = async || {
        first.get("/api/v1/contacts").await.expect(200);
        second.get("/api/v1/contacts").await.expect(200);
        first.get("/api/v1/contacts").await.expect(200);
        let seen = operator.get("/api/v1/admin/pools").await.expect(200);
        assert_eq!(seen.data()["clusters"][0]["budget"], 1);
        let usage = &of(&seen, acme.slug.as_str())["usage"];
        usage["evictions"].as_u64() >= Some(1) && usage["coldStarts"].as_u64() >= Some(2)
    };
    eventually(seconds(15), "evictions are counted", suffered).await;
    let metrics = metrics(&app, &app.anonymous()).await.text;
    for name in ["tenantry_pool_steals_total", "tenantry_pool_evictions_total"] {
        // Other applications of this process are in there too.
        let mut lines = metrics.lines().filter(|line| line.starts_with(&format!("{name}{{")));
        assert!(lines.any(|line| !line.ends_with(" 0")), "{metrics}");
    }
}

/// Behind 1024 of the same tenant that wait nobody queues up.
#[actix_web::test]
async fn refusals_by_a_full_queue_are_counted() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let control = app.control();
    let registry = Arc::new(ControlPlaneRegistry::new(control.db, control.keys));
    let config = RouterConfig { tenant_max_connections: 1, ..RouterConfig::new("http://tenantry.test") };
    let router = Router::start(registry, Arc::new(ClaimsOnly), config).await.expect("a router");
    let db = router.named(Some(acme.slug.as_str()), &TenantHints::default()).await.expect("an active tenant");
    let work = (0..1100).map(|_| {
        let endless = async |_: &mut TenantTx| -> Result<(), Error> { std::future::pending().await };
        Box::pin(db.transaction(endless))
    });
    let (first, _, others) = select_all(work).await;
    assert!(matches!(first, Err(Error::PoolExhausted { .. })), "{first:?}");
    drop(others);
    let metrics = metrics(app, &app.anonymous()).await.text;
    // Nobody else has so many who wait.
    let mut lines = metrics.lines().filter(|line| line.starts_with("tenantry_pool_refused_total{"));
    assert!(lines.any(|line| !line.ends_with(" 0")), "{metrics}");
    router.shutdown().await;
}

#[actix_web::test]
async fn pools_are_for_operators_and_parameters_are_checked() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    app.anonymous().get("/api/v1/admin/pools").await.refused(401, "unauthenticated");
    acme.admin().get("/api/v1/admin/pools").await.refused(401, "token_invalid");
    let operator = app.operator();
    for (query, field, said) in [
        ("limit=0", "limit", "from 1 to 1000"),
        ("limit=1001", "limit", "from 1 to 1000"),
        ("limit=many", "limit", ""),
        ("by=luck", "by", "'waiting'"),
        ("top=1", "top", ""),
    ] {
        let refused = operator.get(&format!("/api/v1/admin/pools?{query}")).await.refused(400, "invalid_query");
        let fault = &refused.body["error"]["errors"][0];
        assert_eq!(fault["field"], field, "{refused:?}");
        assert!(fault["message"].as_str().is_some_and(|message| message.contains(said)), "{refused:?}");
    }
}

#[actix_web::test]
async fn metrics_name_servers_never_tenants() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    acme.admin().get("/api/v1/contacts").await.expect(200);
    let shown = async || {
        let text = metrics(app, &app.anonymous()).await.text;
        let count = |state: &str| {
            format!(
                "db_client_connection_count{{db_client_connection_pool_name=\"local\",db_client_connection_state=\"{state}\"}}"
            )
        };
        let connections = ["idle", "used", "opening", "closing"].iter().all(|state| text.contains(&count(state)));
        connections && text.contains("tenantry_job_duration_seconds")
    };
    eventually(seconds(10), "the connections of the server and its jobs are shown", shown).await;
    let classic = metrics(app, &app.anonymous()).await;
    assert!(classic.header("content-type").is_some_and(|kind| kind.starts_with("text/plain; version=0.0.4")));
    for name in [acme.slug.as_str(), &acme.id.to_string(), acme.role()] {
        assert!(!classic.text.contains(name), "a metric has a tenant's label: {name}");
    }
    let mut names: Vec<&str> = classic.text.lines().filter_map(|line| line.strip_prefix("# TYPE ")).collect();
    names.sort_unstable();
    let documented = include_str!("../../../docs/operations.md").replace('.', "_");
    for name in names.iter().filter_map(|line| line.split(' ').next()) {
        let base = name.trim_end_matches("_total").trim_end_matches("_seconds");
        assert!(documented.contains(&format!("`{base}`")), "docs/operations.md does not tell of {base}");
    }
    insta::assert_snapshot!(names.join("\n"));
}

#[actix_web::test]
async fn exemplars_carry_the_trace_of_a_request() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    let trace = format!("{:032x}", u128::from_be_bytes(tenantry::kernel::crypto::random::<16>()));
    let traced = |flags: &str| acme.admin().with("traceparent", &format!("00-{trace}-00f067aa0ba902b7-{flags}"));
    let reader = app.anonymous().with("accept", OPENMETRICS);
    traced("00").get("/api/v1/contacts").await.expect(200);
    assert!(!metrics(app, &reader).await.text.contains(&trace), "nobody keeps a trace that is not sampled");

    // Other tests fill the same buckets, with traces of nobody.
    let mark = format!("# {{trace_id=\"{trace}\"}}");
    let mut text = String::new();
    let marked = async || {
        traced("01").get("/api/v1/contacts").await.expect(200);
        text = metrics(app, &reader).await.text;
        ["http_server_request_duration_seconds_bucket", "db_client_connection_wait_time_seconds_bucket"]
            .iter()
            .all(|name| text.lines().any(|line| line.starts_with(name) && line.contains(&mark)))
    };
    eventually(seconds(10), "the trace is an exemplar", marked).await;
    assert!(text.ends_with("# EOF\n"), "{text}");
    let answer = metrics(app, &reader).await;
    assert!(answer.header("content-type").is_some_and(|kind| kind.starts_with("application/openmetrics-text")));
    assert!(!metrics(app, &app.anonymous()).await.text.contains("trace_id"), "the classic text has no exemplars");
}
