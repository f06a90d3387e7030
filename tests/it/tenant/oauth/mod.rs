//! The OAuth server for the organisation's own apps.

mod access;
mod clients;
mod codes;
mod consents;
mod demands;
mod hydra;
mod peer;
mod secrets;
mod tokens;
