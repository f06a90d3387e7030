//! Making, adopting and unmaking tenants.

mod attach;
mod crash;
mod migrations;
mod provisioning;
mod stock;
mod tls;
