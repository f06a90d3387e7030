//! Making, adopting and unmaking tenants.

mod attach;
mod backups;
mod crash;
mod migrations;
mod provisioning;
mod tls;
