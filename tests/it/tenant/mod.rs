//! The tenants' own features, as their people use them.

mod api_keys;
mod federation;
mod foreign_tokens;
mod impersonation;
mod lockout;
mod login;
mod people;
mod refresh;
mod register;
mod rights;
mod roles;
mod scim;
mod second_factor;
mod sessions;
