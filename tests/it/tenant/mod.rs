//! The tenants' own features, as their people use them.

mod accounts;
mod api_keys;
mod browser;
mod federation;
mod foreign_tokens;
mod impersonation;
mod invitations;
mod lifetimes;
mod lockout;
mod login;
mod mail;
mod passkeys;
mod passwords;
mod people;
mod reassign;
mod refresh;
mod register;
mod rights;
mod roles;
mod scim;
mod second_factor;
mod sessions;
mod teams;
mod throttling;
mod token_claims;
mod workspaces;
