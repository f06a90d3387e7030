//! Making, adopting and unmaking tenants.

mod attach;
mod clusters;
mod crash;
mod jobs;
mod migrations;
mod provisioning;
mod signup;
mod stock;
mod tls;
