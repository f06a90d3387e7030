//! Identifiers: one UUIDv7 newtype per thing, so that a contact's id is never taken for a user's.

use std::fmt;
use std::str::FromStr;

use diesel::deserialize::{self, FromSql, FromSqlRow};
use diesel::expression::AsExpression;
use diesel::pg::{Pg, PgValue};
use diesel::serialize::{self, Output, ToSql};
use diesel::sql_types;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident;)+) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, AsExpression, FromSqlRow)]
        #[diesel(sql_type = sql_types::Uuid)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// A new, time-ordered id (UUIDv7, RFC 9562).
            #[must_use]
            pub fn generate() -> Self {
                Self(Uuid::now_v7())
            }

            /// The underlying UUID.
            #[must_use]
            pub const fn uuid(self) -> Uuid {
                self.0
            }
        }

        impl From<Uuid> for $name {
            fn from(id: Uuid) -> Self {
                Self(id)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.parse().map(Self)
            }
        }

        impl FromSql<sql_types::Uuid, Pg> for $name {
            fn from_sql(bytes: PgValue<'_>) -> deserialize::Result<Self> {
                <Uuid as FromSql<sql_types::Uuid, Pg>>::from_sql(bytes).map(Self)
            }
        }

        impl ToSql<sql_types::Uuid, Pg> for $name {
            fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Pg>) -> serialize::Result {
                <Uuid as ToSql<sql_types::Uuid, Pg>>::to_sql(&self.0, out)
            }
        }

        #[cfg(feature = "server")]
        impl utoipa::PartialSchema for $name {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
                use utoipa::openapi::schema::{KnownFormat, ObjectBuilder, SchemaFormat, Type};
                ObjectBuilder::new()
                    .schema_type(Type::String)
                    .format(Some(SchemaFormat::KnownFormat(KnownFormat::Uuid)))
                    .into()
            }
        }

        #[cfg(feature = "server")]
        impl utoipa::ToSchema for $name {}
    )+};
}

ids! {
    /// One installation of Tenantry: one control plane.
    InstallationId;
    /// A customer, with a database of its own.
    TenantId;
    /// A PostgreSQL server that tenants are placed on.
    ClusterId;
    /// A person of one tenant.
    UserId;
    /// A signed-in device of a person.
    SessionId;
    /// A program's key to one tenant.
    ApiKeyId;
    /// Through whom people of one tenant sign in.
    IdentityProviderId;
    /// A directory's key to the people of one tenant.
    ScimTokenId;
    /// Somebody else whose access tokens are taken.
    TokenIssuerId;
    /// An app that asks for access to one tenant (OAuth 2.1).
    OauthClientId;
    /// What an app was given at one time: all its tokens from then on.
    OauthGrantId;
    /// A person's account at an identity provider.
    SocialAccountId;
    /// A named set of permissions within one tenant.
    RoleId;
    /// People together, with roles that all of them have.
    TeamId;
    /// A permission within one tenant.
    PermissionId;
    /// An entry of a tenant's address book.
    ContactId;
    /// A person who runs the installation.
    OperatorId;
    /// One run of the journal: a job, to operators.
    OperationId;
    /// Something that an operator did.
    AuditId;
    /// A tenant's data in the storage.
    BackupId;
    /// A signing key, of a tenant or of the installation.
    SigningKeyId;
}
