//! Three servers, one budget: never exceeded as the database sees it, through `kill -9` of one and its return.

use std::net::TcpListener;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use futures_util::stream::{self, StreamExt as _};
use tenantry::testing::{Persona, Tenant, TestApp};
use tokio::process::Child;

use crate::support::binary::program;
use crate::support::{db, eventually, say, seconds};

/// How big it is.
#[derive(Debug, Clone, Copy)]
struct Plan {
    tenants: usize,
    budget: i32,
    /// Requests under way at each server.
    clients: usize,
    /// Requests that each server answers before the next thing happens.
    requests: u64,
    ttl: &'static str,
}

/// What was seen.
#[derive(Debug)]
struct Report {
    most: usize,
    looks: usize,
    answered: u64,
    failed: u64,
    returned: Duration,
}

/// One server and the requests that go to it.
struct Replica {
    process: Child,
    url: String,
    answered: Arc<AtomicU64>,
    failed: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    clients: Vec<tokio::task::JoinHandle<()>>,
}

fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).and_then(|listener| listener.local_addr()).expect("a free port").port()
}

impl Replica {
    async fn start(app: &TestApp, plan: &Plan) -> Self {
        let port = free_port();
        let mut environment = app.environment();
        environment.extend([
            ("TENANTRY_LISTEN".into(), format!("127.0.0.1:{port}")),
            ("TENANTRY_MANAGEMENT_LISTEN".into(), format!("127.0.0.1:{}", free_port())),
            ("TENANTRY_ROUTER__SLICE_TTL".into(), plan.ttl.into()),
            ("TENANTRY_ROUTER__ACQUIRE_TIMEOUT".into(), "30s".into()),
            ("TENANTRY_HTTP__WORKERS".into(), "1".into()),
        ]);
        let mut command = program(&environment, &["serve", "--no-worker"]);
        let process = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts");
        let url = format!("http://127.0.0.1:{port}");
        let nobody = app.anonymous().at(&url);
        eventually(seconds(30), "it is ready", async || {
            let answer = nobody.try_send(reqwest::Method::GET, "/readyz", None).await;
            answer.is_ok_and(|answer| answer.status == 200)
        })
        .await;
        Self {
            process,
            url,
            answered: Arc::default(),
            failed: Arc::default(),
            stop: Arc::default(),
            clients: Vec::new(),
        }
    }

    /// Keeps it busy: each client goes round all tenants, from another one on.
    fn load(&mut self, people: &[Persona], clients: usize) {
        for number in 0..clients {
            let people: Vec<Persona> = people.iter().map(|person| person.at(&self.url)).collect();
            let (answered, failed, stop) = (self.answered.clone(), self.failed.clone(), self.stop.clone());
            self.clients.push(tokio::task::spawn_local(async move {
                for turn in number * people.len() / 7.. {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let person = &people[turn * 13 % people.len()];
                    match person.try_send(reqwest::Method::GET, "/api/v1/contacts", None).await {
                        Ok(answer) if answer.status == 200 => answered.fetch_add(1, Ordering::Relaxed),
                        _ => failed.fetch_add(1, Ordering::Relaxed),
                    };
                }
            }));
        }
    }

    async fn has_answered(&self, more: u64) {
        let goal = self.answered.load(Ordering::Relaxed) + more;
        eventually(seconds(60), "requests are answered", async || self.answered.load(Ordering::Relaxed) >= goal).await;
    }

    async fn end_load(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        join_all(self.clients.drain(..)).await;
    }
}

/// Looks every 20 ms, from a connection of its own.
async fn observe(app: &TestApp, tenants: &[Tenant], done: Arc<AtomicBool>) -> (usize, usize) {
    let databases: Vec<_> = tenants.iter().map(|tenant| format!("'{}'", tenant.database().database)).collect();
    let sql = format!(
        "SELECT count(*)::text AS word FROM pg_stat_activity \
         WHERE application_name LIKE 'tenantry/%' AND datname IN ({})",
        databases.join(", ")
    );
    let mut conn = db::open(&app.server()).await;
    let (most, looks) = (AtomicUsize::new(0), AtomicUsize::new(0));
    while !done.load(Ordering::Relaxed) {
        let seen = db::words_on(&mut conn, &sql).await[0].parse().expect("a count");
        most.fetch_max(seen, Ordering::Relaxed);
        looks.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    (most.into_inner(), looks.into_inner())
}

async fn run(plan: Plan) -> Report {
    let app = TestApp::builder().connection_budget(plan.budget).start().await;
    let making = stream::iter(0..plan.tenants).map(|number| app.tenant(if number % 2 == 0 { "even" } else { "odd" }));
    let tenants: Vec<Tenant> = making.buffer_unordered(2).collect().await;
    let mut replicas = join_all((0..3).map(|_| Replica::start(&app, &plan))).await;
    let people: Vec<Persona> = tenants.iter().map(|tenant| tenant.at(&replicas[0].url).admin()).collect();
    stream::iter(&people).for_each_concurrent(4, async |person| drop(person.signed_in().await)).await;

    let done: Arc<AtomicBool> = Arc::default();
    let observed = observe(&app, &tenants, done.clone());
    let history = async {
        for replica in &mut replicas {
            replica.load(&people, plan.clients);
        }
        join_all(replicas.iter().map(|replica| replica.has_answered(plan.requests))).await;

        let mut lost = replicas.pop().expect("three");
        lost.process.kill().await.expect("killed");
        let killed = Instant::now();
        lost.end_load().await;
        // Two rows, and all of the budget in them.
        let held = "SELECT count(*)::text || ' ' || coalesce(sum(slice), 0)::text AS word FROM budget_slices";
        let all = format!("2 {}", plan.budget);
        let have_all = async || db::word(app.control_database(), held).await == all;
        eventually(seconds(60), "the survivors have all of it", have_all).await;
        let returned = killed.elapsed();
        join_all(replicas.iter().map(|replica| replica.has_answered(plan.requests))).await;

        let mut back = Replica::start(&app, &plan).await;
        back.load(&people, plan.clients);
        back.has_answered(plan.requests).await;
        replicas.push(back);
        for replica in &mut replicas {
            replica.end_load().await;
        }
        done.store(true, Ordering::Relaxed);
        returned
    };
    let ((most, looks), returned) = futures_util::join!(observed, history);
    let sum = |of: fn(&Replica) -> &AtomicU64| replicas.iter().map(|r| of(r).load(Ordering::Relaxed)).sum();
    Report { most, looks, returned, answered: sum(|r| &r.answered), failed: sum(|r| &r.failed) }
}

#[actix_web::test]
async fn three_servers_keep_to_one_budget_through_a_crash() {
    let plan = Plan { tenants: 24, budget: 9, clients: 4, requests: 100, ttl: "1500ms" };
    let report = run(plan).await;
    say(&format!("three servers, {plan:?}: {report:?}"));
    assert!(report.looks > 20, "{report:?}");
    assert!(report.answered > 5 * plan.requests && report.returned > Duration::from_secs(1), "{report:?}");
    assert!(report.most <= usize::try_from(plan.budget).expect("a small number"), "{report:?}");
    assert_eq!(report.failed, 0, "{report:?}");
}
