//! What people have on their phones.

use tenantry::testing::TestApp;
use totp_rs::{Builder, Secret};

/// The code that an authenticator with this seed shows now, by the app's clock.
pub(crate) fn code(app: &TestApp, secret: &str) -> String {
    code_at(app, secret, 0)
}

/// The same for so many seconds later.
pub(crate) fn code_at(app: &TestApp, secret: &str, later: i64) -> String {
    let secret = Secret::try_from_base32(secret).expect("base 32");
    let totp = Builder::new().with_secret(secret).build().expect("a seed");
    totp.generate(u64::try_from(app.clock().now().timestamp() + later).expect("after 1970")).to_string()
}
