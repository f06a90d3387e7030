//! Client programs that are newer than the servers.

use super::{Ground, is_moved};
use crate::support::binary::run_with;
use crate::support::clients::Newer;
use crate::support::db;

#[actix_web::test]
async fn clients_that_are_newer_than_the_server_move_a_tenant() {
    let ground = Ground::new().await;
    let tenant = ground.app.tenant_on("east", "newer").await;
    tenant.admin().contact("Ada").await;
    let at = |place: &str| ground.server(place).with_database(tenant.role());
    // Replicated, a table without a key is loaded by itself.
    let notes = "SET ROLE \"{role}\"; CREATE TABLE notes (note text); \
                 INSERT INTO notes VALUES ('SET transaction_timeout = 0;'), ('two')";
    db::execute(&at("east"), &notes.replace("{role}", tenant.role())).await;
    let clients = Newer::new();
    let environment = clients.environment(ground.app.environment());
    for (to, method) in [("west", "dump"), ("east", "replicate")] {
        let arguments = ["tenant", "move", tenant.slug.as_str(), "--to", to, "--method", method];
        let arguments = [&arguments[..], &["--hold-deadline", "60s", "--yes", "--output", "json"]].concat();
        is_moved(&run_with(&environment, &arguments).await.expect(0).json(), to);
        assert!(clients.was_run());
        let there = db::words(&at(to), "SELECT note AS word FROM notes ORDER BY 1").await;
        assert_eq!(there, ["SET transaction_timeout = 0;", "two"]);
        ground.moving(&tenant, &["--confirm"]).await.expect(0);
    }
}
