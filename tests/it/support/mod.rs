//! What several tests stand on.

pub(crate) mod authenticator;
pub(crate) mod binary;
pub(crate) mod certificates;
pub(crate) mod clients;
pub(crate) mod db;
pub(crate) mod dev;
pub(crate) mod device;
pub(crate) mod dir;
pub(crate) mod identity;
pub(crate) mod jwt;
pub(crate) mod matrix;
pub(crate) mod oauth;
pub(crate) mod openapi;
pub(crate) mod peers;
pub(crate) mod s3;
pub(crate) mod servers;
pub(crate) mod siteverify;
pub(crate) mod smtp;

use std::io::Write as _;
use std::time::{Duration, Instant};

const PAUSE: Duration = Duration::from_millis(20);

/// A deadline for work that has a machine to itself, on one that it shares with the tests beside it.
pub(crate) fn shared(alone: Duration) -> Duration {
    4 * alone
}

/// Waits for the event, never for a length of time: asks again until it is so, and fails once the deadline, for a machine of
/// one's own, has passed.
pub(crate) async fn eventually(within: Duration, what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let within = shared(within);
    let deadline = Instant::now() + within;
    while !is_so().await {
        assert!(Instant::now() < deadline, "not so within {within:?}: {what}");
        tokio::time::sleep(PAUSE).await;
    }
}

/// Says something in the run's own output. What `println!` says of a test that passes is thrown away.
pub(crate) fn say(text: &str) {
    writeln!(std::io::stdout().lock(), "{text}").expect("stdout takes a line");
}

/// Seconds, for deadlines.
pub(crate) const fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// A word that occurs nowhere else.
pub(crate) fn unique(prefix: &str) -> String {
    let bytes = tenantry::kernel::crypto::random::<6>();
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{prefix}{hex}")
}

/// Bytes from their hexadecimal form.
pub(crate) fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).expect("hex")).collect()
}
