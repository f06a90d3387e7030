//! What a stranger can ask about an address.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::ground::{Ground, SLUG};

/// Longer than any policy asks for; nobody's.
const PASSWORD: &str = "an uncommon sentence of five words";

/// One question, about people of one kind and of the other.
pub struct Question {
    /// As the report calls it.
    pub name: &'static str,
    /// Where it is asked.
    pub path: &'static str,
    /// What it is answered with, either way.
    pub status: u16,
    /// Those of whom it is to tell no difference: who is known, and who is not.
    pub people: [People; 2],
    /// What is sent, about an address.
    pub body: Box<dyn Fn(&str) -> Value>,
}

/// A kind of people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum People {
    /// With an account.
    Known,
    /// With an account and a second factor.
    WithFactor,
    /// Nobody.
    Unknown,
}

/// All that are asked.
pub async fn all(ground: &Ground) -> Result<Vec<Question>> {
    use People::{Known, Unknown, WithFactor};
    let invitation = ground.invitation().await?;
    ensure!(!invitation.is_empty(), "an invitation has a token");
    let login = |email: &str| json!({"tenant": SLUG, "email": email, "password": "nobody's"});
    let named = |email: &str| json!({"tenant": SLUG, "email": email});
    let register = |email: &str| json!({"tenant": SLUG, "email": email, "password": PASSWORD});
    let accept =
        move |email: &str| json!({"tenant": SLUG, "email": email, "password": PASSWORD, "invitation": invitation});
    Ok(vec![
        one("login", "/api/v1/auth/login", 401, [Known, Unknown], login),
        one("login, of who has a second factor or none", "/api/v1/auth/login", 401, [WithFactor, Known], login),
        one("forgotten password", "/api/v1/auth/forgot-password", 202, [Known, Unknown], named),
        one("verification sent again", "/api/v1/auth/verify-email/resend", 202, [Known, Unknown], named),
        one("sign-up, verified by mail", "/api/v1/auth/register", 202, [Known, Unknown], register),
        one("another's invitation accepted", "/api/v1/auth/register", 422, [Known, Unknown], accept),
    ])
}

fn one(
    name: &'static str,
    path: &'static str,
    status: u16,
    people: [People; 2],
    body: impl Fn(&str) -> Value + 'static,
) -> Question {
    Question { name, path, status, people, body: Box::new(body) }
}
