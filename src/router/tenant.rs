//! What the router knows of a tenant: one small, immutable registry entry.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::connect::Target;
use super::token::{SigningKey, VerificationKey};
use crate::kernel::{ClusterId, Slug, TenantId};

/// Defines an enum whose values are stored and shown as words.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $word:tt,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, ::serde::Serialize, ::serde::Deserialize)]
        #[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
        pub enum $name {
            $($(#[$vdoc])* #[serde(rename = $word)] $variant,)+
        }

        impl $name {
            /// Every value.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The word that is stored and shown.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }
        }

        impl ::std::fmt::Display for $name {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl ::std::str::FromStr for $name {
            type Err = String;
            fn from_str(text: &str) -> Result<Self, String> {
                match text {
                    $($word => Ok(Self::$variant),)+
                    _ => Err(format!("'{text}' is none of: {}", [$($word),+].join(", "))),
                }
            }
        }
    };
}
pub(crate) use words;

words! {
    /// Where a tenant is in its life. Only an active one is routable.
    TenantStatus {
        /// Being made; unroutable.
        Provisioning = "provisioning",
        /// Serving.
        Active = "active",
        /// Refused until resumed.
        Suspended = "suspended",
        /// Gone for its users; the data is kept until the grace period ends.
        Archived = "archived",
    }
}

words! {
    /// Whose server the database is on.
    TenantKind {
        /// A cluster of the installation.
        Shared = "shared",
        /// The customer's own server.
        Dedicated = "dedicated",
    }
}

words! {
    /// Who may register with a tenant.
    Registration {
        /// Anyone.
        Open = "open",
        /// Whoever holds an invitation.
        Invite = "invite",
        /// Nobody: administrators add people, and do not send out invitations.
        Closed = "closed",
    }
}

/// The server a tenant's connections count against. A dedicated database is a server of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterRef {
    /// Identity of the budget: the cluster, or for a dedicated tenant its own id.
    pub id: ClusterId,
    /// The cluster's name.
    pub name: String,
    /// The most connections to tenant databases of this server, or `None` for the router's default.
    pub connection_budget: Option<u32>,
}

/// A tenant as the registry has it.
pub struct Tenant {
    /// Identity.
    pub id: TenantId,
    /// Public name.
    pub slug: Slug,
    /// Display name.
    pub name: String,
    /// Where it is in its life.
    pub status: TenantStatus,
    /// Whose server it is on.
    pub kind: TenantKind,
    /// Who may register.
    pub registration: Registration,
    /// The budget its connections count against.
    pub cluster: ClusterRef,
    /// Pooled URL: what requests use.
    pub target: Arc<Target>,
    /// Direct URL: what migrations use. The same as `target` unless a pooler stands in between.
    pub direct: Arc<Target>,
    /// Per-tenant ceiling, or `None` for the router's default.
    pub max_connections: Option<u32>,
    /// Its share where connections are scarce, against the other tenants' of the cluster: 1 to 100.
    pub weight: u32,
    /// What it pays for, in the operator's words.
    pub plan: Option<String>,
    /// Version of the built-in schema.
    pub schema_version: i32,
    /// A digest of the migrations that its database is known to have.
    pub migrations_hash: Option<String>,
    /// Grows with every migration and rotation: connections of an older epoch are retired.
    pub epoch: i64,
    /// Grows with every change of the registry entry.
    pub generation: i64,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// Until when requests wait, while its database is worked on. Past that it serves, or refuses, by itself.
    pub held_until: Option<DateTime<Utc>>,
    /// Keys whose signatures are accepted.
    pub verification_keys: Vec<VerificationKey>,
    /// The keys that sign new tokens, each from its time on; none while provisioning.
    pub signing_keys: Vec<SigningKey>,
}

impl Tenant {
    /// The key that signs a new token: the newest whose time has come. A clock that is behind does not leave a tenant
    /// without one.
    #[must_use]
    pub fn signing_key(&self, now: DateTime<Utc>) -> Option<&SigningKey> {
        let begun = self.signing_keys.iter().filter(|key| key.from <= now).max_by_key(|key| key.from);
        begun.or_else(|| self.signing_keys.iter().min_by_key(|key| key.from))
    }

    /// Whether requests wait.
    #[must_use]
    pub fn is_held(&self, now: DateTime<Utc>) -> bool {
        self.held_until.is_some_and(|until| now < until)
    }

    /// Changes whenever connections opened before must not be used any more, nor what was remembered of the database:
    /// another target, or a newer epoch.
    pub(crate) fn connection_version(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.target.hash(&mut hasher);
        self.epoch.hash(&mut hasher);
        hasher.finish()
    }
}

impl fmt::Debug for Tenant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tenant")
            .field("id", &self.id)
            .field("slug", &self.slug)
            .field("status", &self.status)
            .field("generation", &self.generation)
            .field("epoch", &self.epoch)
            .finish_non_exhaustive()
    }
}
