//! The files of `provisioning/`, and the filling-in of their psql variables: `:"x"` an identifier, `:'x'` a text,
//! `:x` a number.

use std::fmt::Write as _;

macro_rules! files {
    ($($(#[$doc:meta])* $name:ident = $file:literal;)+) => {
        $($(#[$doc])* pub(super) const $name: &str = include_str!(concat!("../../provisioning/", $file));)+
        #[cfg(test)]
        const FILES: &[(&str, &str)] = &[$(($file, $name),)+];
    };
}

files! {
    /// Prepares a server.
    CLUSTER = "cluster.sql";
    /// Closes a template for good.
    TEMPLATE_SEAL = "template_seal.sql";
    /// The tenant's role.
    ROLE = "role.sql";
    /// Its database.
    DATABASE = "database.sql";
    /// An empty one, for a copy of what another held.
    DATABASE_EMPTY = "database_empty.sql";
    /// Makes it the tenant's.
    DATABASE_OWNER = "database_owner.sql";
    /// Shuts everyone else out.
    ISOLATE = "isolate.sql";
    /// Lets the database's owner make things in it.
    GRANTS = "grants.sql";
    /// Says whose it is.
    STAMP = "stamp.sql";
    /// Drops the database.
    DATABASE_UNDO = "database_undo.sql";
    /// Drops the role.
    ROLE_UNDO = "role_undo.sql";
    /// Gives a dedicated database back.
    STAMP_UNDO = "stamp_undo.sql";
    /// Empties it.
    MIGRATIONS_UNDO = "migrations_undo.sql";
}

/// A quoted identifier.
pub(super) fn ident(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A quoted text, whatever `standard_conforming_strings` says.
pub(super) fn literal(text: &str) -> String {
    let quoted = format!("'{}'", text.replace('\'', "''"));
    if text.contains('\\') { format!(" E{}", quoted.replace('\\', "\\\\")) } else { quoted }
}

/// Fills the variables of a file. A variable that is not given stays as it is, and the server refuses it.
pub(super) fn fill(file: &str, variables: &[(&str, &str)]) -> String {
    let mut sql = String::with_capacity(file.len() + 256);
    for line in file.lines().filter(|line| !line.starts_with("--")) {
        let mut line = line.to_owned();
        for (name, value) in variables {
            line = line.replace(&format!(":\"{name}\""), &ident(value)).replace(&format!(":'{name}'"), &literal(value));
            if value.bytes().all(|b| b.is_ascii_digit()) {
                line = line.replace(&format!(" :{name} "), &format!(" {value} "));
            }
        }
        let _ = writeln!(sql, "{line}");
    }
    sql
}

/// The statements of a file without bodies, one by one: for what runs outside a transaction.
pub(super) fn statements(sql: &str) -> impl Iterator<Item = &str> {
    sql.split(";\n").map(str::trim).filter(|statement| !statement.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_what_it_fills_in() {
        assert_eq!(
            fill(
                "DROP ROLE :\"r\" -- x\n-- :\"r\"\nLIMIT :n PASSWORD :'p';",
                &[("r", "a\"b"), ("n", "7"), ("p", "it's \\")]
            ),
            "DROP ROLE \"a\"\"b\" -- x\nLIMIT 7 PASSWORD  E'it''s \\\\';\n"
        );
    }

    #[test]
    fn every_file_says_its_variables() {
        for (file, sql) in FILES {
            let names = [
                "control_database",
                "control_role",
                "template",
                "role",
                "verifier",
                "database",
                "tenant_id",
                "installation_id",
            ];
            let mut variables: Vec<_> = names.iter().map(|n| (*n, "x")).collect();
            variables.push(("connection_limit", "5"));
            let filled = fill(sql, &variables);
            let left = filled.split(':').skip(1).any(|rest| rest.starts_with(['\'', '"']));
            assert!(!left && !filled.contains(" :connection_limit "), "{file}: {filled}");
            let heading: String = sql.lines().take_while(|line| line.starts_with("--")).collect();
            let said = heading.split("Variables:").nth(1).unwrap_or_default();
            for (name, _) in &variables {
                let used = [format!(":'{name}'"), format!(":\"{name}\""), format!(" :{name} ")];
                let used = used.iter().any(|variable| sql.contains(variable));
                assert!(!used || said.contains(name), "{file} does not say that it takes {name}");
            }
        }
    }

    #[test]
    fn statements_one_by_one() {
        let sql = fill(ISOLATE, &[("database", "d")]);
        let each: Vec<_> = statements(&sql).collect();
        let alter = "ALTER DATABASE \"d\" WITH IS_TEMPLATE false ALLOW_CONNECTIONS true";
        let grant = "GRANT CREATE, TEMPORARY ON DATABASE \"d\" TO pg_database_owner";
        assert_eq!(each, ["REVOKE ALL ON DATABASE \"d\" FROM PUBLIC, pg_database_owner", grant, alter]);
    }
}
