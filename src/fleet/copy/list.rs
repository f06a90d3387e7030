//! What of a dump is loaded: everything but what belongs to the database itself.

/// The lines of `pg_restore --list`, sorted out.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::fleet) struct Lists {
    /// Everything but privileges.
    pub(in crate::fleet) objects: String,
    /// Who may do what.
    pub(in crate::fleet) privileges: String,
}

/// The schema of the stamp is the administrator's, `public` is there, and what an extension says of itself stays its own.
const THERE: [&str; 4] =
    ["SCHEMA - tenantry", "SCHEMA - public", "COMMENT - SCHEMA tenantry", "COMMENT - SCHEMA public"];

impl Lists {
    /// Reads what `pg_restore --list` prints: `<dump id>; <catalog> <oid> <what> <schema> <name> <owner>`.
    pub(in crate::fleet) fn read(table_of_contents: &str) -> Self {
        let mut lists = Self::default();
        for line in table_of_contents.lines().filter(|line| !line.starts_with(';')) {
            let Some(what) = line.splitn(4, ' ').nth(3) else { continue };
            // Without its owner, who stands last and may be nobody: a name may have spaces, and begin as another one.
            let called = what.rsplit_once(' ').map_or(what, |(called, _)| called);
            let list = if what.starts_with("ACL ") || what.starts_with("DEFAULT ACL ") {
                if called == "ACL - SCHEMA tenantry" {
                    continue;
                }
                &mut lists.privileges
            } else if THERE.contains(&called) || called.starts_with("COMMENT - EXTENSION ") {
                continue;
            } else {
                &mut lists.objects
            };
            list.push_str(line);
            list.push('\n');
        }
        lists
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_belongs_to_the_database_stays_out() {
        let printed = "; Archive created at 2026-11-21\n;\n\
            6; 2615 16386 SCHEMA - tenantry postgres\n\
            5; 2615 2200 SCHEMA - public pg_database_owner\n\
            2; 3079 16400 EXTENSION - pg_trgm \n\
            3500; 0 0 COMMENT - EXTENSION pg_trgm \n\
            210; 1259 16390 TABLE public users t_1\n\
            7; 2615 16391 SCHEMA - public old t_1\n\
            3501; 0 0 ACL - SCHEMA tenantry postgres\n\
            3502; 0 0 ACL public TABLE users t_1\n\
            3503; 826 1 DEFAULT ACL public DEFAULT PRIVILEGES FOR TABLES t_1\n";
        let lists = Lists::read(printed);
        let objects = "2; 3079 16400 EXTENSION - pg_trgm \n210; 1259 16390 TABLE public users t_1\n\
            7; 2615 16391 SCHEMA - public old t_1\n";
        assert_eq!(lists.objects, objects);
        assert_eq!(lists.privileges.lines().count(), 2);
    }
}
