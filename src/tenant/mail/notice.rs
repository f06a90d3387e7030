//! What people are told of their accounts, whether they want it or not.

use serde::{Deserialize, Serialize};

/// Something that happened to somebody's account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "notice", rename_all = "kebab-case")]
pub enum SecurityNotice {
    /// The password was changed by whoever knew the old one.
    PasswordChanged,
    /// The password was set anew by a link in a mail.
    PasswordReset,
    /// An administrator set another password.
    PasswordSetByAdmin,
    /// A second factor was added.
    SecondFactorAdded,
    /// The second factor was removed.
    SecondFactorRemoved,
    /// An administrator took the second factor away.
    SecondFactorReset,
    /// A recovery code was used.
    RecoveryCodeUsed,
    /// New recovery codes were made; those from before are good no more.
    RecoveryCodesRenewed,
    /// A passkey was added.
    PasskeyAdded {
        /// What it is called.
        name: String,
    },
    /// A passkey was removed.
    PasskeyRemoved {
        /// What it was called.
        name: String,
    },
    /// Somebody signed in from an address they had not come from before.
    NewSession,
    /// A refresh token was used twice: somebody has a copy, and the session has ended.
    SessionStolen,
    /// The address is another one now. Sent to the old one.
    EmailChanged {
        /// The new one, shortened so that a stranger who reads it learns little.
        to: String,
    },
    /// An account at an identity provider signs in here now.
    IdentityLinked {
        /// The provider.
        provider: String,
    },
    /// It does not any more.
    IdentityUnlinked {
        /// The provider.
        provider: String,
    },
    /// An API key was made in this person's name.
    ApiKeyMade {
        /// What it is called.
        name: String,
    },
    /// An API key has another secret.
    ApiKeyRotated {
        /// What it is called.
        name: String,
    },
    /// A token for directories was made in this person's name.
    ScimTokenMade {
        /// What it is called.
        name: String,
    },
    /// An app was registered in this person's name.
    AppRegistered {
        /// What it is called.
        name: String,
    },
    /// An app of this person's has another secret.
    AppSecretRotated {
        /// What it is called.
        name: String,
    },
    /// An app was let into the account.
    AppAllowed {
        /// What it is called.
        name: String,
    },
    /// An app's code or token was used twice: somebody has a copy, and the app's access has ended.
    AppTokenStolen {
        /// What it is called.
        name: String,
    },
    /// Too many failed attempts: the account is locked for a while.
    AccountLocked,
    /// An administrator closed the account.
    AccountDeactivated,
    /// An administrator, or a directory, opened the account of somebody who was invited.
    AccountActivated,
    /// An administrator opened it again.
    AccountReactivated,
    /// An administrator removed the account.
    AccountRemoved,
    /// The account is linked with one of the same person at another organisation.
    AccountsLinked,
}

impl SecurityNotice {
    /// The sentence, in a language that there are built-in words for; else in English.
    pub(super) fn sentence(&self, language: &str) -> String {
        match language {
            "de" => self.in_german(),
            _ => self.in_english(),
        }
    }

    fn in_english(&self) -> String {
        match self {
            Self::PasswordChanged => "Your password was changed.".into(),
            Self::PasswordReset => "Your password was reset by a link that was sent to this address.".into(),
            Self::PasswordSetByAdmin => "An administrator set a new password for you.".into(),
            Self::SecondFactorAdded => "A second factor was added to your account.".into(),
            Self::SecondFactorRemoved => "The second factor was removed from your account.".into(),
            Self::SecondFactorReset => "An administrator removed the second factor from your account.".into(),
            Self::RecoveryCodeUsed => "A recovery code was used to sign in or to confirm a change.".into(),
            Self::RecoveryCodesRenewed => "New recovery codes were made; the earlier ones are no longer valid.".into(),
            Self::PasskeyAdded { name } => format!("A passkey was added to your account: {name}."),
            Self::PasskeyRemoved { name } => format!("A passkey was removed from your account: {name}."),
            Self::NewSession => "Somebody signed in to your account from a new address.".into(),
            Self::SessionStolen => {
                "A session token of yours was used twice, so somebody may have a copy. The session has ended.".into()
            }
            Self::EmailChanged { to } => format!("The e-mail address of your account was changed to {to}."),
            Self::IdentityLinked { provider } => format!("Signing in with {provider} was added to your account."),
            Self::IdentityUnlinked { provider } => {
                format!("Signing in with {provider} was removed from your account.")
            }
            Self::ApiKeyMade { name } => format!("An API key was made in your name: {name}."),
            Self::ApiKeyRotated { name } => format!("An API key of yours was given a new secret: {name}."),
            Self::ScimTokenMade { name } => format!("A token for a directory was made in your name: {name}."),
            Self::AppRegistered { name } => format!("An app was registered in your name: {name}."),
            Self::AppSecretRotated { name } => format!("An app of yours was given a new secret: {name}."),
            Self::AppAllowed { name } => format!("An app was given access to your account: {name}."),
            Self::AppTokenStolen { name } => format!(
                "A token of an app was used twice, so somebody may have a copy. The app's access has ended: {name}."
            ),
            Self::AccountLocked => {
                "After too many failed attempts to sign in, your account is locked for fifteen minutes.".into()
            }
            Self::AccountDeactivated => "An administrator deactivated your account.".into(),
            Self::AccountActivated => "An administrator activated your account.".into(),
            Self::AccountReactivated => "An administrator reactivated your account.".into(),
            Self::AccountRemoved => "An administrator removed your account.".into(),
            Self::AccountsLinked => "Your account was linked with one of yours at another organisation.".into(),
        }
    }

    fn in_german(&self) -> String {
        match self {
            Self::PasswordChanged => "Ihr Passwort wurde geändert.".into(),
            Self::PasswordReset => {
                "Ihr Passwort wurde über einen Link neu gesetzt, der an diese Adresse ging.".into()
            }
            Self::PasswordSetByAdmin => "Jemand aus der Verwaltung hat Ihnen ein neues Passwort gegeben.".into(),
            Self::SecondFactorAdded => "Ihr Konto hat jetzt einen zweiten Faktor.".into(),
            Self::SecondFactorRemoved => "Der zweite Faktor Ihres Kontos wurde entfernt.".into(),
            Self::SecondFactorReset => "Jemand aus der Verwaltung hat den zweiten Faktor Ihres Kontos entfernt.".into(),
            Self::RecoveryCodeUsed => "Ein Wiederherstellungscode wurde verwendet.".into(),
            Self::RecoveryCodesRenewed => {
                "Es gibt neue Wiederherstellungscodes; die bisherigen gelten nicht mehr.".into()
            }
            Self::PasskeyAdded { name } => format!("Ihr Konto hat einen neuen Passkey: {name}."),
            Self::PasskeyRemoved { name } => format!("Ein Passkey Ihres Kontos wurde entfernt: {name}."),
            Self::NewSession => "Jemand hat sich von einer neuen Adresse aus an Ihrem Konto angemeldet.".into(),
            Self::SessionStolen => {
                "Ein Sitzungstoken von Ihnen wurde zweimal verwendet, jemand könnte eine Kopie haben. Die Sitzung ist beendet."
                    .into()
            }
            Self::EmailChanged { to } => format!("Die E-Mail-Adresse Ihres Kontos wurde geändert in {to}."),
            Self::IdentityLinked { provider } => format!("Sie können sich jetzt auch mit {provider} anmelden."),
            Self::IdentityUnlinked { provider } => format!("Sie können sich nicht mehr mit {provider} anmelden."),
            Self::ApiKeyMade { name } => format!("In Ihrem Namen wurde ein API-Schlüssel angelegt: {name}."),
            Self::ApiKeyRotated { name } => format!("Ein API-Schlüssel von Ihnen hat ein neues Geheimnis: {name}."),
            Self::ScimTokenMade { name } => format!("In Ihrem Namen wurde ein Token für ein Verzeichnis angelegt: {name}."),
            Self::AppRegistered { name } => format!("In Ihrem Namen wurde eine App angemeldet: {name}."),
            Self::AppSecretRotated { name } => format!("Eine App von Ihnen hat ein neues Geheimnis: {name}."),
            Self::AppAllowed { name } => format!("Eine App hat Zugang zu Ihrem Konto erhalten: {name}."),
            Self::AppTokenStolen { name } => format!(
                "Ein Token einer App wurde zweimal verwendet, jemand könnte eine Kopie haben. Ihr Zugang ist beendet: {name}."
            ),
            Self::AccountLocked => {
                "Nach zu vielen Fehlversuchen ist Ihr Konto für fünfzehn Minuten gesperrt.".into()
            }
            Self::AccountDeactivated => "Jemand aus der Verwaltung hat Ihr Konto deaktiviert.".into(),
            Self::AccountActivated => "Jemand aus der Verwaltung hat Ihr Konto freigeschaltet.".into(),
            Self::AccountReactivated => "Jemand aus der Verwaltung hat Ihr Konto wieder freigegeben.".into(),
            Self::AccountRemoved => "Jemand aus der Verwaltung hat Ihr Konto gelöscht.".into(),
            Self::AccountsLinked => {
                "Ihr Konto wurde mit Ihrem Konto bei einer anderen Organisation verbunden.".into()
            }
        }
    }
}
