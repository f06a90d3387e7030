//! What a login is checked against.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use crate::kernel::UserId;
use crate::router::TenantConn;
use crate::tenant::schema::users;
use crate::tenant::users::rules::UserStatus;

/// What a login is checked against.
#[derive(Debug, Clone, Queryable)]
pub struct Credentials {
    pub user: UserId,
    pub password_hash: Option<String>,
    pub status: String,
}

impl Credentials {
    /// The hash that a password has to match; none for a person who may not come in.
    pub fn usable_hash(&self) -> Option<String> {
        self.password_hash.clone().filter(|_| self.status == UserStatus::Active.as_str())
    }
}

/// The credentials behind an address.
pub async fn credentials(conn: &mut TenantConn, email_key: &str) -> QueryResult<Option<Credentials>> {
    let columns = (users::id, users::password_hash, users::status);
    users::table.filter(users::email_key.eq(email_key)).select(columns).first(conn).await.optional()
}

/// The credentials of a person.
pub async fn find_credentials(conn: &mut TenantConn, user: UserId) -> QueryResult<Option<Credentials>> {
    let columns = (users::id, users::password_hash, users::status);
    users::table.find(user).select(columns).first(conn).await.optional()
}

/// The credentials of a person, held against change until the transaction ends.
pub async fn hold_credentials(conn: &mut TenantConn, user: UserId) -> QueryResult<Option<Credentials>> {
    let columns = (users::id, users::password_hash, users::status);
    users::table.find(user).select(columns).for_no_key_update().first(conn).await.optional()
}

/// Keeps another hash of the same password: nothing changes for whoever has it.
pub async fn renew_hash(conn: &mut TenantConn, user: UserId, hash: &str) -> QueryResult<()> {
    diesel::update(users::table.find(user)).set(users::password_hash.eq(hash)).execute(conn).await.map(drop)
}
