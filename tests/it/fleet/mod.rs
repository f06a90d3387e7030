//! Making, adopting and unmaking tenants.

mod attach;
mod backups;
mod clone;
mod clusters;
mod crash;
mod doctor;
mod drift;
mod erase;
mod export;
mod guards;
mod hold;
mod jobs;
mod kept;
mod key_rotation;
mod migrate;
mod migrations;
mod once;
mod proof;
mod provisioning;
mod relocation;
mod retention;
mod rotation;
mod scene;
mod signup;
mod stock;
mod tls;
