//! Somebody else has taken the connections of a server, or a role may have no more of them.

use std::time::Instant;

use diesel_async::SimpleAsyncConnection as _;
use futures_util::future::join_all;
use tenantry::router::{AdminConn, ConnectOptions, Error, RouterConfig, Target};
use tenantry::testing::{FaultProxy, TestApp};

use super::ground::{
    BEHIND, Tx, assert_refused, breaker, counted, database, embedded, kill_all, read, recovers, short_deadlines,
    undisturbed, warm,
};
use crate::support::servers::Server;
use crate::support::{db, eventually, say, seconds};

const MAX_CONNECTIONS: u32 = 20;
/// The most connections that may be tried for a tenant while it is refused: a few with growing pauses.
const STORM: u64 = 15;

/// Opens connections until the server has no more.
async fn take_all(server: &Target) -> Vec<AdminConn> {
    let mut taken = Vec::new();
    while let Ok(conn) = AdminConn::open(server, &ConnectOptions::default()).await {
        taken.push(conn);
        assert!(taken.len() <= MAX_CONNECTIONS as usize, "the server is never full");
    }
    taken
}

#[actix_web::test]
async fn a_server_filled_by_others_backs_off_without_a_storm_and_serves_whoever_is_warm() {
    let app = short_deadlines().start().await;
    let second = Server::start_with(|mut options| {
        options.max_connections = MAX_CONNECTIONS;
        options
    })
    .await;
    let proxy = FaultProxy::start(&second.target());
    app.cluster_behind(BEHIND, &proxy).await;
    let (warm_one, cold) = (app.tenant_on(BEHIND, "warm").await, app.tenant_on(BEHIND, "cold").await);
    for tenant in [&warm_one, &cold] {
        read(&tenant.admin()).await.expect(200);
    }
    let neighbours = warm(&app, 2).await;
    undisturbed(&neighbours, async {
        // Its connections are gone, and nobody of ours gets one again before the server is full.
        kill_all(&second.target(), &[&cold]).await;
        let outsiders = take_all(&second.target()).await;
        let still_served = std::slice::from_ref(&warm_one);
        undisturbed(still_served, async {
            let (asked, begun) = (40, Instant::now());
            let asking = async {
                for _ in 0..asked / 8 {
                    for answer in join_all((0..8).map(|_| async { read(&cold.admin()).await })).await {
                        assert_refused(&answer);
                    }
                }
            };
            let ((), tried) = counted(|| proxy.accepted(), asking).await;
            say(&format!("server full: {asked} refusals in {:?}, {tried} connections tried", begun.elapsed()));
            assert!(tried <= STORM, "{tried} connections were tried for {asked} requests");
            assert_eq!(breaker(&app, &cold), Some("server_full"));
        })
        .await;
        drop(outsiders);
        recovers("server full", &cold.admin()).await;
        eventually(seconds(10), "no breaker stays", async || breaker(&app, &cold).is_none()).await;
        read(&warm_one.admin()).await.expect(200);
    })
    .await;
}

/// The tenant is served by the connection that it holds, and so starves for none; its breaker asks for another all the same.
#[actix_web::test]
async fn a_role_whose_limit_is_lifted_soon_has_more_than_the_connection_it_holds() {
    let app = TestApp::shared().await;
    let acme = app.tenant("acme").await;
    kill_all(&app.server(), &[&acme]).await;
    let limit = async |limit: i32| {
        let alter = format!("ALTER ROLE \"{}\" CONNECTION LIMIT {limit}", acme.role());
        db::execute(&app.server(), &alter).await;
    };
    limit(1).await;
    let router = embedded(app, |config| RouterConfig { tenant_max_connections: 2, ..config }).await;
    let own = database(&router, &acme).await;
    // Served, or told to come again.
    let two_at_once = async || {
        let work = (0..2).map(|_| {
            own.transaction(async |tx: &mut Tx| -> Result<(), Error> {
                Ok(tx.batch_execute("SELECT pg_sleep(0.1)").await?)
            })
        });
        join_all(work).await;
        let pool = router.pools().snapshot(acme.id);
        pool.map_or((0, None), |pool| (pool.counts.idle + pool.counts.busy, pool.breaker))
    };
    let refused = async || two_at_once().await == (1, Some("connection_limit"));
    eventually(seconds(10), "one is open, and the server refuses another", refused).await;
    limit(-1).await;
    // Less than a probe that nobody opens anything for is waited for.
    eventually(seconds(10), "both are open", async || two_at_once().await == (2, None)).await;
    router.shutdown().await;
}
