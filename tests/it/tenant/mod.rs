//! The tenants' own features, as their people use them.

mod impersonation;
mod lockout;
mod login;
mod people;
mod refresh;
mod register;
mod rights;
mod second_factor;
mod sessions;
