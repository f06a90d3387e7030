//! The tenants' own features, as their people use them.

mod api_keys;
mod browser;
mod impersonation;
mod lifetimes;
mod lockout;
mod login;
mod passkeys;
mod people;
mod refresh;
mod register;
mod rights;
mod roles;
mod second_factor;
mod sessions;
mod throttling;
