//! A tenant of a test's own, and its people.

use std::sync::Arc;

use serde_json::json;
use tokio::sync::OnceCell;

use super::Answer;
use super::ground::Ground;
use super::persona::{Login, Persona, Proof};
use crate::fleet::{AdminPassword, CreateTenant, FirstAdmin, OperationOptions, Silent};
use crate::kernel::{Clock, Slug, TenantId};
use crate::router::{Registration, Target};

/// What every person of a test has for a password.
const PASSWORD: &str = "correct horse battery staple";

/// A tenant with a database of its own, made as any other is.
#[derive(Debug, Clone)]
pub struct Tenant {
    /// Public name: the one asked for with a number.
    pub slug: Slug,
    /// Identity.
    pub id: TenantId,
    email: String,
    password: String,
    database: Target,
    admin: Persona,
    user: Persona,
    ground: Arc<Ground>,
}

impl Tenant {
    pub(super) async fn create(
        ground: &Arc<Ground>,
        url: &str,
        cluster: &str,
        name: &str,
        registration: Registration,
    ) -> Self {
        let slug: Slug = ground.slug(name).parse().expect("a slug");
        let email = format!("admin@{slug}.test");
        let admin = FirstAdmin {
            email: email.clone(),
            password: AdminPassword::Given(PASSWORD.into()),
            first_name: "Ada".into(),
            last_name: "Admin".into(),
        };
        let wanted = CreateTenant {
            slug: slug.clone(),
            name: Some(name.to_owned()),
            cluster: Some(cluster.to_owned()),
            registration: Some(registration),
            region: None,
            plan: None,
            max_connections: None,
            admin: Some(admin),
        };
        let fleet = ground.fleet(Clock::system(), None);
        let made = fleet.create(&wanted, &OperationOptions::default(), &Silent).await;
        let made = made.unwrap_or_else(|error| panic!("{slug} is not made: {error:?}"));
        let database = ground.server_of(cluster).with_database(made.tenant.database_name);
        Self::known(ground, url, slug, made.tenant.id, database, email, PASSWORD.to_owned())
    }

    /// A tenant that exists.
    pub(super) fn known(
        ground: &Arc<Ground>,
        url: &str,
        slug: Slug,
        id: TenantId,
        database: Target,
        email: String,
        password: String,
    ) -> Self {
        let nobody = Persona::new(url, Proof::Nothing);
        let admin = nobody.proving(login(&slug, &email, &password, None));
        let address = format!("user@{slug}.test");
        let body =
            json!({"email": address, "firstName": "Uma", "lastName": "User", "password": PASSWORD, "roles": ["user"]});
        let user = nobody.proving(login(&slug, &address, PASSWORD, Some((admin.clone(), body))));
        Self { slug, id, email, password, database, admin, user, ground: ground.clone() }
    }

    /// Its administrator, who was made with it.
    #[must_use]
    pub fn admin(&self) -> Persona {
        self.admin.clone()
    }

    /// Somebody with the role `user`; made when they first speak.
    #[must_use]
    pub fn user(&self) -> Persona {
        self.user.clone()
    }

    /// Somebody without a token.
    #[must_use]
    pub fn anonymous(&self) -> Persona {
        self.admin.anonymous()
    }

    /// The administrator's address.
    #[must_use]
    pub fn email(&self) -> &str {
        &self.email
    }

    /// The administrator's password.
    #[must_use]
    pub fn password(&self) -> &str {
        &self.password
    }

    /// Its database, as the server's superuser: to look past the application.
    #[must_use]
    pub const fn database(&self) -> &Target {
        &self.database
    }

    /// The name of its role.
    #[must_use]
    pub fn role(&self) -> &str {
        &self.database.database
    }

    /// The answer to a login.
    pub async fn log_in_as(&self, email: &str, password: &str) -> Answer {
        let body = json!({"tenant": self.slug.as_str(), "email": email, "password": password});
        self.anonymous().post("/api/v1/auth/login", body).await
    }

    /// Somebody who logs in with this address when they first speak.
    #[must_use]
    pub fn person(&self, email: &str, password: &str) -> Persona {
        self.admin.proving(login(&self.slug, email, password, None))
    }

    /// The administrator, in a further session.
    pub async fn another_login(&self) -> Persona {
        let persona = self.person(&self.email, &self.password);
        persona.signed_in().await;
        persona
    }

    /// The same tenant, asked at another node.
    #[must_use]
    pub fn at(&self, url: &str) -> Self {
        let (database, email, password) = (self.database.clone(), self.email.clone(), self.password.clone());
        Self::known(&self.ground, url, self.slug.clone(), self.id, database, email, password)
    }

    /// Suspends it, as an operator's command does.
    ///
    /// # Panics
    /// If that is refused.
    pub async fn suspend(&self) {
        self.ground.fleet(Clock::system(), None).suspend(self.id).await.expect("suspended");
    }

    /// Serves it again.
    ///
    /// # Panics
    /// If that is refused.
    pub async fn resume(&self) {
        self.ground.fleet(Clock::system(), None).resume(self.id).await.expect("resumed");
    }
}

fn login(slug: &Slug, email: &str, password: &str, made_by: Option<(Persona, serde_json::Value)>) -> Proof {
    let body = json!({"tenant": slug.as_str(), "email": email, "password": password});
    Proof::Login(Arc::new(Login { path: "/api/v1/auth/login", body, made_by, answer: OnceCell::new() }))
}
