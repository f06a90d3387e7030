//! The demo tenants: made like any other, then filled.

use anyhow::Context as _;
use futures_util::stream::{self, StreamExt as _};

use super::demo;
use super::directory::{Directory, Kept, KeptTenant, Login, ReadyTenant, new_password};
use super::progress::Progress;
use crate::control::tenants::{self, TenantFilter, TenantRecord};
use crate::fleet::{AdminPassword, CreateTenant, FirstAdmin, Fleet, OperationOptions, Silent};
use crate::kernel::Slug;
use crate::router::{AdminConn, ConnectOptions, MainConn, Registration, Target, TenantStatus};

/// How many are made at a time.
const AT_A_TIME: usize = 4;

/// `acme`, `globex`, `t0003` …
fn slugs(count: usize) -> impl Iterator<Item = Slug> {
    (1..=count).map(|number| {
        let name = match number {
            1 => "acme".to_owned(),
            2 => "globex".to_owned(),
            number => format!("t{number:04}"),
        };
        name.parse().expect("demo slugs are slugs")
    })
}

fn display_name(slug: &Slug) -> String {
    match slug.as_str() {
        "acme" => "Acme Corporation".into(),
        "globex" => "Globex Corporation".into(),
        numbered => format!("Tenant {}", &numbered[1..]),
    }
}

/// What making the tenants works with.
pub(super) struct DemoTenants<'a> {
    pub(super) fleet: &'a Fleet,
    /// The superuser of the local server.
    pub(super) superuser: &'a Target,
    pub(super) cluster: &'a str,
    pub(super) directory: &'a Directory,
}

impl DemoTenants<'_> {
    /// Makes and fills those of `count` demo tenants that are missing; gives all there are, by slug.
    pub(super) async fn ensure(
        &self,
        kept: &mut Kept,
        count: usize,
        people_hash: &str,
    ) -> anyhow::Result<Vec<ReadyTenant>> {
        let known = self.list().await?;
        let settled = |slug: &Slug| known.iter().any(|t| t.slug == *slug && t.status != TenantStatus::Provisioning);
        let filled = |slug: &Slug| kept.tenants.get(slug.as_str()).is_none_or(|tenant| tenant.filled);
        let missing: Vec<Slug> = slugs(count).filter(|slug| !settled(slug) || !filled(slug)).collect();
        for slug in &missing {
            let admin = || Login { email: format!("admin@{slug}.example"), password: new_password() };
            kept.tenants.entry(slug.to_string()).or_insert_with(|| KeptTenant { admin: admin(), filled: false });
        }
        // Before anything is made with them: a start that is interrupted goes on with the same passwords.
        self.directory.save(kept)?;

        let progress = Progress::new("tenant", missing.len());
        let (logins, missing) = (&*kept, missing);
        let mut made = stream::iter(missing.iter().cloned())
            .map(|slug| {
                let admin = logins.tenants[slug.as_str()].admin.clone();
                self.ensure_one(slug, admin, people_hash)
            })
            .buffer_unordered(AT_A_TIME);
        while let Some(slug) = made.next().await {
            progress.done(slug?.as_str());
        }
        drop(made);
        progress.finish();
        for slug in &missing {
            if let Some(tenant) = kept.tenants.get_mut(slug.as_str()) {
                tenant.filled = true;
            }
        }
        self.directory.save(kept)?;
        let serving = self.list().await?.into_iter().filter(|tenant| tenant.status == TenantStatus::Active);
        let ready = serving.filter_map(|tenant| {
            let Login { email, password } = kept.tenants.get(tenant.slug.as_str())?.admin.clone();
            Some(ReadyTenant {
                slug: tenant.slug.to_string(),
                id: tenant.id,
                admin_email: email,
                admin_password: password,
            })
        });
        Ok(ready.collect())
    }

    async fn list(&self) -> anyhow::Result<Vec<TenantRecord>> {
        let listed = self
            .fleet
            .control
            .db
            .read(async |conn: &mut MainConn| tenants::list(conn, &TenantFilter::default()).await)
            .await;
        listed.context("cannot list the tenants")
    }

    async fn ensure_one(&self, slug: Slug, admin: Login, people_hash: &str) -> anyhow::Result<Slug> {
        let what = || format!("the demo tenant {slug}");
        let wanted_slug = slug.clone();
        let found = self
            .fleet
            .control
            .db
            .read(async move |conn: &mut MainConn| tenants::find_by_slug(conn, &wanted_slug).await)
            .await
            .with_context(what)?;
        let tenant = match found {
            Some(tenant) if tenant.status != TenantStatus::Provisioning => tenant,
            _ => self.create(&slug, &admin).await.with_context(what)?,
        };
        let target = self.superuser.with_database(&tenant.database_name);
        let mut conn = AdminConn::open(&target, &ConnectOptions::default()).await.with_context(what)?;
        let now = self.fleet.control.clock.now();
        demo::fill(&mut conn, &slug, people_hash, now).await.with_context(what)?;
        Ok(slug)
    }

    async fn create(&self, slug: &Slug, admin: &Login) -> anyhow::Result<TenantRecord> {
        let demo::Person { first_name, last_name } = demo::admin(slug);
        let wanted = CreateTenant {
            slug: slug.clone(),
            name: Some(display_name(slug)),
            cluster: Some(self.cluster.to_owned()),
            // Whoever tries it out registers: `dev` listens on loopback alone, so nobody else reaches them.
            registration: Some(Registration::Open),
            region: None,
            plan: None,
            max_connections: None,
            admin: Some(FirstAdmin {
                email: admin.email.clone(),
                password: AdminPassword::Given(admin.password.clone().into()),
                first_name: first_name.to_owned(),
                last_name: last_name.to_owned(),
            }),
        };
        Ok(self.fleet.create(&wanted, &OperationOptions::default(), &Silent).await?.tenant)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slugs_in_order() {
        let names: Vec<_> = slugs(4).map(|slug| slug.to_string()).collect();
        assert_eq!(names, ["acme", "globex", "t0003", "t0004"]);
        assert_eq!(slugs(1).map(|slug| slug.to_string()).collect::<Vec<_>>(), ["acme"]);
        assert_eq!(slugs(10_000).last().map(|slug| slug.to_string()).as_deref(), Some("t10000"));
        assert_eq!(display_name(&"t0012".parse().unwrap()), "Tenant 0012");
    }
}
