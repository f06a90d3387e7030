//! What a tenant's role has made in its own database runs as that role alone, whoever moves it.

use secrecy::ExposeSecret as _;
use tenantry::control::tenants;
use tenantry::error::ApiError;
use tenantry::fleet::relocate::Step;
use tenantry::router::{AdminConn, ConnectFailure, ConnectOptions, MainConn, Target};
use tenantry::testing::Tenant;

use super::{CONTACTS, Ground, is_moved};
use crate::support::db;

/// Something that a role can make in its own database.
struct Planted {
    what: &'static str,
    /// Made once; it moves along. `{role}` is the tenant's.
    objects: &'static str,
    /// Set for the database, and not moved along.
    settings: &'static str,
    /// By a server that applies replicated rows as a superuser it is not replicated, for this reason.
    obstacle: Option<&'static str>,
}

const PLANTED: [Planted; 8] = [
    Planted {
        what: "a cast of a table's rows",
        objects: "CREATE FUNCTION public.said(public.contacts) RETURNS text LANGUAGE plpgsql AS \
                  $f$ BEGIN PERFORM public.seen(); RETURN 'the same for all'; END $f$; \
                  CREATE CAST (public.contacts AS text) WITH FUNCTION public.said(public.contacts)",
        settings: "",
        obstacle: None,
    },
    Planted {
        what: "functions in the place of the server's own",
        objects: "CREATE FUNCTION public.current_setting(text) RETURNS text LANGUAGE plpgsql AS \
                  $f$ BEGIN PERFORM public.seen(); RETURN pg_catalog.current_setting($1); END $f$; \
                  CREATE FUNCTION public.md5(text) RETURNS text LANGUAGE plpgsql AS \
                  $f$ BEGIN PERFORM public.seen(); RETURN pg_catalog.md5($1); END $f$; \
                  CREATE FUNCTION public.pg_database_size(name) RETURNS bigint LANGUAGE plpgsql AS \
                  $f$ BEGIN PERFORM public.seen(); RETURN pg_catalog.pg_database_size($1); END $f$",
        settings: "ALTER DATABASE \"{role}\" SET search_path = public, pg_catalog; \
                   ALTER DATABASE \"{role}\" SET default_transaction_read_only = on",
        obstacle: None,
    },
    Planted {
        what: "a check",
        objects: "ALTER TABLE public.contacts ADD CHECK (public.seen())",
        settings: "",
        obstacle: Some("a check, a computed column or an index"),
    },
    Planted {
        what: "a check in words",
        objects: "ALTER TABLE public.contacts ADD CHECK \
                  (pg_catalog.query_to_xml('SELECT public.seen()', true, true, '') IS NOT NULL)",
        settings: "",
        obstacle: Some("a check, a computed column or an index"),
    },
    Planted {
        what: "the check of a domain",
        objects: "CREATE DOMAIN public.word AS text CHECK (public.seen()); \
                  CREATE TABLE public.words (id int PRIMARY KEY, word public.word); INSERT INTO words VALUES (1, 'x')",
        settings: "",
        obstacle: Some("a check, a computed column or an index"),
    },
    Planted {
        what: "a computed column and an index",
        objects: "CREATE FUNCTION public.computed(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS \
                  $f$ BEGIN PERFORM public.seen(); RETURN $1; END $f$; \
                  CREATE TABLE public.numbers (id int PRIMARY KEY, two int GENERATED ALWAYS AS (public.computed(id)) STORED); \
                  CREATE INDEX ON public.numbers (public.computed(id)); INSERT INTO public.numbers VALUES (1), (2)",
        settings: "",
        obstacle: Some("a check, a computed column or an index"),
    },
    Planted {
        what: "what a range type measures with",
        // An index runs it with a page in its hands: it may not catch an exception, as `seen` does.
        objects: "CREATE FUNCTION public.apart(float8, float8) RETURNS float8 IMMUTABLE LANGUAGE plpgsql AS \
                  $f$ BEGIN IF current_user NOT IN ('{role}', 'pg_database_owner') THEN RAISE EXCEPTION 'run as %', current_user; \
                  END IF; RETURN $1 - $2; END $f$; \
                  CREATE TYPE public.stretch AS RANGE (subtype = float8, subtype_diff = public.apart); \
                  CREATE TABLE public.stretches (id int PRIMARY KEY, stretch public.stretch); \
                  CREATE INDEX ON public.stretches USING gist (stretch); \
                  INSERT INTO public.stretches SELECT n, public.stretch(n::float8, n + 1.0::float8) FROM generate_series(1, 500) n",
        settings: "",
        obstacle: Some("a range type has a function of its own"),
    },
    Planted {
        what: "triggers that run always",
        objects: "CREATE FUNCTION public.noticed() RETURNS trigger LANGUAGE plpgsql AS \
                  $f$ BEGIN PERFORM public.seen(); RETURN NEW; END $f$; \
                  CREATE TRIGGER emptied BEFORE TRUNCATE ON public.contacts EXECUTE FUNCTION public.noticed(); \
                  ALTER TABLE public.contacts ENABLE ALWAYS TRIGGER emptied; \
                  CREATE TRIGGER written BEFORE INSERT ON public.contacts FOR EACH ROW EXECUTE FUNCTION public.noticed(); \
                  ALTER TABLE public.contacts ENABLE REPLICA TRIGGER written",
        settings: "",
        obstacle: Some("a trigger is enabled for replication"),
    },
];

/// Fails for whoever is neither the tenant's role nor that of whoever owns the database, which would be the end of the move;
/// and takes what it can get.
const SEEN: &str = "CREATE FUNCTION public.seen() RETURNS boolean LANGUAGE plpgsql AS $f$ BEGIN \
    IF current_user NOT IN ('{role}', 'pg_database_owner') THEN RAISE EXCEPTION 'run as %', current_user; END IF; \
    BEGIN EXECUTE 'RESET ROLE'; EXECUTE 'ALTER ROLE \"{role}\" SUPERUSER'; EXCEPTION WHEN OTHERS THEN NULL; END; \
    RETURN true; END $f$";

/// The tenant's role in its database, as the registry knows it, at a server where it may be.
async fn own(ground: &Ground, tenant: &Tenant, place: &str) -> Target {
    let (control, id, server) = (ground.app.control(), tenant.id, ground.server(place));
    let keys = control.keys.clone();
    let registered = control.db.read(async move |conn: &mut MainConn| -> Result<_, ApiError> {
        Ok(tenants::target(conn, &keys, id).await?.1)
    });
    let registered = registered.await.expect("a tenant");
    Target { host: server.host.clone(), port: server.port, tls: server.tls.clone(), ..registered }
}

impl Planted {
    /// Over a connection of the role's own: one that took the role over from a superuser could give it back.
    async fn plant(&self, ground: &Ground, tenant: &Tenant) {
        let own = own(ground, tenant, "east").await;
        for text in [SEEN, self.objects] {
            db::execute(&own, &text.replace("{role}", tenant.role())).await;
        }
        self.set(ground, "east", tenant).await;
    }

    async fn set(&self, ground: &Ground, place: &str, tenant: &Tenant) {
        let at = ground.server(place);
        for statement in self.settings.split("; ").filter(|statement| !statement.is_empty()) {
            db::execute(&at, &statement.replace("{role}", tenant.role())).await;
        }
    }
}

async fn is_no_superuser(ground: &Ground, tenant: &Tenant, what: &str) {
    let query = format!("SELECT rolsuper::text AS word FROM pg_roles WHERE rolname = '{}'", tenant.role());
    for (place, server) in &ground.servers {
        let supers = db::words(&server.target(), &query).await;
        assert!(supers.iter().all(|is_super| is_super == "false"), "{what}: {place}");
    }
}

#[actix_web::test]
async fn nothing_that_a_tenant_has_planted_runs_as_an_administrator() {
    let ground = Ground::new().await;
    let version = "SELECT current_setting('server_version_num') AS word";
    let as_owner = db::word(&ground.server("east"), version).await.parse::<u32>().expect("a number") >= 160_000;
    for planted in &PLANTED {
        let (what, tenant) = (planted.what, ground.app.tenant_on("east", "planted").await);
        tenant.admin().contact("Ada").await;
        planted.plant(&ground, &tenant).await;
        let dumped = ground.moving(&tenant, &["--to", "west", "--method", "dump"]).await;
        assert_eq!(dumped.code, Some(0), "{what}: {dumped:#?}");
        is_moved(&dumped.json(), "west");
        is_no_superuser(&ground, &tenant, what).await;
        assert_eq!(ground.there(&tenant).await.0, ["west"], "{what}");
        ground.moving(&tenant, &["--confirm"]).await.expect(0);
        planted.set(&ground, "west", &tenant).await;
        let replicated = ground.moving(&tenant, &["--to", "east", "--method", "replicate"]).await;
        match planted.obstacle.filter(|_| !as_owner) {
            None => {
                assert_eq!(replicated.code, Some(0), "{what}: {replicated:#?}");
                is_moved(&replicated.json(), "east");
            }
            Some(obstacle) => {
                assert!(replicated.code == Some(4) && replicated.all().contains(obstacle), "{what}: {replicated:#?}");
            }
        }
        is_no_superuser(&ground, &tenant, what).await;
        assert!(ground.leftovers(&tenant).await.is_empty(), "{what}");
    }
}

/// A column of the name that the rows are read under does not hide the others.
#[actix_web::test]
async fn a_column_does_not_stand_for_its_row() {
    let ground = Ground::new().await;
    let tenant = ground.app.tenant_on("east", "shadows").await;
    let at = ground.server("east").with_database(tenant.role());
    let table = "SET ROLE \"{role}\"; CREATE TABLE odd (t text, weighed int, tenantry_row int, other text); \
                 INSERT INTO odd VALUES ('t', 1, 1, 'other')";
    db::execute(&at, &table.replace("{role}", tenant.role())).await;
    let moved = ground.moving(&tenant, &["--to", "west", "--method", "dump"]).await.expect(0).json();
    let sums = moved["checksums"].as_array().expect("checksums");
    let odd = sums.iter().find(|sum| sum["table"] == "public.odd").expect("it is told of");
    let whole = "SELECT ('x' || substr(md5('(t,1,1,other)'), 1, 16))::bit(64)::bigint::text AS word";
    assert_eq!(odd["checksum"], db::word(&at, whole).await);
}

/// A table without a key is loaded under the hold, by its owner: no trigger notices, and each is as it was afterwards.
#[actix_web::test]
async fn rows_that_are_loaded_under_the_hold_are_not_noticed() {
    let ground = Ground::new().await;
    let tenant = ground.app.tenant_on("east", "unnoticed").await;
    let at = |place: &str| ground.server(place).with_database(tenant.role());
    let table = "SET ROLE \"{role}\"; CREATE TABLE notes (note text); INSERT INTO notes VALUES ('one'), ('two'); \
                 CREATE FUNCTION public.noticed() RETURNS trigger LANGUAGE plpgsql AS \
                 $f$ BEGIN INSERT INTO public.notes VALUES ('noticed'); RETURN NULL; END $f$; \
                 CREATE TRIGGER a_run BEFORE INSERT ON notes FOR EACH ROW EXECUTE FUNCTION public.noticed(); \
                 CREATE TRIGGER b_off BEFORE INSERT ON notes FOR EACH ROW EXECUTE FUNCTION public.noticed(); \
                 ALTER TABLE notes DISABLE TRIGGER b_off";
    db::execute(&at("east"), &table.replace("{role}", tenant.role())).await;
    ground.moving(&tenant, &["--to", "west", "--method", "replicate"]).await.expect(0);
    assert_eq!(db::words(&at("west"), "SELECT note AS word FROM notes ORDER BY 1").await, ["one", "two"]);
    let triggers = "SELECT tgname || ' ' || tgenabled::text AS word FROM pg_trigger \
                    WHERE tgrelid = 'public.notes'::regclass ORDER BY 1";
    assert_eq!(db::words(&at("west"), triggers).await, ["a_run O", "b_off D"]);
}

/// PostgreSQL empties no table alone that another's foreign key leads to.
#[actix_web::test]
async fn tables_without_a_key_are_replicated_only_where_no_other_leads_to_them() {
    let ground = Ground::new().await;
    let tenant = ground.app.tenant_on("east", "tied").await;
    let at = |place: &str| ground.server(place).with_database(tenant.role());
    let tables = "SET ROLE \"{role}\"; CREATE TABLE things (id int PRIMARY KEY); \
                  CREATE TABLE events (thing int REFERENCES things); \
                  INSERT INTO things VALUES (1); INSERT INTO events VALUES (1), (1)";
    db::execute(&at("east"), &tables.replace("{role}", tenant.role())).await;
    ground.moving(&tenant, &["--to", "west", "--method", "replicate"]).await.expect(0);
    assert_eq!(db::word(&at("west"), "SELECT count(*)::text AS word FROM events").await, "2");
    ground.moving(&tenant, &["--confirm"]).await.expect(0);
    let led_to = "SET ROLE \"{role}\"; CREATE TABLE sets (code text UNIQUE); INSERT INTO sets VALUES ('a'); \
                  CREATE TABLE members (id int PRIMARY KEY, code text REFERENCES sets (code)); \
                  INSERT INTO members VALUES (1, 'a')";
    db::execute(&at("west"), &led_to.replace("{role}", tenant.role())).await;
    let refused = async |why: &str| {
        let refused = ground.moving(&tenant, &["--to", "east", "--method", "replicate"]).await;
        assert!(refused.code == Some(4) && refused.all().contains(why), "{refused:#?}");
    };
    refused("a table without a primary key has foreign keys").await;
    let withheld = "REVOKE INSERT ON things FROM pg_database_owner; DROP TABLE members";
    db::execute(&at("west"), withheld).await;
    refused("the owner of a table may not write to it").await;
    let parts = "GRANT INSERT ON things TO pg_database_owner; SET ROLE \"{role}\"; \
                 CREATE TABLE parts (id int PRIMARY KEY, thing int REFERENCES things) PARTITION BY RANGE (id); \
                 CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (10); INSERT INTO parts VALUES (1, 1)";
    db::execute(&at("west"), &parts.replace("{role}", tenant.role())).await;
    refused("a partitioned table has foreign keys").await;
    is_moved(&ground.moving(&tenant, &["--to", "east", "--method", "dump"]).await.expect(0).json(), "east");
    assert_eq!(db::word(&at("east"), "SELECT count(*)::text AS word FROM parts").await, "1");
}

/// While its copy is loaded the role at the target has a password that only the mover knows: the one that it is known by
/// opens nothing there before the source is shut, and whoever goes on after a crash needs no former one.
#[actix_web::test]
async fn the_role_has_its_password_at_the_target_once_it_is_opened() {
    let ground = Ground::new().await;
    let tenant = ground.app.tenant_on("east", "late").await;
    let (own, west) = (own(&ground, &tenant, "west").await, ground.server("west"));
    let opens = async || AdminConn::open(&own, &ConnectOptions::default()).await.map(drop).map_err(|error| error.kind);
    let arguments = ["--to", "west", "--method", "replicate", "--hold-deadline", "60s"];
    for step in [Step::Target, Step::Schema, Step::Copy] {
        ground.crash(&tenant, &arguments, step, true).await;
        assert!(!ground.there(&tenant).await.0.contains(&"west"), "{step}");
        // As if it were in the middle of loading.
        db::execute(&west, &format!("ALTER ROLE \"{}\" LOGIN", tenant.role())).await;
        assert_eq!(opens().await, Err(ConnectFailure::Authentication), "{step}");
    }
    is_moved(&ground.moving(&tenant, &arguments).await.expect(0).json(), "west");
    assert_eq!(opens().await, Ok(()));
    tenant.admin().get(CONTACTS).await.expect(200);
    who_was_left_there_is_ended_first(&ground).await;
}

/// A session that an interrupted run has left at the target: what is loaded would wait for it, or for what it does.
async fn who_was_left_there_is_ended_first(ground: &Ground) {
    let tenant = ground.app.tenant_on("east", "left").await;
    let own = own(ground, &tenant, "west").await;
    let arguments = ["--to", "west", "--method", "dump", "--hold-deadline", "20s"];
    ground.crash(&tenant, &arguments, Step::Target, false).await;
    let password = own.password.expose_secret();
    let let_in = format!("ALTER ROLE \"{}\" LOGIN PASSWORD '{password}'", tenant.role());
    db::execute(&ground.server("west"), &let_in).await;
    let mut left = db::open(&own).await;
    for statement in ["BEGIN", "CREATE TABLE public.contacts (id int)"] {
        db::words_on(&mut left, statement).await;
    }
    is_moved(&ground.moving(&tenant, &arguments).await.expect(0).json(), "west");
    tenant.admin().get(CONTACTS).await.expect(200);
}

/// Whether there is an extension that is not trusted, and of every server with the usual modules.
async fn has_modules(ground: &Ground) -> bool {
    let usual = "SELECT count(*)::text AS word FROM pg_available_extensions WHERE name = 'pgstattuple'";
    db::word(&ground.server("east"), usual).await == "1"
}

/// Its own role may not install what an administrator has: at the target that is done before anything of the tenant's is there.
#[actix_web::test]
async fn an_administrator_s_extension_moves_along() {
    let ground = Ground::new().await;
    let tenant = ground.app.tenant_on("east", "extended").await;
    let at = |place: &str| ground.server(place).with_database(tenant.role());
    if !has_modules(&ground).await {
        return;
    }
    db::execute(&at("east"), "CREATE SCHEMA tools; CREATE EXTENSION pgstattuple SCHEMA tools").await;
    ground.moving(&tenant, &["--to", "west", "--method", "dump"]).await.expect(0);
    let installed = "SELECT e.extname || ' ' || n.nspname || ' ' || (e.extowner = r.oid)::text AS word FROM pg_extension e \
                     JOIN pg_namespace n ON n.oid = e.extnamespace JOIN pg_roles r ON r.rolname = current_user \
                     WHERE e.extname <> 'plpgsql'";
    assert_eq!(db::words(&at("west"), installed).await, ["pgstattuple tools true"]);
}

/// What was added to an extension's own tables is in a dump, and not the tenant's to load.
#[actix_web::test]
async fn what_an_administrator_s_extension_keeps_moves_along() {
    let ground = Ground::new().await;
    let tenant = ground.app.tenant_on("east", "settings").await;
    let at = |place: &str| ground.server(place).with_database(tenant.role());
    if !has_modules(&ground).await {
        return;
    }
    // The usual modules have no such table. One that every database has from the start takes its place.
    let keep = "CREATE SCHEMA tools; CREATE EXTENSION pgstattuple SCHEMA tools; \
                ALTER EXTENSION pgstattuple ADD TABLE information_schema.sql_sizing; \
                UPDATE pg_extension SET extconfig = ARRAY['information_schema.sql_sizing'::regclass::oid], \
                extcondition = ARRAY['WHERE sizing_id = 424242'] WHERE extname = 'pgstattuple'; \
                INSERT INTO information_schema.sql_sizing VALUES (424242, 'kept'); \
                GRANT UPDATE (comments) ON information_schema.sql_sizing TO \"{role}\"; \
                GRANT DELETE ON information_schema.sql_sizing TO \"{role}\"";
    db::execute(&at("east"), &keep.replace("{role}", tenant.role())).await;
    let moved = ground.moving(&tenant, &["--to", "west", "--method", "dump"]).await.expect(0);
    is_moved(&moved.json(), "west");
    let rows = "SELECT sizing_id || ' ' || sizing_name AS word FROM information_schema.sql_sizing ORDER BY sizing_id";
    let there = db::words(&at("west"), rows).await;
    assert_eq!(there.last().map(String::as_str), Some("424242 kept"));
    assert_eq!(there, db::words(&at("east"), rows).await);
    // Whatever the role had been granted, it has as the owner of its database.
    let may = "SELECT p || ' ' || coalesce(columns, '') AS word FROM (SELECT a.privilege_type AS p, NULL AS columns \
               FROM pg_class c, aclexplode(c.relacl) a JOIN pg_roles r ON r.oid = a.grantee AND r.rolname = 'pg_database_owner' \
               WHERE c.oid = 'information_schema.sql_sizing'::regclass UNION ALL SELECT a.privilege_type, t.attname \
               FROM pg_attribute t, aclexplode(t.attacl) a \
               JOIN pg_roles r ON r.oid = a.grantee AND r.rolname = 'pg_database_owner' WHERE t.attrelid = 'information_schema.sql_sizing'::regclass) AS each ORDER BY 1";
    assert_eq!(db::words(&at("west"), may).await, ["DELETE ", "UPDATE comments"]);
}
