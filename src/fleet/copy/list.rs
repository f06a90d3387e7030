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
const THERE: [&str; 5] = [
    "SCHEMA - tenantry ",
    "SCHEMA - public ",
    "COMMENT - SCHEMA tenantry ",
    "COMMENT - SCHEMA public ",
    "COMMENT - EXTENSION ",
];

impl Lists {
    /// Reads what `pg_restore --list` prints: `<dump id>; <catalog> <oid> <what> <schema> <name> <owner>`.
    pub(in crate::fleet) fn read(table_of_contents: &str) -> Self {
        let mut lists = Self::default();
        for line in table_of_contents.lines().filter(|line| !line.starts_with(';')) {
            let Some(what) = line.splitn(4, ' ').nth(3) else { continue };
            let list = if what.starts_with("ACL ") || what.starts_with("DEFAULT ACL ") {
                if what.starts_with("ACL - SCHEMA tenantry ") {
                    continue;
                }
                &mut lists.privileges
            } else if THERE.iter().any(|there| what.starts_with(there)) {
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
            3501; 0 0 ACL - SCHEMA tenantry postgres\n\
            3502; 0 0 ACL public TABLE users t_1\n\
            3503; 826 1 DEFAULT ACL public DEFAULT PRIVILEGES FOR TABLES t_1\n";
        let lists = Lists::read(printed);
        assert_eq!(lists.objects, "2; 3079 16400 EXTENSION - pg_trgm \n210; 1259 16390 TABLE public users t_1\n");
        assert_eq!(lists.privileges.lines().count(), 2);
    }
}
