//! The database that all tenants' databases are copied from: a tenant made by the real path, filled with contacts.

use anyhow::{Context as _, Result};
use secrecy::{ExposeSecret as _, SecretString};
use tenantry::control::tenants;
use tenantry::error::ApiError;
use tenantry::fleet::{AdminPassword, CreateTenant, FirstAdmin, OperationOptions, Silent};
use tenantry::kernel::{InstallationId, TenantId};
use tenantry::router::{MainConn, Target};

use super::super::postgres;
use super::inside;
use super::plane::{CLUSTER, Entry, Plane};

/// The first admin of every tenant.
pub const ADMIN_EMAIL: &str = "admin@tenant.example";
/// His password.
pub const ADMIN_PASSWORD: &str = "correct horse battery staple";
const DATABASE: &str = "bench_stencil";

/// Sixty contacts of half a kilobyte each.
const CONTACTS: &str = "INSERT INTO contacts (id, first_name, last_name, company, title, emails, phones, addresses, notes, tags, created_at) \
    SELECT gen_random_uuid(), 'First' || n, 'Last' || n, 'Company ' || n % 9, 'Head of Department ' || n % 7, \
        jsonb_build_array(jsonb_build_object('label', 'work', 'value', 'person' || n || '@company.example')), \
        jsonb_build_array(jsonb_build_object('label', 'mobile', 'value', '+44 20 7946 ' || 1000 + n)), \
        jsonb_build_array(jsonb_build_object('label', 'work', 'street', n || ' Long Street', 'city', 'London', \
            'region', 'Greater London', 'postalCode', 'N1 9GU', 'country', 'GB')), \
        'Met at the fair. ' || repeat('Likes to be called in the morning. ', n % 4), ARRAY['customer', 'fair-' || n % 5], \
        now() - n * interval '1 hour' \
    FROM generate_series(1, 60) AS n";

/// See the module.
#[derive(Debug)]
pub struct Stencil {
    /// What the product makes passwords and verifiers of, taken from the tenant it made.
    password: SecretString,
    verifier: String,
    strategy: &'static str,
}

impl Stencil {
    /// Makes the tenant `stencil`, and the database from his.
    pub async fn new(plane: &Plane, server: &Target) -> Result<Self> {
        let wanted = CreateTenant {
            slug: "stencil".parse()?,
            name: None,
            cluster: Some(CLUSTER.into()),
            registration: None,
            region: None,
            plan: None,
            max_connections: None,
            admin: Some(FirstAdmin {
                email: ADMIN_EMAIL.into(),
                password: AdminPassword::Given(ADMIN_PASSWORD.into()),
                first_name: "Ada".into(),
                last_name: "Admin".into(),
            }),
        };
        let made = plane.node.fleet.create(&wanted, &OperationOptions::default(), &Silent).await?.tenant;
        let (keys, id) = (plane.control().keys.clone(), made.id);
        let target = plane.control().db.read(async move |conn: &mut MainConn| tenants::target(conn, &keys, id).await);
        let (target, _) = target.await.map_err(|error: ApiError| error)?;

        let admin = postgres::connect(server.to_url().expose_secret()).await?;
        let verifier =
            admin.query_one("SELECT rolpassword FROM pg_authid WHERE rolname = $1", &[&made.role_name]).await?;
        let version: String = admin.query_one("SHOW server_version_num", &[]).await?.get(0);
        // Copying files is quicker than writing every page to the log, where a server can choose.
        let strategy = if version.parse::<u32>()? >= 150_000 { "STRATEGY FILE_COPY" } else { "" };
        let stencil = Self { password: target.password, verifier: verifier.get(0), strategy };

        stencil.create_database(&admin, DATABASE, &made.database_name).await?;
        let conn = inside(server, DATABASE).await?;
        conn.batch_execute(CONTACTS).await?;
        conn.batch_execute("VACUUM (FREEZE, ANALYZE)").await?;
        drop(conn);
        admin.batch_execute(&format!("ALTER DATABASE {DATABASE} ALLOW_CONNECTIONS false")).await?;
        Ok(stencil)
    }

    /// A tenant of this slug and installation with a copy as its own; it is still to be registered.
    pub async fn copy(&self, server: &Target, slug: &str, installation: InstallationId) -> Result<Entry> {
        let id = TenantId::generate();
        let name = format!("t_{}", id.uuid().simple());
        let admin = postgres::connect(server.to_url().expose_secret()).await?;
        admin.batch_execute(&self.create_role(&name)).await?;
        self.create_database(&admin, &name, DATABASE).await?;
        let statements = format!(
            "REVOKE ALL ON DATABASE \"{name}\" FROM PUBLIC; ALTER DATABASE \"{name}\" OWNER TO \"{name}\"; \
             UPDATE tenantry.stamp SET tenant_id = '{id}', installation_id = '{installation}'"
        );
        inside(server, &name).await?.batch_execute(&statements).await?;
        Ok(Entry { id, slug: slug.to_owned(), database: name.clone(), role: name, password: self.password.clone() })
    }

    /// A copy that belongs to a role, with what is in it.
    pub async fn copy_for(&self, admin: &tokio_postgres::Client, database: &str, role: &str) -> Result<()> {
        self.create_database(admin, database, DATABASE).await?;
        Ok(admin.batch_execute(&format!("ALTER DATABASE \"{database}\" OWNER TO \"{role}\"")).await?)
    }

    /// The statement that makes a tenant's role.
    pub fn create_role(&self, name: &str) -> String {
        format!("CREATE ROLE \"{name}\" LOGIN PASSWORD '{}'", self.verifier)
    }

    /// The password of all those roles.
    pub fn password(&self) -> SecretString {
        self.password.clone()
    }

    async fn create_database(&self, admin: &tokio_postgres::Client, name: &str, from: &str) -> Result<()> {
        let strategy = self.strategy;
        let create = format!("CREATE DATABASE \"{name}\" TEMPLATE \"{from}\" {strategy}");
        admin.batch_execute(&create).await.with_context(|| create)
    }
}
