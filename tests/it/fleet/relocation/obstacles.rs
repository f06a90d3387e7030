//! Why a tenant is not replicated: said before anything is begun.

use tenantry::fleet::relocate::Method;
use tenantry::fleet::{MoveTenant, OperationOptions, Silent};

use super::Ground;
use crate::support::db;

/// What is made, how it goes again, and what is said of it.
type Obstacle = (&'static str, &'static str, &'static str);

/// What would not get there.
const MISSED: [Obstacle; 4] = [
    ("CREATE UNLOGGED TABLE public.fleeting (id int PRIMARY KEY)", "DROP TABLE public.fleeting", "unlogged tables"),
    ("SELECT lo_from_bytea(424242, 'x')", "SELECT lo_unlink(424242)", "large objects"),
    (
        "CREATE MATERIALIZED VIEW public.seen AS SELECT 1 AS one",
        "DROP MATERIALIZED VIEW public.seen",
        "materialized views",
    ),
    (
        "UPDATE pg_extension SET extconfig = ARRAY['information_schema.sql_sizing'::regclass::oid], \
         extcondition = ARRAY[''] WHERE extname = 'plpgsql'",
        "UPDATE pg_extension SET extconfig = NULL, extcondition = NULL WHERE extname = 'plpgsql'",
        "an extension keeps rows of its own",
    ),
];

/// A check by a function, which is made so.
macro_rules! check {
    ($how:literal) => {
        concat!(
            "CREATE FUNCTION public.computed(int) RETURNS int IMMUTABLE LANGUAGE sql ",
            $how,
            "; CREATE TABLE public.checked (id int PRIMARY KEY CHECK (public.computed(id) > 0))"
        )
    };
}

const UNCHECKED: &str = "DROP TABLE public.checked; DROP FUNCTION public.computed(int)";
const CODE: &str = "a check, a computed column or an index";

/// What PostgreSQL before 16 would run as the superuser.
const RUN: [Obstacle; 6] = [
    // Only an administrator can make one; it moves along as the tenant's.
    (
        "CREATE TYPE public.span; CREATE FUNCTION public.whole(public.span) RETURNS public.span \
         IMMUTABLE STRICT LANGUAGE internal AS 'daterange_canonical'; \
         CREATE TYPE public.span AS RANGE (subtype = date, canonical = public.whole)",
        "DROP TYPE public.span CASCADE",
        "a range type has a function of its own",
    ),
    (check!("SECURITY DEFINER RETURN $1 * 2"), UNCHECKED, CODE),
    (check!("SET search_path = public RETURN $1 * 2"), UNCHECKED, CODE),
    (check!("AS 'SELECT $1 * 2'"), UNCHECKED, CODE),
    (check!("BEGIN ATOMIC SELECT $1 + count(*)::int FROM public.contacts; END"), UNCHECKED, CODE),
    (check!("RETURN $1 + length(set_config('some.thing', 'else', true))"), UNCHECKED, CODE),
];

#[actix_web::test]
async fn what_replication_would_miss_or_run_keeps_a_tenant_from_it() {
    let ground = Ground::new().await;
    let tenant = ground.app.tenant_on("east", "obstacles").await;
    let at = ground.server("east").with_database(tenant.role());
    let version = "SELECT current_setting('server_version_num') AS word";
    let as_owner = db::word(&at, version).await.parse::<u32>().expect("a number") >= 160_000;
    let wanted = MoveTenant { to: Some("west".into()), method: Some(Method::Replicate), ..MoveTenant::default() };
    let fleet = ground.app.fleet();
    let moving = async || fleet.relocate(tenant.id, &wanted, &OperationOptions::default(), &Silent).await;
    for (make, unmake, said) in MISSED.iter().chain(RUN.iter().filter(|_| !as_owner)) {
        db::execute(&at, make).await;
        let error = moving().await.expect_err(make);
        assert!(error.client_detail().contains(said), "{make}: {error:?}");
        db::execute(&at, unmake).await;
    }
    // Nothing else was in the way, nor is a function that only computes.
    let computes = format!("SET ROLE \"{}\"; {}", tenant.role(), check!("RETURN $1 * 2"));
    db::execute(&at, &computes).await;
    moving().await.expect("it is replicated");
    assert_eq!(ground.there(&tenant).await.0, ["west"]);
}
