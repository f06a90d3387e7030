//! The order of a list, as clients ask for it: `?sort=-createdAt,lastName`.

use serde::de::value::StrDeserializer;
use serde::de::{DeserializeOwned, Error};
use serde::{Deserialize, Deserializer};

/// The most keys of an order.
const MOST: usize = 3;

/// A word that a list can be sorted by.
pub trait SortWord: Copy + DeserializeOwned {
    /// What it means, whichever way round.
    type Key: Copy + PartialEq;

    /// The key, and whether the greatest comes first.
    fn key(self) -> (Self::Key, bool);
}

/// Words in the order in which they count: at most three, none of them of the same key as another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sorting<W>(Vec<W>);

impl<W: SortWord> Sorting<W> {
    /// The keys, and whether the greatest of each comes first. There is at least one.
    pub fn keys(&self) -> Vec<(W::Key, bool)> {
        self.0.iter().map(|word| word.key()).collect()
    }
}

impl<W: SortWord + Default> Default for Sorting<W> {
    fn default() -> Self {
        Self(vec![W::default()])
    }
}

impl<W: SortWord + std::fmt::Debug> Sorting<W> {
    /// One text for equal orders, another one for different ones: to bind a cursor to.
    pub fn canonical(&self) -> String {
        format!("{:?}", self.0)
    }
}

impl<'de, W: SortWord> Deserialize<'de> for Sorting<W> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let mut words: Vec<W> = Vec::new();
        for word in text.split(',') {
            let word = W::deserialize(StrDeserializer::<D::Error>::new(word))?;
            if words.len() == MOST {
                return Err(D::Error::custom(format!("At most {MOST} keys.")));
            }
            if words.iter().any(|earlier| earlier.key().0 == word.key().0) {
                return Err(D::Error::custom("Each key once."));
            }
            words.push(word);
        }
        Ok(Self(words))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
    enum Word {
        #[serde(rename = "a")]
        A,
        #[serde(rename = "-a")]
        ADesc,
        #[serde(rename = "b")]
        B,
        #[serde(rename = "c")]
        C,
        #[serde(rename = "d")]
        D,
    }

    impl SortWord for Word {
        type Key = char;

        fn key(self) -> (char, bool) {
            match self {
                Self::A => ('a', false),
                Self::ADesc => ('a', true),
                Self::B => ('b', false),
                Self::C => ('c', false),
                Self::D => ('d', false),
            }
        }
    }

    #[test]
    fn keys_count_in_their_order_and_once() {
        let read = |text: &str| serde_json::from_value::<Sorting<Word>>(text.into()).map(|sorting| sorting.keys());
        assert_eq!(read("b,-a").unwrap(), [('b', false), ('a', true)]);
        assert_eq!(read("c").unwrap(), [('c', false)]);
        for bad in ["", ",", "a,", "a,-a", "e", "a, b", "a,b,c,d"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
