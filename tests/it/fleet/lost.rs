//! What a server that was lost takes with it comes back.

use tenantry::testing::TestApp;

use super::scene::{backup, lives_in, with_people_and_contacts};
use crate::support::binary::run;
use crate::support::{db, eventually, seconds};

#[actix_web::test]
async fn a_tenant_whose_database_and_role_are_gone_comes_back_in_place() {
    let app = TestApp::builder().start().await;
    let acme = with_people_and_contacts(&app).await;
    let slug = acme.slug.as_str();
    let before = db::fingerprint(acme.database()).await;
    let made = backup(&app, slug).await;
    let id = made["id"].as_str().unwrap();
    for lost in ["DROP DATABASE \"$role\" WITH (FORCE)", "DROP ROLE \"$role\""] {
        db::execute(&app.server(), &lost.replace("$role", acme.role())).await;
    }
    run(&app, &["tenant", "restore", slug, "--backup", id]).await.expect(0);
    assert_eq!(db::fingerprint(&lives_in(&app, slug).await).await, before);
    let served = async || acme.log_in_as(acme.email(), acme.password()).await.status == 200;
    eventually(seconds(20), "its people log in", served).await;
    let contacts = acme.person(acme.email(), acme.password()).get("/api/v1/contacts").await.expect(200);
    assert_eq!(contacts.data().as_array().unwrap().len(), 3);
}
