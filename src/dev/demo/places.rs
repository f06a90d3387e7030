//! Cities with what belongs to them. The phone numbers come from the ranges that each country keeps for fiction.

use super::names::{ENGLISH, FRENCH, GERMAN, Names, SWEDISH};

/// One country's habits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Country {
    pub(super) name: &'static str,
    pub(super) people: &'static Names,
    pub(super) streets: &'static [&'static str],
    /// Whether the number comes before the street.
    pub(super) number_first: bool,
    pub(super) cities: &'static [City],
}

/// One city.
#[derive(Debug, Clone, Copy)]
pub(super) struct City {
    pub(super) name: &'static str,
    pub(super) region: &'static str,
    pub(super) postal_codes: &'static [&'static str],
    /// Each `#` becomes a digit.
    pub(super) phone: &'static str,
}

const fn city(
    name: &'static str,
    region: &'static str,
    postal_codes: &'static [&'static str],
    phone: &'static str,
) -> City {
    City { name, region, postal_codes, phone }
}

pub(super) const COUNTRIES: &[Country] = &[
    Country {
        name: "United States",
        people: &ENGLISH,
        streets: &[
            "Maple Avenue",
            "Oak Street",
            "Cedar Lane",
            "Harbor Drive",
            "Washington Street",
            "Lakeview Road",
            "Market Street",
            "Sunset Boulevard",
            "Pine Ridge Road",
            "Mill Creek Way",
            "Franklin Avenue",
            "2nd Avenue",
        ],
        number_first: true,
        cities: &[
            city("Seattle", "WA", &["98101", "98104", "98109", "98122"], "+1 (206) 555-01##"),
            city("Portland", "OR", &["97201", "97205", "97214"], "+1 (503) 555-01##"),
            city("Austin", "TX", &["78701", "78704", "78731"], "+1 (512) 555-01##"),
            city("Denver", "CO", &["80202", "80205", "80211"], "+1 (303) 555-01##"),
            city("Chicago", "IL", &["60601", "60607", "60614"], "+1 (312) 555-01##"),
            city("Boston", "MA", &["02108", "02116", "02127"], "+1 (617) 555-01##"),
            city("Atlanta", "GA", &["30303", "30308", "30312"], "+1 (404) 555-01##"),
            city("Minneapolis", "MN", &["55401", "55403", "55408"], "+1 (612) 555-01##"),
        ],
    },
    Country {
        name: "United Kingdom",
        people: &ENGLISH,
        streets: &[
            "High Street",
            "Station Road",
            "Church Lane",
            "Victoria Road",
            "Mill Lane",
            "Queen Street",
            "Albert Street",
            "Castle Street",
            "Bridge Street",
            "Park Crescent",
            "The Green",
            "Orchard Close",
        ],
        number_first: true,
        cities: &[
            city("London", "Greater London", &["EC1V 9BD", "SE1 7TP", "N1 9GU", "W1T 3JH"], "+44 20 7946 0###"),
            city("Manchester", "Greater Manchester", &["M1 2HN", "M4 5JD", "M15 4FN"], "+44 161 496 0###"),
            city("Leeds", "West Yorkshire", &["LS1 4AP", "LS2 7EW", "LS6 3AA"], "+44 113 496 0###"),
            city("Bristol", "Bristol", &["BS1 5TR", "BS8 1TH"], "+44 117 496 0###"),
            city("Edinburgh", "Midlothian", &["EH1 1BB", "EH3 9QA", "EH6 6QU"], "+44 131 496 0###"),
            city("Cardiff", "South Glamorgan", &["CF10 3AT", "CF24 4HQ"], "+44 29 2018 0###"),
        ],
    },
    Country {
        name: "Germany",
        people: &GERMAN,
        streets: &[
            "Hauptstraße",
            "Bahnhofstraße",
            "Gartenweg",
            "Lindenallee",
            "Schillerstraße",
            "Goethestraße",
            "Bergstraße",
            "Am Markt",
            "Kastanienweg",
            "Rosenstraße",
            "Mühlenweg",
            "Hafenstraße",
        ],
        number_first: false,
        cities: &[
            city("Berlin", "Berlin", &["10115", "10405", "10827", "12043"], "+49 30 23125 ###"),
            city("Hamburg", "Hamburg", &["20095", "20357", "22765"], "+49 40 66969 ###"),
            city("München", "Bayern", &["80331", "80469", "81667"], "+49 89 99998 ###"),
            city("Köln", "Nordrhein-Westfalen", &["50667", "50823", "51063"], "+49 221 4710 ###"),
            city("Frankfurt am Main", "Hessen", &["60311", "60486", "60594"], "+49 69 90009 ###"),
        ],
    },
    Country {
        name: "France",
        people: &FRENCH,
        streets: &[
            "rue de la République",
            "avenue Victor-Hugo",
            "rue du Moulin",
            "place de l'Église",
            "rue Pasteur",
            "boulevard Gambetta",
            "rue des Lilas",
            "quai de la Gare",
            "rue Jean-Jaurès",
            "chemin des Vignes",
        ],
        number_first: true,
        cities: &[
            city("Paris", "Île-de-France", &["75002", "75011", "75014", "75018"], "+33 1 99 00 ## ##"),
            city("Nantes", "Pays de la Loire", &["44000", "44200"], "+33 2 61 91 ## ##"),
            city("Strasbourg", "Grand Est", &["67000", "67100"], "+33 3 53 01 ## ##"),
            city("Lyon", "Auvergne-Rhône-Alpes", &["69002", "69003", "69007"], "+33 4 65 71 ## ##"),
            city("Toulouse", "Occitanie", &["31000", "31300"], "+33 5 36 49 ## ##"),
        ],
    },
    Country {
        name: "Sweden",
        people: &SWEDISH,
        streets: &[
            "Storgatan",
            "Drottninggatan",
            "Kungsgatan",
            "Skolgatan",
            "Björkvägen",
            "Strandvägen",
            "Järnvägsgatan",
            "Kyrkogatan",
            "Hamngatan",
            "Lillgatan",
        ],
        number_first: false,
        cities: &[
            city("Stockholm", "Stockholms län", &["111 22", "113 30", "118 46"], "+46 8 465 004 ##"),
            city("Göteborg", "Västra Götalands län", &["411 06", "413 01"], "+46 31 390 06 ##"),
            city("Malmö", "Skåne län", &["211 22", "214 20"], "+46 40 628 04 ##"),
        ],
    },
    Country {
        name: "Australia",
        people: &ENGLISH,
        streets: &[
            "George Street",
            "Collins Street",
            "Ocean Parade",
            "Wattle Street",
            "Banksia Avenue",
            "King William Road",
            "Eucalyptus Drive",
            "Elizabeth Street",
        ],
        number_first: true,
        cities: &[
            city("Sydney", "NSW", &["2000", "2010", "2042"], "+61 2 5550 ####"),
            city("Melbourne", "VIC", &["3000", "3053", "3121"], "+61 3 5550 ####"),
            city("Brisbane", "QLD", &["4000", "4101"], "+61 7 5550 ####"),
            city("Perth", "WA", &["6000", "6005"], "+61 8 5550 ####"),
        ],
    },
];
