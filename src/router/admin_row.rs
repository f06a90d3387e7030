//! Who administers a cluster: asked whether a lost node's connections are gone.

use diesel::sql_types::{Binary, Integer, Nullable, Text};

use super::connect::{Target, TlsPolicy};
use super::error::Result;
use super::tenant_row::{damaged, open};
use crate::kernel::ClusterId;
use crate::kernel::crypto::{MasterKeys, Place};

/// The row of one cluster, by its id.
pub(super) const ADMIN: &str = "\
SELECT host, port, admin_user, admin_password_sealed, admin_database, tls_mode, tls_ca, tls_client_cert, \
       tls_client_key_sealed FROM clusters WHERE id = $1";

#[derive(diesel::QueryableByName)]
pub(super) struct AdminRow {
    #[diesel(sql_type = Text)]
    host: String,
    #[diesel(sql_type = Integer)]
    port: i32,
    #[diesel(sql_type = Text)]
    admin_user: String,
    #[diesel(sql_type = Binary)]
    admin_password_sealed: Vec<u8>,
    #[diesel(sql_type = Text)]
    admin_database: String,
    #[diesel(sql_type = Text)]
    tls_mode: String,
    #[diesel(sql_type = Nullable<Text>)]
    tls_ca: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    tls_client_cert: Option<String>,
    #[diesel(sql_type = Nullable<Binary>)]
    tls_client_key_sealed: Option<Vec<u8>>,
}

impl AdminRow {
    pub(super) fn read(self, keys: &MasterKeys, cluster: ClusterId) -> Result<Target> {
        let place = |column| Place::new("clusters", column, cluster.uuid());
        let client_key =
            self.tls_client_key_sealed.map(|sealed| open(keys, place("tls_client_key_sealed"), Some(sealed)));
        Ok(Target {
            host: self.host,
            port: u16::try_from(self.port).map_err(damaged)?,
            database: self.admin_database,
            user: self.admin_user,
            password: open(keys, place("admin_password_sealed"), Some(self.admin_password_sealed))?,
            tls: TlsPolicy {
                mode: self.tls_mode.parse().map_err(|e: String| damaged(e))?,
                ca: self.tls_ca,
                client_cert: self.tls_client_cert,
                client_key: client_key.transpose()?,
            },
        })
    }
}
