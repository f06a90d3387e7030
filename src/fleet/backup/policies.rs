//! Row-level security that holds for the tenant's own role: what that role reads is not all there is.

use crate::error::ApiResult;
use crate::fleet::{admin, refused};
use crate::router::AdminConn;

/// The tables of which the role that asks sees no more than a policy lets it: those it owns only if they are forced.
const HIDING: &str = "SELECT n.nspname || '.' || c.relname AS word \
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
    WHERE c.relkind = 'r' AND row_security_active(c.oid) \
    AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e') \
    ORDER BY 1";

/// Refuses to read a database of which the tenant's role sees a part only. With `row_security = off` PostgreSQL would
/// refuse it too, table by table, and without a word on what to do.
///
/// # Errors
/// 409 with the names of the tables.
pub(in crate::fleet) async fn hide_nothing(conn: &mut AdminConn) -> ApiResult<()> {
    let tables = admin::words(conn, HIDING).await?;
    if tables.is_empty() {
        return Ok(());
    }
    Err(refused(format!(
        "Row-level security hides rows of {} from the tenant's own role, so they cannot be read whole. Run ALTER TABLE … NO \
         FORCE ROW LEVEL SECURITY on each as its owner, or give the role BYPASSRLS; then ask again.",
        tables.join(", ")
    )))
}
