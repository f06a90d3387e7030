//! What of a copied database must not be taken over.

use diesel::prelude::*;
use diesel_async::{AsyncConnection, RunQueryDsl};

/// Ends every session, and forgets answers given to anybody before: a session that was ended after the copy was taken
/// must not come to life again.
///
/// # Errors
/// What the database answers.
pub async fn sign_everybody_out<C>(conn: &mut C) -> QueryResult<()>
where
    C: AsyncConnection<Backend = diesel::pg::Pg>,
{
    for table in ["sessions", "idempotency_records"] {
        diesel::sql_query(format!("DELETE FROM public.{table}")).execute(conn).await?;
    }
    Ok(())
}
