//! One binary for all tests: the folders mirror `src/`.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails where it stands")]

mod arrows;
mod cli;
mod control;
mod docs;
mod docs_runbook;
mod faults;
mod fleet;
mod http;
mod mailer;
mod router;
mod source;
mod support;
mod tenant;
