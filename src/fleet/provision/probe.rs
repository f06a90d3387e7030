//! Looks at a dedicated database before anything is written, there or here. Each fault has its own word and remedy.

use std::error::Error as StdError;

use super::verify::read_stamp;
use crate::error::{ApiError, ApiResult};
use crate::fleet::admin;
use crate::kernel::{InstallationId, TenantId};
use crate::router::connect::{ConnectError, ConnectFailure};
use crate::router::{AdminConn, Target};

/// What a server before 14 lacks is not worth a second way of doing things.
pub(in crate::fleet) const OLDEST: &str = "SELECT current_setting('server_version_num')::int >= 140000 AS yes";
const WRITABLE: &str = "SELECT NOT pg_is_in_recovery() AS yes";
const MAY_CREATE: &str = "SELECT has_database_privilege(current_database(), 'CREATE') AND \
    coalesce((SELECT has_schema_privilege(oid, 'CREATE') FROM pg_namespace WHERE nspname = 'public'), false) AS yes";
const STAMPED: &str = "SELECT EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
    WHERE n.nspname = 'tenantry' AND c.relname = 'stamp') AS yes";
/// What an extension brought does not count.
const EMPTY: &str = "SELECT NOT EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
    WHERE n.nspname <> 'information_schema' AND n.nspname !~ '^pg_' AND c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f') \
    AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = c.oid AND d.deptype = 'e')) AS yes";
const WHICH: &str = "SELECT (SELECT oid FROM pg_database WHERE datname = current_database())::text || ' ' || \
    pg_postmaster_start_time()::text AS word";

/// 422 on `databaseUrl`.
pub(in crate::fleet) fn refuse(code: &'static str, said: impl Into<String>) -> ApiError {
    let said = said.into();
    ApiError::invalid_field("databaseUrl", code, said.clone()).detail(said)
}

/// The database carries a stamp that is not this tenant's; whose it is stays unsaid.
pub(super) fn stamped_for_another() -> ApiError {
    refuse(
        "stamped_for_another",
        "This database is stamped for another tenant. Give every tenant a database of its own; if this one is free \
         again, its owner runs `DROP SCHEMA tenantry CASCADE` and empties it.",
    )
}

/// Refuses a database that cannot become this tenant's. One that already is (an interrupted adoption) may.
pub(super) async fn probe(
    pooled: &Target,
    direct: &Target,
    tenant: TenantId,
    installation: InstallationId,
) -> ApiResult<()> {
    let mut conn = connect(direct).await?;
    if !admin::ask(&mut conn, OLDEST).await? {
        return Err(refuse("version_too_old", "This server is older than PostgreSQL 14. Upgrade it first."));
    }
    writable(&mut conn).await?;
    if admin::ask(&mut conn, STAMPED).await? {
        // A stamp that we may not even read is not ours.
        let stamp = read_stamp(&mut conn).await.map_err(|error| stamped_for_another().caused_by(error))?;
        let ours = stamp.is_some_and(|stamp| stamp.names(tenant, installation));
        if !ours {
            return Err(stamped_for_another());
        }
    } else if !admin::ask(&mut conn, EMPTY).await? {
        return Err(refuse(
            "not_empty",
            "This database has tables already. Give an empty one: CREATE DATABASE … OWNER <role> TEMPLATE template0.",
        ));
    }
    if !admin::ask(&mut conn, MAY_CREATE).await? {
        return Err(refuse(
            "privileges_missing",
            "The role may not create schemas and tables here. Make it the owner: ALTER DATABASE … OWNER TO <role>; on \
             PostgreSQL 14 also GRANT ALL ON SCHEMA public TO <role>.",
        ));
    }
    if std::ptr::eq(pooled, direct) {
        return Ok(());
    }
    same(&mut conn, &mut connect(pooled).await?).await
}

/// Refuses a standby: 422.
pub(in crate::fleet) async fn writable(conn: &mut AdminConn) -> ApiResult<()> {
    if admin::ask(conn, WRITABLE).await? {
        return Ok(());
    }
    Err(refuse("read_only", "This server is a read-only standby. Give the primary's address."))
}

/// Refuses two connections that do not lead to one database of one server, such as to a copy of it: 422.
pub(in crate::fleet) async fn same(direct: &mut AdminConn, pooled: &mut AdminConn) -> ApiResult<()> {
    if admin::words(direct, WHICH).await? == admin::words(pooled, WHICH).await? {
        return Ok(());
    }
    let said = "The pooled and the direct URL lead to different databases. Give both for the same one.";
    Err(refuse("urls_differ", said))
}

/// Opens a database that somebody names; 422 with the remedy where that fails.
pub(in crate::fleet) async fn connect(target: &Target) -> ApiResult<AdminConn> {
    AdminConn::open(target, &admin::own_options()).await.map_err(|error| {
        let (code, said) = explain(&error);
        refuse(code, said).caused_by(error)
    })
}

/// The fault behind a failed connection, as far as it can be told, and its remedy.
pub(in crate::fleet) fn explain(error: &ConnectError) -> (&'static str, &'static str) {
    let cause = chain(&*error.source);
    let says = |words: &[&str]| words.iter().any(|word| cause.contains(word));
    // A client certificate that is missing or refused shows as an alert, or as the server's own words.
    if says(&["client certificate", "certificate required", "alert"]) {
        return (
            "client_certificate_refused",
            "The server wants a client certificate from a CA it knows. Give one with its key (--client-cert and \
             --client-key, or `clientCert` and `clientKey`).",
        );
    }
    match error.kind {
        ConnectFailure::Unreachable => (
            "unreachable",
            "The server does not answer. Check host and port, the firewall, and the server's listen_addresses.",
        ),
        ConnectFailure::Tls if says(&["hostname mismatch", "ip address mismatch"]) => (
            "tls_wrong_host",
            "The server's certificate is for another host name. Connect by a name that stands in it, or have it issued \
             for this one.",
        ),
        ConnectFailure::Tls if says(&["expired", "not yet valid"]) => {
            ("tls_expired", "The server's certificate is not valid today. Have it renewed.")
        }
        ConnectFailure::Tls if says(&["certificate verify failed"]) => (
            "tls_untrusted",
            "The server's certificate is from a CA that is not trusted. Give that CA (--ca-file, or `ca`).",
        ),
        ConnectFailure::Tls if says(&["does not support tls"]) => (
            "tls_unsupported",
            "The server does not speak TLS. Turn `ssl` on there, or, on a private network only, give the TLS mode \
             `disable`.",
        ),
        ConnectFailure::Tls => (
            "tls_failed",
            "TLS could not be agreed on. Check the CA, the client certificate and its key, and the server's TLS.",
        ),
        ConnectFailure::Authentication if says(&["pg_hba.conf"]) => (
            "not_admitted",
            "The server has no rule that admits us. Add a `hostssl` line for this role, database and address to its \
             pg_hba.conf.",
        ),
        ConnectFailure::Authentication => (
            "authentication_failed",
            "The server refuses this role or password. Check both, and the role's right to CONNECT.",
        ),
        ConnectFailure::ServerFull => {
            ("server_full", "The server is out of connections. Raise max_connections, or free some.")
        }
        ConnectFailure::ConnectionLimit => (
            "connection_limit",
            "The role or the database has a limit of connections that is reached. Raise it: ALTER ROLE … CONNECTION LIMIT.",
        ),
        ConnectFailure::UnknownDatabase => {
            ("unknown_database", "The server has no such database. Create it: CREATE DATABASE … OWNER <role>.")
        }
        ConnectFailure::StampMismatch | ConnectFailure::Other => {
            ("refused", "The server refuses the connection; see the cause.")
        }
    }
}

fn chain(error: &(dyn StdError + 'static)) -> String {
    let mut text = String::new();
    let mut next = Some(error);
    while let Some(error) = next {
        text.push_str(&error.to_string().to_lowercase());
        text.push_str("; ");
        next = error.source();
    }
    text
}
