//! What of a tenant's data is exported: everything but what people prove who they are with.

use std::collections::BTreeMap;

use diesel::sql_types::{Bool, Text};
use diesel_async::RunQueryDsl;

use crate::error::{ApiError, ApiResult};
use crate::fleet::backup::contents::{self, TableName};
use crate::router::AdminConn;

/// Secrets: hashes of passwords and tokens, and what could stand for one. No export holds them.
pub const SECRET: &[&str] = &[
    "public.users.password_hash",
    "public.refresh_tokens.hash",
    "public.refresh_tokens.successor_hash",
    "public.invitations.token_hash",
    "public.login_attempts.email_hash",
    "public.second_factors.totp_sealed",
    "public.recovery_codes.digest",
    "public.password_history.password_hash",
    "public.mfa_challenges.token_hash",
    "public.trusted_devices.token_hash",
    "public.api_keys.key_hash",
    "public.api_keys.previous_hash",
    "public.security_policy.captcha_secret_sealed",
    "public.passkeys.credential_id",
    "public.passkeys.credential",
    "public.mail_outbox.parcel_sealed",
    "public.registrations.token_hash",
    "public.registrations.password_hash",
    "public.account_tokens.hash",
    "public.email_changes.old_hash",
    "public.email_changes.new_hash",
    "public.identity_providers.client_secret_sealed",
    "public.federation_states.state_hash",
    "public.token_issuers.secret_sealed",
    "public.scim_tokens.token_hash",
    "public.federated_challenges.token_hash",
    "public.oauth_settings.hydra_token_sealed",
    "public.oauth_clients.secret_hash",
    "public.oauth_clients.previous_hash",
    "public.oauth_requests.token_hash",
    "public.oauth_codes.code_hash",
    "public.oauth_refresh_tokens.hash",
    "public.oauth_refresh_tokens.successor_hash",
];

/// Columns whose names look like a secret's, and that are none.
pub const OPEN: &[&str] = &[
    "public.users.password_change_required",
    "public.users.email_key",
    "public.registrations.email_key",
    "public.account_tokens.email_key",
    "public.email_changes.old_key",
    "public.scim_users.user_name_key",
    "public.contacts.last_name_key",
    "public.contacts.company_key",
    "public.security_policy.captcha_site_key",
    "public.security_policy.token_claims",
    "public.security_policy.password_min_length",
    "public.security_policy.password_min_length_with_factor",
    "public.security_policy.password_history",
    "public.security_policy.password_blocked_words",
    "public.teams.name_key",
];

/// Tables of the product's own memory, which hold nothing of the customer's that is not elsewhere.
pub const MEMORY: &[&str] = &["public.idempotency_records", "public.passkey_ceremonies", "public.address_news"];

/// Words in the names of columns that hold secrets.
const SIGNS: &[&str] = &[
    "password",
    "passwd",
    "hash",
    "secret",
    "token",
    "seed",
    "key",
    "credential",
    "otp",
    "recovery",
    "salt",
    "sealed",
    "cipher",
    "private",
    "signature",
    "pin",
];

/// Whether a column is left out: a secret, or one that may be. A column of the operator's own that only looks like one
/// is left out too, and the manifest says so.
#[must_use]
pub fn is_left_out(table: &str, column: &str) -> bool {
    let name = format!("{table}.{column}");
    SECRET.contains(&&*name) || (!OPEN.contains(&&*name) && looks_secret(column))
}

/// Whether a word of a column's name is one of those in the names of secrets.
#[must_use]
pub fn looks_secret(column: &str) -> bool {
    column
        .to_lowercase()
        .split('_')
        .any(|word| SIGNS.iter().any(|sign| word == *sign || word.strip_suffix('s') == Some(sign)))
}

/// A column of a table.
#[derive(
    Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, diesel::QueryableByName, utoipa::ToSchema,
)]
#[schema(as = ExportedColumn)]
pub struct Column {
    /// Its name.
    #[diesel(sql_type = Text)]
    pub name: String,
    /// Its type, as PostgreSQL writes it.
    #[diesel(sql_type = Text)]
    #[serde(rename = "type")]
    pub kind: String,
    /// Whether it may be null.
    #[diesel(sql_type = Bool)]
    pub nullable: bool,
}

/// A table to export, with what of it.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) table: TableName,
    pub(super) columns: Vec<Column>,
}

/// The tables to export, and the columns and tables that are left out.
pub(super) async fn plan(conn: &mut AdminConn) -> ApiResult<(Vec<Table>, Vec<String>)> {
    let (mut tables, mut left_out) = (Vec::new(), BTreeMap::new());
    for table in contents::tables(conn).await? {
        let name = format!("{}.{}", table.schema, table.name);
        // The bookkeeping of migrations.
        if table.schema == "tenantry" {
            continue;
        }
        if MEMORY.contains(&&*name) {
            left_out.insert(name, ());
            continue;
        }
        let columns: Vec<Column> = diesel::sql_query(
            "SELECT attname::text AS name, format_type(atttypid, atttypmod) AS kind, NOT attnotnull AS nullable \
             FROM pg_attribute WHERE attrelid = $1::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum",
        )
        .bind::<Text, _>(table.quoted())
        .load(conn)
        .await
        .map_err(ApiError::internal)?;
        let (out, columns): (Vec<_>, Vec<_>) = columns.into_iter().partition(|column| is_left_out(&name, &column.name));
        left_out.extend(out.into_iter().map(|column| (format!("{name}.{}", column.name), ())));
        tables.push(Table { table, columns });
    }
    Ok((tables, left_out.into_keys().collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_looks_like_a_secret_is_left_out() {
        for secret in ["password_hash", "totp_seed", "api_key", "recovery_codes_hash", "private_sealed", "tokens"] {
            assert!(is_left_out("public.things", secret), "{secret}");
        }
        for open in ["first_name", "email", "notes", "monkey_name", "opinion"] {
            assert!(!is_left_out("public.things", open), "{open}");
        }
        assert!(is_left_out("public.users", "password_hash") && !is_left_out("public.users", "email_key"));
    }
}
