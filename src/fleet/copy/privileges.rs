//! Who may do what in a copy: as in the original, with the copy's own role in the place of the original's.

use std::collections::HashSet;

use diesel_async::SimpleAsyncConnection as _;

use crate::error::{ApiError, ApiResult};
use crate::fleet::{admin, sql};
use crate::router::Target;

/// How default privileges begin.
const DEFAULTS: &str = "ALTER DEFAULT PRIVILEGES ";

/// Says in a copy, as the role that owns it, what a script of privileges says of the `original` role's.
pub(in crate::fleet) async fn grant(script: &str, original: &str, own: &Target) -> ApiResult<()> {
    let mut conn = admin::open_own(own).await?;
    let known: HashSet<String> =
        admin::words(&mut conn, "SELECT rolname::text AS word FROM pg_roles").await?.into_iter().collect();
    for statement in statements(script, original, &own.user, &known) {
        conn.batch_execute(&statement).await.map_err(ApiError::internal)?;
    }
    Ok(())
}

/// The statements of a script of privileges that make sense here. Roles that this server does not have are left out.
fn statements(script: &str, original: &str, role: &str, known: &HashSet<String>) -> Vec<String> {
    script.lines().filter_map(|line| statement(line, original, role, known)).collect()
}

fn statement(line: &str, original: &str, role: &str, known: &HashSet<String>) -> Option<String> {
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
        sql::ident(role)
    } else if named == "PUBLIC" || known.contains(&name) {
        named.to_owned()
    } else {
        return None;
    };
    let rest = match rest.strip_prefix(DEFAULTS) {
        // Another role's are left out, an administrator's for one: nobody else may say them.
        Some(defaults) => {
            let whose = [original.to_owned(), sql::ident(original)].map(|name| format!("FOR ROLE {name} "));
            let defaults = whose.iter().find_map(|whose| defaults.strip_prefix(whose.as_str()))?;
            format!("{DEFAULTS}FOR ROLE {} {defaults}", sql::ident(role))
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
    fn the_copy_s_role_takes_the_original_s_place() {
        let script = "--\n-- Name: TABLE roles_mark; Type: ACL\n--\n\
            REVOKE ALL ON TABLE public.roles_mark FROM t_1;\n\
            GRANT SELECT,UPDATE ON TABLE public.roles_mark TO t_1;\n\
            REVOKE ALL ON FUNCTION public.f() FROM PUBLIC;\n\
            GRANT SELECT ON TABLE public.users TO reporting WITH GRANT OPTION;\n\
            GRANT SELECT ON TABLE public.users TO gone;\n\
            ALTER DEFAULT PRIVILEGES FOR ROLE t_1 IN SCHEMA public GRANT SELECT ON TABLES TO \"Reporting\";\n\
            ALTER DEFAULT PRIVILEGES FOR ROLE postgres IN SCHEMA public GRANT SELECT ON TABLES TO t_1;\n\
            ALTER DEFAULT PRIVILEGES FOR ROLE t_10 REVOKE ALL ON FUNCTIONS FROM PUBLIC;\n\
            ALTER DEFAULT PRIVILEGES FOR ROLE \"my admin\" GRANT ALL ON TABLES TO t_1;\n\
            SET SESSION AUTHORIZATION t_1;\n";
        let known = HashSet::from(["reporting".to_owned(), "Reporting".to_owned(), "t_1".to_owned()]);
        assert_eq!(
            statements(script, "t_1", "t_2", &known),
            [
                "REVOKE ALL ON TABLE public.roles_mark FROM \"t_2\"",
                "GRANT SELECT,UPDATE ON TABLE public.roles_mark TO \"t_2\"",
                "REVOKE ALL ON FUNCTION public.f() FROM PUBLIC",
                "GRANT SELECT ON TABLE public.users TO reporting WITH GRANT OPTION",
                "ALTER DEFAULT PRIVILEGES FOR ROLE \"t_2\" IN SCHEMA public GRANT SELECT ON TABLES TO \"Reporting\"",
            ]
        );
    }

    #[test]
    fn default_privileges_count_by_whose_they_are() {
        let script = "ALTER DEFAULT PRIVILEGES FOR ROLE \"T-1\" GRANT SELECT ON TABLES TO PUBLIC;\n\
            ALTER DEFAULT PRIVILEGES FOR ROLE \"T-10\" GRANT SELECT ON TABLES TO PUBLIC;\n";
        let said = ["ALTER DEFAULT PRIVILEGES FOR ROLE \"t_2\" GRANT SELECT ON TABLES TO PUBLIC"];
        assert_eq!(statements(script, "T-1", "t_2", &HashSet::new()), said);
    }
}
