//! The words of Nexmark, and columns of text built from pieces without an allocation per value.
//!
//! Boundary: bytes only.

use std::sync::Arc;

use arrow::array::{ArrayRef, StringArray};
use arrow::buffer::{Buffer, OffsetBuffer, ScalarBuffer};

use super::generator::Random;
use crate::error::Result;

pub(super) const FIRST_NAMES: &[&str] =
    &["Peter", "Paul", "Luke", "John", "Saul", "Vicky", "Kate", "Julie", "Sarah", "Deiter", "Walter"];
pub(super) const LAST_NAMES: &[&str] =
    &["Shultz", "Abrams", "Spencer", "White", "Bartels", "Walton", "Smith", "Jones", "Noris"];
pub(super) const CITIES: &[&str] = &[
    "Phoenix",
    "Los Angeles",
    "San Francisco",
    "Boise",
    "Portland",
    "Bend",
    "Redmond",
    "Seattle",
    "Kent",
    "Cheyenne",
];
/// Upper case, as the queries compare them.
pub(super) const STATES: &[&str] = &["AZ", "CA", "ID", "OR", "WA", "WY"];
const HOT_CHANNELS: &[&str] = &["Google", "Facebook", "Baidu", "Apple"];
const COLD_CHANNELS: usize = 10_000;
const POOL: usize = 1 << 16;

/// A column of text in the making.
pub(super) struct TextColumn {
    data: Vec<u8>,
    offsets: Vec<i32>,
}

impl TextColumn {
    pub(super) fn with_capacity(rows: usize, width: usize) -> Self {
        let mut offsets = Vec::with_capacity(rows + 1);
        offsets.push(0);
        TextColumn { data: Vec::with_capacity(rows * width), offsets }
    }
    /// Adds to the value that is being built; gives the bytes it has now.
    #[inline]
    pub(super) fn add(&mut self, piece: &[u8]) {
        self.data.extend_from_slice(piece);
    }
    /// Ends the value; gives its length.
    #[inline]
    pub(super) fn end(&mut self) -> usize {
        let before = self.offsets[self.offsets.len() - 1];
        self.offsets.push(self.data.len() as i32);
        self.data.len() - before as usize
    }
    /// A value of one piece.
    #[inline]
    pub(super) fn push(&mut self, value: &[u8]) -> usize {
        self.add(value);
        self.end()
    }
    pub(super) fn finish(self) -> Result<ArrayRef> {
        let offsets = OffsetBuffer::new(ScalarBuffer::from(self.offsets));
        Ok(Arc::new(StringArray::try_new(offsets, Buffer::from_vec(self.data), None)?))
    }
}

/// Random text and the channels, made once per generator.
pub(super) struct Words {
    pool: Vec<u8>,
    /// (channel, url) pieces: hot ones first.
    channels: Vec<u8>,
    /// Begin of channel, begin of url, end of url.
    bounds: Vec<(u32, u32, u32)>,
}

impl Words {
    pub(super) fn new(seed: u64) -> Self {
        let mut random = Random::at(seed, u64::MAX);
        // One letter in thirteen is a space, as in the original's text.
        let pool = (0..POOL).map(|_| letter(&mut random, b' ')).collect();
        let mut words = Words { pool, channels: Vec::new(), bounds: Vec::new() };
        for name in HOT_CHANNELS {
            words.add_channel(name, None, &mut random);
        }
        for i in 0..COLD_CHANNELS {
            // Nine in ten urls carry the channel's number, scattered over its whole range.
            let id = (random.below(10) > 0).then(|| (i as i32).reverse_bits().unsigned_abs());
            words.add_channel(&format!("channel-{i}"), id, &mut random);
        }
        words
    }

    fn add_channel(&mut self, name: &str, id: Option<u32>, random: &mut Random) {
        let begin = self.channels.len() as u32;
        self.channels.extend_from_slice(name.as_bytes());
        let url = self.channels.len() as u32;
        self.channels.extend_from_slice(b"https://www.nexmark.com/");
        for _ in 0..3 {
            let length = 3 + random.below(3);
            for _ in 0..length {
                let c = letter(random, b'_');
                self.channels.push(c);
            }
            self.channels.push(b'/');
        }
        self.channels.extend_from_slice(b"item.htm?query=1");
        if let Some(id) = id {
            self.channels.extend_from_slice(format!("&channel_id={id}").as_bytes());
        }
        self.bounds.push((begin, url, self.channels.len() as u32));
    }

    /// A channel and its url: every second one out of the four hot ones.
    #[inline]
    pub(super) fn channel(&self, random: &mut Random) -> (&[u8], &[u8]) {
        let i = if random.below(2) > 0 {
            random.below(HOT_CHANNELS.len() as u64)
        } else {
            HOT_CHANNELS.len() as u64 + random.below(COLD_CHANNELS as u64)
        };
        let (begin, url, end) = self.bounds[i as usize];
        (&self.channels[begin as usize..url as usize], &self.channels[url as usize..end as usize])
    }

    /// Text of exactly this length.
    #[inline]
    pub(super) fn exactly(&self, length: usize, random: &mut Random) -> &[u8] {
        let at = random.below((POOL - length) as u64) as usize;
        &self.pool[at..at + length]
    }

    /// Text of 3 to `max` characters.
    #[inline]
    pub(super) fn up_to(&self, max: usize, random: &mut Random) -> &[u8] {
        let length = 3 + random.below((max - 3 + 1) as u64) as usize;
        self.exactly(length, random)
    }

    /// What fills a row of `current` bytes up to an average of `wanted`, give or take a fifth of the difference.
    #[inline]
    pub(super) fn extra(&self, current: usize, wanted: usize, random: &mut Random) -> &[u8] {
        if current >= wanted {
            return &[];
        }
        let missing = wanted - current;
        let delta = (missing + 2) / 5;
        let length = missing - delta + random.below(2 * delta as u64 + 1) as usize;
        self.exactly(length, random)
    }
}

fn letter(random: &mut Random, special: u8) -> u8 {
    if random.below(13) == 0 { special } else { b'a' + random.below(26) as u8 }
}
