//! Client programs of PostgreSQL that stand in the way of those that this machine has.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::dir::Dir;

/// As of 17: what it loads, and what it prints, begins with a setting that servers before 17 do not know.
const PG_RESTORE: &str = r#"#!/bin/sh
echo "$*" >> "${0%/*}/calls"
PATH=${PATH#*:}
case " $* " in
    *' --version '*) echo 'pg_restore (PostgreSQL) 17.6' ;;
    *' --dbname'*)
        psql --no-psqlrc --quiet --set=ON_ERROR_STOP=1 --command='SET transaction_timeout = 0' || exit 1
        exec pg_restore "$@" ;;
    *' --file=- '*)
        pg_restore "$@" | sed 's/^SET idle_in_transaction_session_timeout = 0;$/&\
SET transaction_timeout = 0;/' ;;
    *) exec pg_restore "$@" ;;
esac
"#;

/// A `pg_restore` of 17, whatever this machine has.
pub(crate) struct Newer(Dir);

impl Newer {
    pub(crate) fn new() -> Self {
        let dir = Dir::new();
        put(&dir.path().join("pg_restore"), PG_RESTORE);
        // Where this is, the others are looked for first.
        put(&dir.path().join("initdb"), "#!/bin/sh\nexit 1\n");
        Self(dir)
    }

    /// The variables of a program that finds it first.
    pub(crate) fn environment(&self, mut others: Vec<(String, String)>) -> Vec<(String, String)> {
        others.push(("PATH".into(), format!("{}:/usr/local/bin:/usr/bin:/bin", self.0.path().display())));
        others
    }

    /// Whether it was run at all.
    pub(crate) fn was_run(&self) -> bool {
        self.0.path().join("calls").exists()
    }
}

fn put(path: &Path, script: &str) {
    fs::write(path, script).expect("a file");
    fs::set_permissions(path, fs::Permissions::from_mode(0o700)).expect("a program");
}
