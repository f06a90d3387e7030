//! Extensions that an administrator has installed: the tenant's role may not be able to, and may at most read what they keep.
//! All of it is done as the copy's administrator, before anything of the tenant's is there that could run. What is installed is
//! what an administrator had installed, by the catalogue as an administrator reads it: never what a dump asks for, which is
//! made as the tenant's role.

use diesel_async::SimpleAsyncConnection as _;
use serde::{Deserialize, Serialize};

use super::Lists;
use crate::error::{ApiError, ApiResult};
use crate::fleet::template::OWNER;
use crate::fleet::{admin, sql};
use crate::router::AdminConn;

/// What is installed in a tenant's database that is not the tenant's. In statements, `:"role"` is whoever owns what a tenant
/// has.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::fleet) struct Extensions {
    /// The schemas that are made for them.
    schemas: Vec<String>,
    /// What makes the schemas, and installs.
    install: Vec<String>,
    /// How the list of a dump calls what is in the tables and sequences that they have for settings: what was added to them.
    contents: Vec<String>,
    /// How it calls who may do what with those.
    privileges: Vec<String>,
    /// The statements that say so for the tenant's role and for everybody, anew.
    grants: Vec<String>,
}

impl Extensions {
    /// Reads what is installed that is not `role`'s, over an administrator's connection.
    pub(in crate::fleet) async fn read(source: &mut AdminConn, role: &str) -> ApiResult<Self> {
        let not_its_own = not_its_own(role);
        let installed =
            format!("FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE {not_its_own}");
        let apart = "n.nspname NOT IN ('public', 'pg_catalog')";
        let schemas = format!("SELECT DISTINCT n.nspname::text AS word {installed} AND {apart}");
        // Who may make things in an extension's schema is as in the original.
        let make = format!(
            "SELECT DISTINCT format('CREATE SCHEMA IF NOT EXISTS %I', n.nspname) || CASE WHEN n.nspowner = e.extowner THEN '' \
             ELSE ' AUTHORIZATION :\"role\"' END AS word {installed} AND {apart}"
        );
        let install = format!(
            "SELECT word FROM (SELECT e.oid, format('CREATE EXTENSION IF NOT EXISTS %I WITH SCHEMA %I', e.extname, n.nspname) \
             AS word {installed}) AS each ORDER BY oid"
        );
        let may_create = format!(
            "SELECT DISTINCT format('GRANT CREATE ON SCHEMA %I TO :\"role\"', n.nspname) AS word {installed} AND {apart} \
             AND n.nspowner = e.extowner AND has_schema_privilege({}, n.oid, 'CREATE')",
            sql::literal(role)
        );
        let schemas = admin::words(source, &schemas).await?;
        let mut all = admin::words(source, &make).await?;
        all.extend(admin::words(source, &install).await?);
        all.extend(schemas.iter().map(|schema| format!("GRANT USAGE ON SCHEMA {} TO :\"role\"", sql::ident(schema))));
        all.extend(admin::words(source, &may_create).await?);
        let kept = kept(&not_its_own);
        Ok(Self {
            schemas,
            install: all,
            contents: admin::words(source, &format!("{kept} {CONTENTS}")).await?,
            privileges: admin::words(source, &format!("{kept} {PRIVILEGES}")).await?,
            grants: admin::words(source, &format!("{kept} {}", grants(role))).await?,
        })
    }

    /// Installs them, as the administrator of a copy in which nothing of the tenant's is yet.
    pub(in crate::fleet) async fn install(&self, copy: &mut AdminConn) -> ApiResult<()> {
        let otherwise = "An extension could not be installed in the copy as it is in the original; the log says why.";
        execute(copy, &self.install, otherwise).await
    }

    /// Takes from the lists of a dump what is done here, and gives the lines of what is in the tables for settings: the
    /// administrator's to load, at once.
    pub(in crate::fleet) fn take(&self, lists: &mut Lists) -> String {
        let rows = take(&mut lists.objects, &self.contents);
        take(&mut lists.privileges, &self.privileges);
        let is_there = |line: &&str| {
            let called = name_in(line).and_then(|what| what.rsplit_once(' ')).map(|(called, _)| called);
            let schema = |called: &str| {
                ["SCHEMA - ", "COMMENT - SCHEMA "]
                    .iter()
                    .find_map(|kind| called.strip_prefix(kind).map(|name| self.has_schema(name)))
            };
            called.and_then(schema).unwrap_or_default()
        };
        lists.objects = lists.objects.lines().filter(|line| !is_there(line)).flat_map(|line| [line, "\n"]).collect();
        rows
    }

    /// As a list has the name.
    fn has_schema(&self, name: &str) -> bool {
        self.schemas.iter().any(|schema| schema.replace(['\n', '\r'], " ") == name)
    }

    /// Lets the tenant, and everybody, do with the tables for settings what they may in the original.
    pub(in crate::fleet) async fn grant(&self, copy: &mut AdminConn) -> ApiResult<()> {
        let otherwise =
            "An extension's table in the original is not one of those that it has in the copy; the log says which.";
        execute(copy, &self.grants, otherwise).await
    }
}

/// A condition on `e`, an extension.
fn not_its_own(role: &str) -> String {
    format!("e.oid >= {} AND pg_get_userbyid(e.extowner) NOT IN ({}, '{OWNER}')", admin::FIRST_MADE, sql::literal(role))
}

/// The tables and sequences for settings, as `kept`: their names as they are and as a list of `pg_restore` has them.
fn kept(not_its_own: &str) -> String {
    let listed = |name: &str| format!("translate({name}, chr(10) || chr(13), '  ')");
    format!(
        "WITH kept AS (SELECT c.oid, c.relacl AS acl, CASE c.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END AS kind, \
         n.nspname, c.relname, {} AS schema, {} AS name, {} AS quoted, {} AS owner \
         FROM pg_extension e JOIN pg_class c ON c.oid = ANY (e.extconfig) JOIN pg_namespace n ON n.oid = c.relnamespace \
         WHERE {not_its_own})",
        listed("n.nspname"),
        listed("c.relname"),
        listed("quote_ident(c.relname)"),
        listed("pg_get_userbyid(c.relowner)")
    )
}

/// How a list calls their contents. With the owner at its end a line of the tenant's own is none of these, whatever it calls
/// its schemas and tables.
const CONTENTS: &str = "SELECT concat_ws(' ', CASE kind WHEN 'TABLE' THEN 'TABLE DATA' ELSE 'SEQUENCE SET' END, \
    schema, name, owner) AS word FROM kept";
/// How it calls who may do what with them, and with their columns.
const PRIVILEGES: &str = "SELECT concat_ws(' ', 'ACL', schema, kind, quoted, owner) AS word FROM kept \
    UNION ALL SELECT concat_ws(' ', 'ACL', schema, 'COLUMN', \
        quoted || '.' || translate(quote_ident(a.attname), chr(10) || chr(13), '  '), owner) \
    FROM kept JOIN pg_attribute a ON a.attrelid = kept.oid WHERE a.attacl IS NOT NULL";

/// The statements that say so for the tenant's role and for everybody, anew.
fn grants(role: &str) -> String {
    format!(
        "SELECT word FROM (SELECT 0 AS turn, format('REVOKE ALL ON %s %I.%I FROM PUBLIC', kind, nspname, relname) AS word \
           FROM kept WHERE acl IS NOT NULL \
         UNION ALL SELECT 1, format('GRANT %s%s ON %s %I.%I TO %s%s', a.privilege_type, columns, kind, nspname, relname, \
             CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE ':\"role\"' END, \
             CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END) \
           FROM (SELECT acl, '' AS columns, kind, nspname, relname FROM kept \
                 UNION ALL SELECT t.attacl, format(' (%I)', t.attname), kind, nspname, relname \
                 FROM kept JOIN pg_attribute t ON t.attrelid = kept.oid AND NOT t.attisdropped) AS said \
           CROSS JOIN LATERAL aclexplode(said.acl) AS a LEFT JOIN pg_roles r ON r.oid = a.grantee \
           WHERE a.grantee = 0 OR r.rolname IN ({}, '{OWNER}')) AS each ORDER BY turn, word",
        sql::literal(role)
    )
}

/// Takes the lines that are called so out of a list.
fn take(list: &mut String, called: &[String]) -> String {
    let (mut taken, mut left) = (String::new(), String::new());
    for line in list.lines() {
        let is_called_so = name_in(line).is_some_and(|what| called.iter().any(|name| name == what));
        let to = if is_called_so { &mut taken } else { &mut left };
        to.push_str(line);
        to.push('\n');
    }
    *list = left;
    taken
}

/// What a line of a list is, after the numbers that it begins with.
fn name_in(line: &str) -> Option<&str> {
    line.splitn(4, ' ').nth(3)
}

/// Statements in a copy, and what is to be said if one fails.
async fn execute(copy: &mut AdminConn, statements: &[String], otherwise: &'static str) -> ApiResult<()> {
    for statement in statements {
        let statement = statement.replace(":\"role\"", OWNER);
        copy.batch_execute(&statement).await.map_err(|error| ApiError::internal(error).detail(otherwise))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_taken_by_the_whole_of_what_it_is_called() {
        let mut list = "9; 0 16398 TABLE DATA tools refs postgres\n\
            8; 0 16399 TABLE DATA tools refs postgres t_1\n\
            7; 0 0 SEQUENCE SET tools refs_seq postgres\n"
            .to_owned();
        let taken = take(&mut list, &["TABLE DATA tools refs postgres".to_owned()]);
        assert_eq!(taken, "9; 0 16398 TABLE DATA tools refs postgres\n");
        let left = "8; 0 16399 TABLE DATA tools refs postgres t_1\n7; 0 0 SEQUENCE SET tools refs_seq postgres\n";
        assert_eq!(list, left);
    }

    #[test]
    fn schemas_that_are_there_are_left_out_by_their_whole_name() {
        let there = Extensions { schemas: vec!["tools".to_owned()], ..Extensions::default() };
        let objects = "1; 2615 16390 SCHEMA - tools postgres\n2; 2615 16391 SCHEMA - tools old t_1\n\
            3; 1259 16392 TABLE tools SCHEMA - tools  t_1\n4; 0 0 COMMENT - SCHEMA tools old t_1\n";
        let comment = "5; 0 0 COMMENT - SCHEMA tools postgres\n";
        let mut lists = Lists { objects: format!("{objects}{comment}"), ..Lists::default() };
        assert_eq!(there.take(&mut lists), "");
        assert_eq!(lists.objects, objects.split_once('\n').unwrap().1);
    }
}
