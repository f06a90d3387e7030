//! Who may do what in a copy: as in the original. What a role owned there itself, and was said of it, is the copy's owner's.

use std::collections::HashSet;

use diesel_async::SimpleAsyncConnection as _;

use crate::error::{ApiError, ApiResult};
use crate::fleet::template::OWNER;
use crate::fleet::{admin, sql};
use crate::router::Target;

/// How default privileges begin.
const DEFAULTS: &str = "ALTER DEFAULT PRIVILEGES ";

/// Says in a copy, as the one who owns what is in it, what a script of privileges says of the `original` role's.
pub(in crate::fleet) async fn grant(script: &str, original: &str, own: &Target) -> ApiResult<()> {
    let mut conn = admin::open_own(own).await?;
    let known: HashSet<String> =
        admin::words(&mut conn, "SELECT rolname::text AS word FROM pg_roles").await?.into_iter().collect();
    conn.batch_execute(&format!("SET ROLE {OWNER}")).await.map_err(ApiError::internal)?;
    for statement in statements(script, original, &known) {
        conn.batch_execute(&statement).await.map_err(ApiError::internal)?;
    }
    Ok(())
}

/// The statements of a script of privileges that make sense here. Roles that this server does not have are left out.
fn statements(script: &str, original: &str, known: &HashSet<String>) -> Vec<String> {
    script.lines().filter_map(|line| statement(line, original, known)).collect()
}

fn statement(line: &str, original: &str, known: &HashSet<String>) -> Option<String> {
    const BEGINNINGS: [&str; 3] = ["GRANT ", "REVOKE ", DEFAULTS];
    let line = line.strip_suffix(';')?;
    if !BEGINNINGS.iter().any(|beginning| line.starts_with(beginning)) {
        return None;
    }
    let (line, option) = match line.strip_suffix(" WITH GRANT OPTION") {
        Some(line) => (line, " WITH GRANT OPTION"),
        None => (line, ""),
    };
    let to = line.rfind(" TO ").map(|at| (at, at + 4));
    let from = line.rfind(" FROM ").map(|at| (at, at + 6));
    let (_, at) = to.max(from)?;
    let (rest, named) = line.split_at(at);
    let name = unquoted(named);
    let grantee = if name == original {
        OWNER.to_owned()
    } else if named == "PUBLIC" || known.contains(&name) {
        named.to_owned()
    } else {
        return None;
    };
    let rest = match rest.strip_prefix(DEFAULTS) {
        // Another role's are left out, an administrator's for one: nobody else may say them.
        Some(defaults) => {
            let whose = [original, &sql::ident(original), OWNER].map(|name| format!("FOR ROLE {name} "));
            let defaults = whose.iter().find_map(|whose| defaults.strip_prefix(whose.as_str()))?;
            format!("{DEFAULTS}FOR ROLE {OWNER} {defaults}")
        }
        None => rest.to_owned(),
    };
    Some(format!("{rest}{grantee}{option}"))
}

fn unquoted(name: &str) -> String {
    match name.strip_prefix('"').and_then(|name| name.strip_suffix('"')) {
        Some(inside) => inside.replace("\"\"", "\""),
        None => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_copy_s_owner_takes_the_original_role_s_place() {
        let script = "--\n-- Name: TABLE roles_mark; Type: ACL\n--\n\
            REVOKE ALL ON TABLE public.roles_mark FROM t_1;\n\
            GRANT SELECT,UPDATE ON TABLE public.roles_mark TO t_1;\n\
            REVOKE ALL ON FUNCTION public.f() FROM PUBLIC;\n\
            GRANT SELECT ON TABLE public.users TO reporting WITH GRANT OPTION;\n\
            GRANT SELECT ON TABLE public.users TO gone;\n\
            ALTER DEFAULT PRIVILEGES FOR ROLE t_1 IN SCHEMA public GRANT SELECT ON TABLES TO \"Reporting\";\n\
            GRANT SELECT ON TABLE public.users TO pg_database_owner;\n\
            ALTER DEFAULT PRIVILEGES FOR ROLE pg_database_owner REVOKE ALL ON FUNCTIONS FROM PUBLIC;\n\
            ALTER DEFAULT PRIVILEGES FOR ROLE postgres IN SCHEMA public GRANT SELECT ON TABLES TO t_1;\n\
            ALTER DEFAULT PRIVILEGES FOR ROLE t_10 REVOKE ALL ON FUNCTIONS FROM PUBLIC;\n\
            ALTER DEFAULT PRIVILEGES FOR ROLE \"my admin\" GRANT ALL ON TABLES TO t_1;\n\
            SET SESSION AUTHORIZATION t_1;\n";
        let known = HashSet::from(["reporting", "Reporting", "t_1", OWNER].map(str::to_owned));
        assert_eq!(
            statements(script, "t_1", &known),
            [
                "REVOKE ALL ON TABLE public.roles_mark FROM pg_database_owner",
                "GRANT SELECT,UPDATE ON TABLE public.roles_mark TO pg_database_owner",
                "REVOKE ALL ON FUNCTION public.f() FROM PUBLIC",
                "GRANT SELECT ON TABLE public.users TO reporting WITH GRANT OPTION",
                "ALTER DEFAULT PRIVILEGES FOR ROLE pg_database_owner IN SCHEMA public GRANT SELECT ON TABLES TO \"Reporting\"",
                "GRANT SELECT ON TABLE public.users TO pg_database_owner",
                "ALTER DEFAULT PRIVILEGES FOR ROLE pg_database_owner REVOKE ALL ON FUNCTIONS FROM PUBLIC",
            ]
        );
    }

    #[test]
    fn default_privileges_count_by_whose_they_are() {
        let script = "ALTER DEFAULT PRIVILEGES FOR ROLE \"T-1\" GRANT SELECT ON TABLES TO PUBLIC;\n\
            ALTER DEFAULT PRIVILEGES FOR ROLE \"T-10\" GRANT SELECT ON TABLES TO PUBLIC;\n";
        let said = ["ALTER DEFAULT PRIVILEGES FOR ROLE pg_database_owner GRANT SELECT ON TABLES TO PUBLIC"];
        assert_eq!(statements(script, "T-1", &HashSet::new()), said);
    }
}
