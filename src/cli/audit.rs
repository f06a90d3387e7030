//! What is changed on the command line stands in the operators' audit, like what is changed over REST.

use clap::ArgMatches;

use super::Context;
use super::{exit, keys};
use crate::control::operators::audit::{self, Begun, Entry, Outcome};

/// Nouns whose verbs work on the installation.
const NOUNS: &[&str] = &["cluster", "fleet", "key", "operator", "tenant"];
/// Verbs that change nothing.
const READING: &[&str] = &["audit", "backups", "doctor", "drift", "generate", "list", "show", "status"];
/// Verbs that a running server does, and writes down itself.
const REMOTE: &[&str] = &["issuers"];
/// How the arguments are called that say what is worked on.
const SUBJECTS: &[&str] = &["tenant", "slug", "name", "email", "id"];

/// A command that changes something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Deed {
    action: String,
    target: Option<String>,
}

impl Deed {
    /// Of a command line; none if it changes nothing.
    pub(super) fn of(matches: &ArgMatches) -> Option<Self> {
        let (noun, mut leaf) = matches.subcommand().filter(|(noun, _)| NOUNS.contains(noun))?;
        let mut action = noun.to_owned();
        let mut last = noun;
        while let Some((verb, further)) = leaf.subcommand() {
            action = format!("{action} {verb}");
            (last, leaf) = (verb, further);
        }
        let is_remote = action.split(' ').any(|word| REMOTE.contains(&word));
        if READING.contains(&last) || is_remote || only_looks(&action, leaf) {
            return None;
        }
        let target = SUBJECTS.iter().find_map(|name| leaf.try_get_raw(name).ok().flatten()?.next());
        Some(Self { action, target: target.map(|value| value.to_string_lossy().into_owned()) })
    }

    /// Writes it down before it is done, unless the master keys are another installation's.
    pub(super) async fn begin(self, context: &Context) -> anyhow::Result<Begun> {
        let actor = actor();
        let (action, target) = (self.action, self.target);
        let entry = Entry { operator: None, actor, action, target, address: None, request_id: None };
        let control = context.control()?;
        keys::check(&control).await?;
        Ok(audit::begin(&control, entry).await?)
    }
}

/// Whether a command that could change something is asked for a look alone.
fn only_looks(action: &str, leaf: &ArgMatches) -> bool {
    let said = |flag: &str| leaf.try_get_one::<bool>(flag).ok().flatten().is_some_and(|said| *said);
    let named = |option: &str| leaf.try_get_raw(option).ok().flatten().is_some();
    match action {
        "tenant kept" => !said("drop"),
        "fleet migrate" => said("dry_run"),
        "tenant erase" | "fleet verify" => named("check"),
        _ => false,
    }
}

/// Whoever runs a command, as this machine knows them.
pub(super) fn actor() -> String {
    let account = nix::unistd::User::from_uid(nix::unistd::geteuid()).ok().flatten();
    format!("cli:{}", account.map_or_else(|| "unknown".into(), |account| account.name))
}

/// What became of a command.
pub(super) fn outcome(result: &anyhow::Result<()>) -> Outcome {
    match result.as_ref().map_err(exit::code) {
        Ok(()) => Outcome::Done,
        Err(2 | 4) => Outcome::Refused,
        Err(_) => Outcome::Failed,
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    fn deed(line: &str) -> Option<(String, Option<String>)> {
        let matches = crate::cli::Cli::command().try_get_matches_from(line.split(' ')).unwrap();
        Deed::of(&matches).map(|deed| (deed.action, deed.target))
    }

    #[test]
    fn what_changes_something_is_a_deed() {
        let some = |action: &str, target: &str| Some((action.to_owned(), Some(target.to_owned())));
        assert_eq!(deed("tenantry tenant suspend acme"), some("tenant suspend", "acme"));
        assert_eq!(deed("tenantry tenant create acme --name Acme"), some("tenant create", "acme"));
        assert_eq!(deed("tenantry operator disable --email a@b.c"), some("operator disable", "a@b.c"));
        assert_eq!(deed("tenantry cluster remove eu-1 --yes"), some("cluster remove", "eu-1"));
        let id = "01890000-0000-7000-8000-000000000000";
        assert_eq!(deed(&format!("tenantry tenant signups approve {id}")), some("tenant signups approve", id));
        assert_eq!(deed("tenantry tenant signups list"), None);
        assert_eq!(deed(&format!("tenantry tenant issuers remove acme {id}")), None);
        for reading in
            ["tenantry tenant list", "tenantry cluster show eu-1", "tenantry config show", "tenantry pool top"]
        {
            assert_eq!(deed(reading), None, "{reading}");
        }
    }

    #[test]
    fn the_same_command_may_only_look() {
        for (looks, does) in [
            ("tenantry tenant kept acme", "tenantry tenant kept acme --drop --yes"),
            ("tenantry tenant erase --check file", "tenantry tenant erase acme --certificate file --yes"),
            ("tenantry fleet verify --check proof.json", "tenantry fleet verify --report proof.json"),
            ("tenantry fleet migrate --dry-run", "tenantry fleet migrate"),
        ] {
            assert_eq!(deed(looks), None, "{looks}");
            assert!(deed(does).is_some(), "{does}");
        }
        assert_eq!(deed("tenantry tenant kept"), None);
    }
}
