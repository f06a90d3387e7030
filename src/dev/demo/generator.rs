//! Makes contacts up: the same ones for the same tenant each time, other ones for another tenant.

use chrono::{DateTime, TimeDelta, Utc};
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{Rng, SeedableRng};

use super::Person;
use super::companies::{COMPANIES, EMAIL_PROVIDERS, NOTES, TAGS, TITLES};
use super::places::{COUNTRIES, City, Country};
use crate::kernel::Slug;
use crate::kernel::crypto::sha256;
use crate::tenant::contacts::{Address, Draft, Email, Imported, Phone};

/// How far back the oldest contact goes.
const HISTORY: TimeDelta = TimeDelta::days(900);

/// Draws people and contacts for one tenant.
pub(super) struct Generator {
    rng: StdRng,
    companies: Vec<(&'static str, &'static str)>,
    home: Country,
}

impl Generator {
    pub(super) fn new(slug: &Slug) -> Self {
        let mut rng = StdRng::from_seed(sha256(slug.as_str().as_bytes()));
        let mut companies: Vec<_> = COMPANIES.to_vec();
        companies.shuffle(&mut rng);
        companies.truncate(COMPANIES.len() * 2 / 3);
        let home = pick(&mut rng, COUNTRIES);
        Self { rng, companies, home }
    }

    /// Somebody who works there.
    pub(super) fn person(&mut self) -> Person {
        let (first_name, last_name) = self.name(self.home);
        Person { first_name, last_name }
    }

    /// Contacts, the oldest first.
    pub(super) fn contacts(&mut self, count: usize, now: DateTime<Utc>) -> Vec<Imported> {
        let mut ages: Vec<i64> = (0..count).map(|_| self.rng.random_range(3_600..HISTORY.num_seconds())).collect();
        ages.sort_unstable_by(|a, b| b.cmp(a));
        ages.into_iter()
            .map(|age| {
                let since = if self.rng.random_bool(0.4) { self.rng.random_range(0..age) } else { 0 };
                let created_at = now - TimeDelta::seconds(age);
                Imported { draft: self.contact(), created_at, updated_at: created_at + TimeDelta::seconds(since) }
            })
            .collect()
    }

    fn contact(&mut self) -> Draft {
        // Half of all business is done near home.
        let country = if self.rng.random_bool(0.5) { self.home } else { pick(&mut self.rng, COUNTRIES) };
        let city = pick(&mut self.rng, country.cities);
        match self.rng.random_range(0..100) {
            0..6 => self.organisation(country, city),
            6..16 => self.private_person(country, city),
            _ => self.employee(country, city),
        }
    }

    fn organisation(&mut self, country: Country, city: City) -> Draft {
        let (company, domain) = pick(&mut self.rng, &self.companies);
        Draft {
            company: Some(company.to_owned()),
            emails: vec![email("office", format!("info@{domain}.example"))],
            phones: vec![self.phone("main", city)],
            addresses: vec![self.address("office", country, city)],
            notes: self.note(0.2),
            tags: self.tags(),
            ..Draft::default()
        }
    }

    fn private_person(&mut self, country: Country, city: City) -> Draft {
        let (first, last) = self.name(country);
        let provider = pick(&mut self.rng, EMAIL_PROVIDERS);
        let year = self.rng.random_range(60..100);
        let address = format!("{}.{}{year}@{provider}.example", ascii(first), ascii(last));
        Draft {
            first_name: Some(first.to_owned()),
            last_name: Some(last.to_owned()),
            emails: vec![email("home", address)],
            phones: vec![self.phone("mobile", city)],
            addresses: vec![self.address("home", country, city)],
            notes: self.note(0.15),
            tags: self.tags(),
            ..Draft::default()
        }
    }

    fn employee(&mut self, country: Country, city: City) -> Draft {
        let (first, last) = self.name(country);
        let (company, domain) = pick(&mut self.rng, &self.companies);
        let mut emails = vec![email("work", format!("{}.{}@{domain}.example", ascii(first), ascii(last)))];
        if self.rng.random_bool(0.15) {
            let provider = pick(&mut self.rng, EMAIL_PROVIDERS);
            emails.push(email("home", format!("{}{}@{provider}.example", &ascii(first)[..1], ascii(last))));
        }
        let mut phones = vec![self.phone("work", city)];
        if self.rng.random_bool(0.35) {
            phones.push(self.phone("mobile", city));
        }
        let addresses =
            if self.rng.random_bool(0.8) { vec![self.address("office", country, city)] } else { Vec::new() };
        Draft {
            first_name: Some(first.to_owned()),
            last_name: Some(last.to_owned()),
            company: Some(company.to_owned()),
            title: self.rng.random_bool(0.9).then(|| pick(&mut self.rng, TITLES).to_owned()),
            emails,
            phones,
            addresses,
            notes: self.note(0.3),
            tags: self.tags(),
        }
    }

    fn name(&mut self, country: Country) -> (&'static str, &'static str) {
        (pick(&mut self.rng, country.people.first), pick(&mut self.rng, country.people.last))
    }

    fn phone(&mut self, label: &str, city: City) -> Phone {
        let value =
            city.phone.chars().map(|c| if c == '#' { char::from(self.rng.random_range(b'0'..=b'9')) } else { c });
        Phone { label: label.to_owned(), value: value.collect() }
    }

    fn address(&mut self, label: &str, country: Country, city: City) -> Address {
        let (street, number) = (pick(&mut self.rng, country.streets), self.rng.random_range(1..180));
        Address {
            label: label.to_owned(),
            street: if country.number_first { format!("{number} {street}") } else { format!("{street} {number}") },
            city: city.name.to_owned(),
            region: city.region.to_owned(),
            postal_code: pick(&mut self.rng, city.postal_codes).to_owned(),
            country: country.name.to_owned(),
        }
    }

    fn note(&mut self, how_often: f64) -> Option<String> {
        self.rng.random_bool(how_often).then(|| pick(&mut self.rng, NOTES).to_owned())
    }

    fn tags(&mut self) -> Vec<String> {
        let count = pick(&mut self.rng, &[0, 1, 1, 1, 2, 2, 3]);
        TAGS.choose_multiple(&mut self.rng, count).map(|tag| (*tag).to_owned()).collect()
    }
}

fn pick<T: Copy>(rng: &mut StdRng, from: &[T]) -> T {
    *from.choose(rng).expect("no table is empty")
}

fn email(label: &str, value: String) -> Email {
    Email { label: label.to_owned(), value }
}

/// As people are spelled in addresses: `Jürgen von der Heide` is `juergen`, `vonderheide`.
pub(super) fn ascii(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for c in name.to_lowercase().chars() {
        match c {
            'ä' | 'æ' => out.push_str("ae"),
            'ö' => out.push_str("oe"),
            'ü' => out.push_str("ue"),
            'ß' => out.push_str("ss"),
            'å' | 'à' | 'â' => out.push('a'),
            'é' | 'è' | 'ê' | 'ë' => out.push('e'),
            'î' | 'ï' | 'ı' => out.push('i'),
            'ô' => out.push('o'),
            'ç' => out.push('c'),
            c if c.is_ascii_alphanumeric() || c == '-' => out.push(c),
            _ => {}
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::Clock;

    fn make(slug: &str, now: DateTime<Utc>) -> Vec<Imported> {
        Generator::new(&slug.parse().unwrap()).contacts(400, now)
    }

    #[test]
    fn the_same_for_a_tenant_and_different_between_tenants() {
        let now = Clock::system().now();
        let (one, again, other) = (make("acme", now), make("acme", now), make("globex", now));
        assert!(one.iter().zip(&again).all(|(a, b)| a.draft == b.draft && a.created_at == b.created_at));
        let shared = one.iter().filter(|a| other.iter().any(|b| a.draft.emails == b.draft.emails)).count();
        assert!(shared < 40, "{shared} contacts are in both");
    }

    #[test]
    fn the_rules_take_them_all_as_they_are() {
        let now = Clock::system().now();
        for slug in ["acme", "globex", "t0003", "t0004", "t0005", "t0006", "t0007"] {
            for made in make(slug, now) {
                assert!(made.created_at <= made.updated_at && made.updated_at <= now);
                assert_eq!(made.draft.clone().checked().unwrap(), made.draft);
            }
        }
    }

    #[test]
    fn spells_names_for_addresses() {
        assert_eq!(ascii("Jürgen"), "juergen");
        assert_eq!(ascii("von der Heide"), "vonderheide");
        assert_eq!(ascii("O'Brien"), "obrien");
        assert_eq!(ascii("Jean-Marc"), "jean-marc");
        assert_eq!(ascii("Élodie Yılmaz"), "elodieyilmaz");
    }
}
