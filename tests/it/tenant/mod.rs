//! The tenants' own features, as their people use them.

mod accounts;
mod api_keys;
mod impersonation;
mod invitations;
mod lockout;
mod login;
mod mail;
mod people;
mod refresh;
mod register;
mod rights;
mod roles;
mod second_factor;
mod sessions;
