//! Options of WITH and ENCODE: reading them, and refusing what nobody reads.
//!
//! Boundary: names and values as text; what an option does is its connector's or format's business.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::Duration;

use crate::config::parse_duration_micros;
use crate::error::{Error, ErrorKind, Result};

/// The options of a connector or format, with the words for errors about them.
#[derive(Debug, Clone, Copy)]
pub struct Options<'a> {
    of: &'a str,
    values: &'a BTreeMap<String, String>,
}

impl<'a> Options<'a> {
    /// The options of `of` ("connector \"file\"", "format csv").
    pub fn new(of: &'a str, values: &'a BTreeMap<String, String>) -> Self {
        Options { of, values }
    }

    /// Refuses every option that is not in `known`, naming the nearest known one. A known name that ends with
    /// a point stands for all names that begin so.
    pub fn refuse_unknown(&self, known: &[&str]) -> Result<()> {
        let is_known =
            |name: &str| known.iter().any(|k| *k == name || (k.ends_with('.') && name.starts_with(k)));
        match self.values.keys().find(|name| !is_known(name)) {
            None => Ok(()),
            Some(name) => {
                let e =
                    Error::new(ErrorKind::InvalidParameter, format!("{} has no option \"{name}\"", self.of));
                Err(match nearest(name, known) {
                    Some(n) => e.with_hint(format!("Perhaps you meant \"{n}\".")),
                    None => e.with_hint(format!("Its options are: {}.", known.join(", "))),
                })
            }
        }
    }

    /// The text of an option.
    pub fn get(&self, name: &str) -> Option<&'a str> {
        self.values.get(name).map(String::as_str)
    }

    /// The text of an option that must be there.
    pub fn require(&self, name: &str) -> Result<&'a str> {
        self.get(name).ok_or_else(|| {
            Error::new(ErrorKind::InvalidParameter, format!("{} requires the option \"{name}\"", self.of))
        })
    }

    /// A number, or whatever else reads itself from text.
    pub fn parse<T: FromStr>(&self, name: &str, what: &str) -> Result<Option<T>> {
        match self.get(name) {
            None => Ok(None),
            Some(text) => text.trim().parse().map(Some).map_err(|_| self.invalid(name, text, what)),
        }
    }

    /// A whole number greater than zero.
    pub fn positive(&self, name: &str) -> Result<Option<u64>> {
        match self.parse::<u64>(name, "a whole number greater than zero")? {
            Some(0) => Err(self.invalid(name, "0", "a whole number greater than zero")),
            other => Ok(other),
        }
    }

    /// true or false.
    pub fn bool(&self, name: &str) -> Result<Option<bool>> {
        match self.get(name).map(|t| (t, t.trim().to_ascii_lowercase())) {
            None => Ok(None),
            Some((text, lower)) => match lower.as_str() {
                "true" | "t" | "on" | "yes" | "1" | "" => Ok(Some(true)),
                "false" | "f" | "off" | "no" | "0" => Ok(Some(false)),
                _ => Err(self.invalid(name, text, "true or false")),
            },
        }
    }

    /// A single byte of ASCII, for delimiters; `\t` is the tab.
    pub fn ascii(&self, name: &str) -> Result<Option<u8>> {
        match self.get(name) {
            None => Ok(None),
            Some("\\t" | "tab") => Ok(Some(b'\t')),
            Some(text) => match text.as_bytes() {
                [b] if b.is_ascii() && *b != b'\n' && *b != b'\r' => Ok(Some(*b)),
                _ => Err(self.invalid(name, text, "a single one-byte character")),
            },
        }
    }

    /// A length of time such as `500ms` or `2 seconds`.
    pub fn duration(&self, name: &str) -> Result<Option<Duration>> {
        match self.get(name) {
            None => Ok(None),
            Some(text) => parse_duration_micros(text)
                .and_then(|us| u64::try_from(us).ok())
                .map(|us| Some(Duration::from_micros(us)))
                .ok_or_else(|| self.invalid(name, text, "a time such as 500ms or 2s")),
        }
    }

    /// The error for a value that an option cannot take.
    pub fn invalid(&self, name: &str, value: &str, what: &str) -> Error {
        Error::new(ErrorKind::InvalidParameter, format!("invalid value for option \"{name}\": \"{value}\""))
            .with_detail(format!("The option \"{name}\" of {} is {what}.", self.of))
    }
}

/// The name out of `known` that is most like `name`, if one is like it at all.
pub fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    let first = |s: &str| s.chars().next();
    let (distance, _, best) =
        known.iter().map(|k| (edit_distance(name, k), first(name) != first(k), *k)).min()?;
    (distance <= 1 + name.len().min(best.len()) / 3).then_some(best)
}

/// Levenshtein's distance, by one row of the table.
fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(ca != *cb);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_option_is_refused_with_the_nearest_known_one() {
        let values = BTreeMap::from([("paht".to_string(), "x".to_string())]);
        let options = Options::new("connector \"file\"", &values);
        let e = options.refuse_unknown(&["path", "follow"]).expect_err("unknown");
        assert_eq!(e.kind(), ErrorKind::InvalidParameter);
        assert_eq!(e.message(), "connector \"file\" has no option \"paht\"");
        assert_eq!(e.hint(), Some("Perhaps you meant \"path\"."));
        assert_eq!(nearest("zzzz", &["path", "follow"]), None);
        let e = options.require("path").expect_err("missing");
        assert_eq!(e.message(), "connector \"file\" requires the option \"path\"");
    }

    #[test]
    fn values_are_checked() {
        let values: BTreeMap<String, String> =
            [("n", "0"), ("b", "perhaps"), ("d", ";;"), ("t", "\\t"), ("w", "1.5s")]
                .map(|(k, v)| (k.to_string(), v.to_string()))
                .into();
        let o = Options::new("x", &values);
        assert!(o.positive("n").is_err() && o.bool("b").is_err() && o.ascii("d").is_err());
        assert_eq!(o.ascii("t").expect("tab"), Some(b'\t'));
        assert_eq!(o.duration("w").expect("time"), Some(Duration::from_millis(1500)));
        assert_eq!(o.positive("absent").expect("absent"), None);
    }
}
