//! What a database consists of, as facts that can be compared.

use std::collections::BTreeMap;

use diesel::sql_types::Text;
use diesel_async::{RunQueryDsl, SimpleAsyncConnection};

use crate::error::{ApiError, ApiResult};
use crate::router::AdminConn;
use crate::router::migrate::MigrationSet;

const FACTS: &str = include_str!("catalog.sql");

#[derive(diesel::QueryableByName)]
struct Fact {
    #[diesel(sql_type = Text)]
    object: String,
    #[diesel(sql_type = Text)]
    part_of: String,
    #[diesel(sql_type = Text)]
    aspect: String,
    #[diesel(sql_type = Text)]
    value: String,
}

/// An object of a database.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Object {
    /// What it goes with: a column with its table.
    pub(super) part_of: String,
    /// What is said of it.
    pub(super) aspects: BTreeMap<String, String>,
}

/// The objects of a database by kind and name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Catalog(pub(super) BTreeMap<String, Object>);

impl Catalog {
    /// Adds a fact.
    pub(super) fn say(&mut self, object: &str, part_of: &str, aspect: &str, value: &str) {
        let entry = self.0.entry(object.to_owned()).or_default();
        if !part_of.is_empty() {
            part_of.clone_into(&mut entry.part_of);
        }
        entry.aspects.insert(aspect.to_owned(), value.to_owned());
    }

    /// Reads the catalog of the database that `conn` is in, whose tenant's role is `role`.
    pub(super) async fn read(conn: &mut AdminConn, role: &str) -> ApiResult<Self> {
        conn.batch_execute("SET search_path = pg_catalog").await.map_err(ApiError::internal)?;
        let facts: Vec<Fact> =
            diesel::sql_query(FACTS).bind::<Text, _>(role).load(conn).await.map_err(ApiError::internal)?;
        let mut catalog = Self::default();
        for fact in facts {
            // Names within a table are the table's own: two tables may each have a trigger of one name.
            let object = match fact.part_of.split_once(' ') {
                Some((_, table)) if !fact.object.starts_with("column ") && !fact.object.starts_with("sequence ") => {
                    match fact.object.split_once(' ') {
                        Some((kind, name)) => format!("{kind} {table}.{name}"),
                        None => fact.object,
                    }
                }
                _ => fact.object,
            };
            catalog.say(&object, &fact.part_of, &fact.aspect, &fact.value);
        }
        Ok(catalog)
    }
}

#[derive(PartialEq, Eq, diesel::QueryableByName)]
struct Applied {
    #[diesel(sql_type = diesel::sql_types::Integer)]
    version: i32,
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = Text)]
    checksum: String,
}

/// What a database remembers of a set of migrations.
#[derive(PartialEq, Eq)]
pub(super) struct History(Vec<Applied>);

impl History {
    /// Reads it; empty where nothing was ever applied.
    pub(super) async fn read(conn: &mut AdminConn, set: &MigrationSet) -> ApiResult<Self> {
        let table = set.history();
        let known = format!("SELECT to_regclass({}) IS NOT NULL AS yes", crate::fleet::sql::literal(table));
        if !crate::fleet::admin::ask(conn, &known).await? {
            return Ok(Self(Vec::new()));
        }
        // Only read where reading it runs nothing of the tenant's: its role can put something else in its place.
        conn.batch_execute("BEGIN READ ONLY").await.map_err(ApiError::internal)?;
        if !crate::fleet::admin::lock_plain(conn, table).await? {
            return Err(crate::fleet::refused(format!(
                "{table} is no plain table any more: it was put in the place of the history of migrations. Look at it, and \
                 put the history back from a backup."
            )));
        }
        let rows = format!("SELECT version, name::text, checksum::text FROM {table} ORDER BY version");
        let applied = diesel::sql_query(rows).load(conn).await.map_err(ApiError::internal)?;
        conn.batch_execute("COMMIT").await.map_err(ApiError::internal)?;
        Ok(Self(applied))
    }

    /// The version that the database has come to.
    pub(super) fn head(&self) -> i32 {
        self.0.last().map_or(0, |last| last.version)
    }

    /// What was applied, as facts of a catalog.
    pub(super) fn tell(&self, set: &MigrationSet, catalog: &mut Catalog) {
        for one in &self.0 {
            let object = format!("migration V{}__{} ({})", one.version, one.name, set.history());
            catalog.say(&object, "", "checksum", &one.checksum);
        }
    }
}

/// What should have been applied, as facts of a catalog.
pub(super) fn expect(set: &MigrationSet, catalog: &mut Catalog) {
    for (_, name, checksum) in set.entries() {
        catalog.say(&format!("migration {name} ({})", set.history()), "", "checksum", &checksum);
    }
}
