//! Making, adopting and unmaking tenants.

mod attach;
mod crash;
mod jobs;
mod migrate;
mod migrations;
mod provisioning;
mod tls;
