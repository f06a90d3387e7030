//! Making, adopting and unmaking tenants.

mod attach;
mod crash;
mod hold;
mod jobs;
mod migrations;
mod provisioning;
mod relocation;
mod rotation;
mod tls;
