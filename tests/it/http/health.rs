//! What load balancers ask.

use tenantry::testing::TestApp;

#[actix_web::test]
async fn alive_and_ready() {
    let app = TestApp::shared().await;
    for path in ["/livez", "/readyz", "/health"] {
        let answer = app.anonymous().get(path).await.expect(200);
        assert!(!answer.text.contains("127.0.0.1") && !answer.text.contains("postgres"), "{answer:?}");
    }
}
