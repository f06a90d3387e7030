//! Extensions that an administrator has installed: the tenant's role may not be able to, and may at most read what they keep.
//! All of it is done as the target's administrator, before anything of the tenant's is there that could run.

use diesel_async::SimpleAsyncConnection as _;

use super::copy;
use super::run::Run;
use crate::error::{ApiError, ApiResult};
use crate::fleet::copy::Lists;
use crate::fleet::{admin, programs, sql};

/// Installs what is installed at the source. Gives the schemas that were made for it.
pub(super) async fn install(run: &Run<'_>) -> ApiResult<Vec<String>> {
    let installed =
        format!("FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE {}", not_its_own(run));
    let role = sql::ident(&run.tenant.role_name);
    let apart = "n.nspname NOT IN ('public', 'pg_catalog')";
    let schemas = format!("SELECT DISTINCT n.nspname::text AS word {installed} AND {apart}");
    // Who may make things in an extension's schema is as at the source: its owner alone.
    let make = format!(
        "SELECT DISTINCT format('CREATE SCHEMA IF NOT EXISTS %I', n.nspname) || CASE WHEN n.nspowner = e.extowner THEN '' \
         ELSE {} END AS word {installed} AND {apart}",
        sql::literal(&format!(" AUTHORIZATION {role}"))
    );
    let install = format!(
        "SELECT word FROM (SELECT e.oid, format('CREATE EXTENSION IF NOT EXISTS %I WITH SCHEMA %I', e.extname, n.nspname) \
         AS word {installed}) AS each ORDER BY oid"
    );
    let mut source = admin::open(&run.at_source()).await?;
    let schemas = admin::words(&mut source, &schemas).await?;
    let mut all = admin::words(&mut source, &make).await?;
    all.extend(admin::words(&mut source, &install).await?);
    all.extend(schemas.iter().map(|schema| format!("GRANT USAGE ON SCHEMA {} TO {role}", sql::ident(schema))));
    execute(run, &all, "An extension could not be installed at the target as it is at the source; the log says why.")
        .await?;
    Ok(schemas)
}

/// Takes from the lists what is in the tables and sequences that these extensions have for settings (a dump holds what was
/// added to them), and loads it: they are not the tenant's. Its role, and everybody, may do with them what they may at the source.
pub(super) async fn settings(run: &Run<'_>, files: &programs::PrivateFiles, lists: &mut Lists) -> ApiResult<()> {
    let kept = kept(run);
    let mut source = admin::open(&run.at_source()).await?;
    let contents = admin::words(&mut source, &format!("{kept} {CONTENTS}")).await?;
    let privileges = admin::words(&mut source, &format!("{kept} {PRIVILEGES}")).await?;
    let grants = admin::words(&mut source, &format!("{kept} {}", grants(&run.tenant.role_name))).await?;
    drop(source);
    let rows = take(&mut lists.objects, &contents);
    take(&mut lists.privileges, &privileges);
    if !rows.is_empty() {
        let rows = files.write("settings", &rows).map_err(ApiError::internal)?;
        let target = run.at_target()?;
        let (mut restore, _private) = copy::client("pg_restore", &target)?;
        restore.args(["--exit-on-error", "--data-only", "--no-owner", "--no-acl", "--dbname", &target.database]);
        restore.arg("--use-list").arg(rows).arg(files.path("archive"));
        copy::finish("pg_restore", restore).await?;
    }
    let differs =
        "An extension's table at the source is not one of those that it has at the target; the log says which.";
    execute(run, &grants, differs).await
}

/// A condition on `e`, an extension.
fn not_its_own(run: &Run<'_>) -> String {
    format!(
        "e.oid >= {} AND e.extowner <> (SELECT oid FROM pg_roles WHERE rolname = {})",
        admin::FIRST_MADE,
        sql::literal(&run.tenant.role_name)
    )
}

/// The tables and sequences for settings, as `kept`: their names as they are and as a list of `pg_restore` has them.
fn kept(run: &Run<'_>) -> String {
    let listed = |name: &str| format!("translate({name}, chr(10) || chr(13), '  ')");
    format!(
        "WITH kept AS (SELECT c.oid, c.relacl AS acl, CASE c.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END AS kind, \
         n.nspname, c.relname, {} AS schema, {} AS name, {} AS quoted, {} AS owner \
         FROM pg_extension e JOIN pg_class c ON c.oid = ANY (e.extconfig) JOIN pg_namespace n ON n.oid = c.relnamespace \
         WHERE {})",
        listed("n.nspname"),
        listed("c.relname"),
        listed("quote_ident(c.relname)"),
        listed("pg_get_userbyid(c.relowner)"),
        not_its_own(run)
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
             CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(r.rolname) END, \
             CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END) \
           FROM (SELECT acl, '' AS columns, kind, nspname, relname FROM kept \
                 UNION ALL SELECT t.attacl, format(' (%I)', t.attname), kind, nspname, relname \
                 FROM kept JOIN pg_attribute t ON t.attrelid = kept.oid AND NOT t.attisdropped) AS said \
           CROSS JOIN LATERAL aclexplode(said.acl) AS a LEFT JOIN pg_roles r ON r.oid = a.grantee \
           WHERE a.grantee = 0 OR r.rolname = {}) AS each ORDER BY turn, word",
        sql::literal(role)
    )
}

/// Takes the lines that are called so out of a list.
fn take(list: &mut String, called: &[String]) -> String {
    let (mut taken, mut left) = (String::new(), String::new());
    for line in list.lines() {
        let is_called_so = line.splitn(4, ' ').nth(3).is_some_and(|what| called.iter().any(|name| name == what));
        let to = if is_called_so { &mut taken } else { &mut left };
        to.push_str(line);
        to.push('\n');
    }
    *list = left;
    taken
}

/// Statements at the target, and what is to be said if one fails.
async fn execute(run: &Run<'_>, statements: &[String], otherwise: &'static str) -> ApiResult<()> {
    if statements.is_empty() {
        return Ok(());
    }
    let mut inside = admin::open(&run.at_target()?).await?;
    for statement in statements {
        inside.batch_execute(statement).await.map_err(|error| ApiError::internal(error).detail(otherwise))?;
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
}
