//! Where the writes of a simulation come from, by the names under which people ask for them.

use std::fmt;
use std::str::FromStr;

use super::load::{Load, Overwrites, Pattern};
use super::{Files, TreeAndFile};

/// A kind of load, for a volume of any size.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Source {
    Overwrites(Pattern),
    Files,
    /// Beside a tree of small files of this share of the volume, which is written once.
    Tree(Pattern, f64),
}

/// What [`Source`] can be called.
pub const GRAMMAR: &str = "uniform, circular, files, zipf:THETA, hotcold:TRAFFIC/SPACE, shifting:TRAFFIC/SPACE/PERIOD, \
     drifting:THETA/SPACE/PERIOD, tenants:THETA/ZIPF%/CIRCULAR%, tree:SHARE+LOAD";

impl Source {
    /// The load on a volume of `blocks` blocks.
    pub fn load(&self, blocks: u32, seed: u64) -> Box<dyn Load> {
        match *self {
            Self::Overwrites(pattern) => Box::new(Overwrites::new(blocks, pattern, seed)),
            Self::Files => Box::new(Files::new(blocks, seed)),
            Self::Tree(pattern, share) => Box::new(TreeAndFile::new(blocks, share, pattern, seed)),
        }
    }

    /// Of `blocks` blocks those that are in use when the load has reached its steady state. A volume of files is about four fifths full.
    pub fn live_blocks(&self, blocks: u32) -> u32 {
        if *self == Self::Files { blocks / 5 * 4 } else { blocks }
    }
}

/// A name of a load that says nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no load {0:?}; there are {GRAMMAR}; shares lie between 0 and 1, a period is in volumes written")]
pub struct UnknownLoad(String);

/// A load whose name is known, on a volume of so many blocks: periods are counted in blocks from there on.
#[derive(Clone, Debug, PartialEq)]
pub struct NamedSource {
    pub name: String,
    kind: Kind,
}

#[derive(Clone, Debug, PartialEq)]
enum Kind {
    Plain(Source),
    Shifting { traffic: f64, space: f64, periods: f64 },
    Drifting { theta: f64, space: f64, periods: f64 },
    Tree(f64, Box<NamedSource>),
}

impl NamedSource {
    /// The source for a volume of `blocks` blocks.
    pub fn of(&self, blocks: u32) -> Source {
        let period = |periods: f64| (f64::from(blocks) * periods).max(1.0) as u64;
        match self.kind {
            Kind::Plain(source) => source,
            Kind::Shifting { traffic, space, periods } => {
                Source::Overwrites(Pattern::Shifting { traffic, space, period: period(periods) })
            }
            Kind::Drifting { theta, space, periods } => {
                Source::Overwrites(Pattern::Drifting { theta, space, period: period(periods) })
            }
            Kind::Tree(share, ref beside) => match beside.of(blocks) {
                Source::Overwrites(pattern) => Source::Tree(pattern, share),
                // Refused when the name was read.
                other => other,
            },
        }
    }
}

impl FromStr for NamedSource {
    type Err = UnknownLoad;

    fn from_str(text: &str) -> Result<Self, UnknownLoad> {
        let kind = kind(text).ok_or_else(|| UnknownLoad(text.to_owned()))?;
        Ok(Self { name: text.to_owned(), kind })
    }
}

impl fmt::Display for NamedSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

fn kind(text: &str) -> Option<Kind> {
    let (word, numbers) = text.split_once(':').unwrap_or((text, ""));
    if word == "tree" {
        let (share, beside) = numbers.split_once('+')?;
        let (share, beside): (f64, NamedSource) = (share.parse().ok()?, beside.parse().ok()?);
        let overwrites = matches!(beside.of(1), Source::Overwrites(_));
        return (is_share(share) && overwrites).then(|| Kind::Tree(share, Box::new(beside)));
    }
    let numbers: Vec<f64> =
        numbers.split('/').filter(|n| !n.is_empty()).map(str::parse).collect::<Result<_, _>>().ok()?;
    let plain = |pattern| Some(Kind::Plain(Source::Overwrites(pattern)));
    match (word, numbers[..].as_ref()) {
        ("uniform", []) => plain(Pattern::Uniform),
        ("circular", []) => plain(Pattern::Circular),
        ("files", []) => Some(Kind::Plain(Source::Files)),
        ("zipf", &[theta]) if is_theta(theta) => plain(Pattern::Zipf(theta)),
        ("hotcold", &[traffic, space]) if is_share(traffic) && is_share(space) => {
            plain(Pattern::HotCold { traffic, space })
        }
        ("shifting", &[traffic, space, periods]) if is_share(traffic) && is_share(space) && periods > 0.0 => {
            Some(Kind::Shifting { traffic, space, periods })
        }
        ("drifting", &[theta, space, periods])
            if is_theta(theta) && (is_share(space) || space == 1.0) && periods > 0.0 =>
        {
            Some(Kind::Drifting { theta, space, periods })
        }
        ("tenants", &[theta, skewed, circular]) if is_theta(theta) && skewed + circular <= 100.0 => {
            let percent = [skewed as u32, circular as u32, (100.0 - skewed - circular) as u32];
            plain(Pattern::Tenants { theta, percent })
        }
        _ => None,
    }
}

fn is_share(share: f64) -> bool {
    share > 0.0 && share < 1.0
}

fn is_theta(theta: f64) -> bool {
    (0.0..=4.0).contains(&theta)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_and_periods_follow_the_volume() {
        let source = |text: &str| text.parse::<NamedSource>().map(|s| s.of(1000));
        assert_eq!(source("zipf:0.9"), Ok(Source::Overwrites(Pattern::Zipf(0.9))));
        let shifting = Pattern::Shifting { traffic: 0.9, space: 0.1, period: 1500 };
        assert_eq!(source("shifting:0.9/0.1/1.5"), Ok(Source::Overwrites(shifting)));
        let tenants = Pattern::Tenants { theta: 1.0, percent: [60, 30, 10] };
        assert_eq!(source("tree:0.25+tenants:1/60/30"), Ok(Source::Tree(tenants, 0.25)));
        for wrong in ["", "zipf", "zipf:x", "hotcold:0.9", "hotcold:2/0.1", "tree:0.5+files", "tree:0.5", "uniform:1"] {
            assert!(source(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn every_source_has_a_load_of_its_size() {
        for text in ["uniform", "files", "tree:0.25+zipf:1", "drifting:0.99/0.75/0.015", "circular"] {
            let source = text.parse::<NamedSource>().map(|s| s.of(8192)).unwrap_or(Source::Files);
            assert_eq!(source.load(8192, 1).blocks(), 8192, "{text}");
        }
    }
}
