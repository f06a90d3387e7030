//! Making, adopting and unmaking tenants.

mod attach;
mod backups;
mod clusters;
mod crash;
mod doctor;
mod drift;
mod hold;
mod jobs;
mod migrations;
mod proof;
mod provisioning;
mod relocation;
mod rotation;
mod signup;
mod stock;
mod tls;
