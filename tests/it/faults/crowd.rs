//! Many tenants of one node, made once for the tests that need many. One test at a time has them.

use futures_util::future::join_all;
use tenantry::control::clusters::ClusterChanges;
use tenantry::testing::{Persona, Tenant, TestApp};
use tokio::sync::{Mutex, MutexGuard, OnceCell};

use super::ground::{PATIENCE, backends, count, kill_all, read};
use crate::support::eventually;

const SIZE: usize = 30;
const AT_ONCE: usize = 3;

/// The node, and each tenant with a token of its administrator.
static CROWD: OnceCell<(TestApp, Vec<(Tenant, String)>)> = OnceCell::const_new();
static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

/// Some tenants of the crowd's node, and their administrators, under a budget of the test's own.
pub(super) struct Crowd {
    pub(super) app: &'static TestApp,
    pub(super) tenants: Vec<Tenant>,
    pub(super) admins: Vec<Persona>,
    _alone: MutexGuard<'static, ()>,
}

impl Crowd {
    /// The first `count` tenants, with this budget for all of them together.
    pub(super) async fn of(count: usize, budget: usize) -> Self {
        let alone = ONE_AT_A_TIME.lock().await;
        let (app, members) = CROWD.get_or_init(make).await;
        let some = &members[..count];
        let tenants = some.iter().map(|(tenant, _)| tenant.clone()).collect();
        // Each with connections of this test's own runtime.
        let admins = some.iter().map(|(_, token)| app.anonymous().bearing(token)).collect();
        let crowd = Self { app, tenants, admins, _alone: alone };
        crowd.limit(budget).await;
        crowd
    }

    async fn limit(&self, budget: usize) {
        let budget = Some(Some(i32::try_from(budget).expect("a budget")));
        let changes = ClusterChanges { connection_budget: budget, ..ClusterChanges::default() };
        self.app.fleet().set_cluster("local", changes).await.expect("a cluster");
        // A tenant takes the budget in when it is next asked for, and what was open before may stay for a while.
        let (server, everybody) = (self.app.server(), self.everybody());
        let all = backends(&everybody, "true");
        let known = async || {
            kill_all(&server, &everybody).await;
            read(&self.admins[0]).await.expect(200);
            let capacities = self.app.router().pools().clusters();
            let known = capacities.iter().all(|(_, counts)| Some(Some(counts.capacity as i32)) == budget);
            known && self::count(&server, &all).await <= 1
        };
        eventually(PATIENCE, "the budget is known", known).await;
    }

    pub(super) fn everybody(&self) -> Vec<&Tenant> {
        self.tenants.iter().collect()
    }
}

async fn make() -> (TestApp, Vec<(Tenant, String)>) {
    let app = TestApp::builder().set("TENANTRY_ROUTER__ACQUIRE_TIMEOUT", "30s").start().await;
    let mut members = Vec::new();
    while members.len() < SIZE {
        let made = join_all((0..AT_ONCE).map(|_| async {
            let tenant = app.tenant("crowd").await;
            let token = tenant.admin().token().await;
            (tenant, token)
        }));
        members.extend(made.await);
    }
    (app, members)
}
