//! Every permission there is, and which system role has it. Provisioning seeds a tenant's database from this list.

use crate::rest::Permission;
use crate::tenant::{oauth, security, teams};

/// The system role that may do everything.
pub const ADMIN: &str = "admin";
/// The system role of everybody else.
pub const USER: &str = "user";

/// One permission.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// `resource:action`.
    pub name: &'static str,
    /// What it lets someone do.
    pub description: &'static str,
    /// Whether the system role `user` has it. `admin` has all.
    pub user: bool,
}

/// The permissions.
pub const PERMISSIONS: &[Entry] = &[
    Entry { name: UsersRead::NAME, description: "See the people of the organisation", user: true },
    Entry { name: UsersWrite::NAME, description: "Create, change and remove people, and give them roles", user: false },
    Entry { name: RolesRead::NAME, description: "See the roles", user: true },
    Entry { name: RolesWrite::NAME, description: "Make, change and remove roles", user: false },
    Entry { name: TeamsRead::NAME, description: "See the teams and who is in them", user: false },
    Entry {
        name: TeamsWrite::NAME,
        description: "Make, change and remove teams, and decide who is in them",
        user: false,
    },
    Entry { name: ApiKeysRead::NAME, description: "See the API keys", user: false },
    Entry { name: ApiKeysWrite::NAME, description: "Make, change and revoke API keys", user: false },
    Entry { name: IdentityProvidersRead::NAME, description: "See through whom people sign in", user: false },
    Entry { name: IdentityProvidersWrite::NAME, description: "Decide through whom people sign in", user: false },
    Entry { name: TokenIssuersRead::NAME, description: "See whose access tokens are taken", user: false },
    Entry { name: TokenIssuersWrite::NAME, description: "Decide whose access tokens are taken", user: false },
    Entry { name: ScimTokensRead::NAME, description: "See the tokens of directories", user: false },
    Entry { name: ScimTokensWrite::NAME, description: "Let directories manage people, and stop them", user: false },
    Entry { name: OauthRead::NAME, description: "See the apps that ask people for access", user: false },
    Entry { name: OauthWrite::NAME, description: "Decide which apps may ask people for access", user: false },
    Entry { name: PermissionsRead::NAME, description: "See the permissions", user: false },
    Entry { name: SecurityRead::NAME, description: "See what the organisation demands of its people", user: false },
    Entry { name: SecurityWrite::NAME, description: "Decide what the organisation demands of its people", user: false },
    Entry { name: MailRead::NAME, description: "See the words of the mails that people get", user: false },
    Entry { name: MailWrite::NAME, description: "Change the words of the mails that people get", user: false },
    Entry { name: "contacts:read", description: "See the address book", user: true },
    Entry { name: "contacts:write", description: "Change the address book", user: true },
];

/// The system roles with their descriptions.
pub const SYSTEM_ROLES: &[(&str, &str)] =
    &[(ADMIN, "Everything, people and their roles included"), (USER, "The address book, and one's own profile")];

/// May see people.
#[derive(Debug)]
pub struct UsersRead;
impl Permission for UsersRead {
    const NAME: &'static str = "users:read";
}

/// May create, change and remove people.
#[derive(Debug)]
pub struct UsersWrite;
impl Permission for UsersWrite {
    const NAME: &'static str = "users:write";
    const OVER_OTHERS: bool = true;
    const SCHEMA: i32 = teams::SINCE;
}

/// May see roles.
#[derive(Debug)]
pub struct RolesRead;
impl Permission for RolesRead {
    const NAME: &'static str = "roles:read";
}

/// May make, change and remove roles.
#[derive(Debug)]
pub struct RolesWrite;
impl Permission for RolesWrite {
    const NAME: &'static str = "roles:write";
    const OVER_OTHERS: bool = true;
    const SCHEMA: i32 = teams::SINCE;
}

/// May see teams.
#[derive(Debug)]
pub struct TeamsRead;
impl Permission for TeamsRead {
    const NAME: &'static str = "teams:read";
    const SCHEMA: i32 = teams::SINCE;
}

/// May make, change and remove teams, and decide who is in them.
#[derive(Debug)]
pub struct TeamsWrite;
impl Permission for TeamsWrite {
    const NAME: &'static str = "teams:write";
    const OVER_OTHERS: bool = true;
    const SCHEMA: i32 = teams::SINCE;
}

/// May see API keys.
#[derive(Debug)]
pub struct ApiKeysRead;
impl Permission for ApiKeysRead {
    const NAME: &'static str = "api-keys:read";
    const SCHEMA: i32 = 6;
}

/// May make, change and revoke API keys.
#[derive(Debug)]
pub struct ApiKeysWrite;
impl Permission for ApiKeysWrite {
    const NAME: &'static str = "api-keys:write";
    const OVER_OTHERS: bool = true;
    const SCHEMA: i32 = teams::SINCE;
}

/// May see identity providers.
#[derive(Debug)]
pub struct IdentityProvidersRead;
impl Permission for IdentityProvidersRead {
    const NAME: &'static str = "identity-providers:read";
    const SCHEMA: i32 = teams::SINCE;
}

/// May make, change and remove identity providers.
#[derive(Debug)]
pub struct IdentityProvidersWrite;
impl Permission for IdentityProvidersWrite {
    const NAME: &'static str = "identity-providers:write";
    const OVER_OTHERS: bool = true;
    const SCHEMA: i32 = teams::SINCE;
}

/// May see token issuers.
#[derive(Debug)]
pub struct TokenIssuersRead;
impl Permission for TokenIssuersRead {
    const NAME: &'static str = "token-issuers:read";
    const SCHEMA: i32 = teams::SINCE;
}

/// May register, change and remove token issuers.
#[derive(Debug)]
pub struct TokenIssuersWrite;
impl Permission for TokenIssuersWrite {
    const NAME: &'static str = "token-issuers:write";
    const OVER_OTHERS: bool = true;
    const SCHEMA: i32 = teams::SINCE;
}

/// May see the tokens of directories.
#[derive(Debug)]
pub struct ScimTokensRead;
impl Permission for ScimTokensRead {
    const NAME: &'static str = "scim-tokens:read";
    const SCHEMA: i32 = teams::SINCE;
}

/// May make and revoke the tokens of directories.
#[derive(Debug)]
pub struct ScimTokensWrite;
impl Permission for ScimTokensWrite {
    const NAME: &'static str = "scim-tokens:write";
    const OVER_OTHERS: bool = true;
    const SCHEMA: i32 = teams::SINCE;
}

/// May see apps.
#[derive(Debug)]
pub struct OauthRead;
impl Permission for OauthRead {
    const NAME: &'static str = "oauth:read";
    const SCHEMA: i32 = oauth::SINCE;
}

/// May make, change and remove apps.
#[derive(Debug)]
pub struct OauthWrite;
impl Permission for OauthWrite {
    const NAME: &'static str = "oauth:write";
    const OVER_OTHERS: bool = true;
    const SCHEMA: i32 = oauth::SINCE;
}

/// May see permissions.
#[derive(Debug)]
pub struct PermissionsRead;
impl Permission for PermissionsRead {
    const NAME: &'static str = "permissions:read";
}

/// May see what the organisation demands of its people.
#[derive(Debug)]
pub struct SecurityRead;
impl Permission for SecurityRead {
    const NAME: &'static str = "security:read";
    const SCHEMA: i32 = security::SINCE;
}

/// May decide what the organisation demands of its people.
#[derive(Debug)]
pub struct SecurityWrite;
impl Permission for SecurityWrite {
    const NAME: &'static str = "security:write";
    const OVER_OTHERS: bool = true;
    const SCHEMA: i32 = security::SINCE;
}

/// May see the words of mails.
#[derive(Debug)]
pub struct MailRead;
impl Permission for MailRead {
    const NAME: &'static str = "mail:read";
    const SCHEMA: i32 = 7;
}

/// May change the words of mails.
#[derive(Debug)]
pub struct MailWrite;
impl Permission for MailWrite {
    const NAME: &'static str = "mail:write";
    const OVER_OTHERS: bool = true;
    const SCHEMA: i32 = 7;
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_distinct_words() {
        let names: BTreeSet<_> = PERMISSIONS.iter().map(|entry| entry.name).collect();
        assert_eq!(names.len(), PERMISSIONS.len());
        assert!(
            names
                .iter()
                .all(|name| name.split_once(':').is_some_and(|(what, how)| !what.is_empty() && !how.is_empty()))
        );
    }

    #[test]
    fn the_role_user_creates_nobody() {
        let granted: Vec<_> = PERMISSIONS.iter().filter(|entry| entry.user).map(|entry| entry.name).collect();
        assert_eq!(granted, ["users:read", "roles:read", "contacts:read", "contacts:write"]);
    }
}
