//! Making, adopting and unmaking tenants.

mod attach;
mod backups;
mod clone;
mod crash;
mod erase;
mod export;
mod jobs;
mod migrations;
mod provisioning;
mod tls;
