//! The Nexmark generator: events by number, straight into Arrow columns.
//!
//! Event n is a pure function of seed and n, so that any range can be made at any time, in any batches. In every
//! round of 50 events the first is a person, three are auctions and 46 are bids; sellers, bidders and auctions are
//! skewed towards hot ones, and row widths and value distributions follow the Nexmark of Apache Beam and Flink.
//!
//! Boundary: no pacing, no offsets, no options; usable alone for benchmarks.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, TimestampMicrosecondArray};

use super::Table;
use super::text::{CITIES, FIRST_NAMES, LAST_NAMES, STATES, TextColumn, Words};
use crate::error::{Error, ErrorKind, Result};

/// Events after which the pattern of kinds repeats.
pub const EVENTS_PER_ROUND: u64 = 50;
const AUCTIONS_PER_ROUND: u64 = 3;
const FIRST_BID: u64 = 4;

const FIRST_PERSON_ID: i64 = 1000;
const FIRST_AUCTION_ID: i64 = 1000;
const FIRST_CATEGORY_ID: i64 = 10;
const CATEGORIES: u64 = 5;
/// Persons who are still active, and how far ahead an id may run.
const ACTIVE_PEOPLE: u64 = 1000;
const PERSON_ID_LEAD: u64 = 10;
const AUCTION_ID_LEAD: u64 = 10;
const IN_FLIGHT_AUCTIONS: u64 = 100;
/// Every hundredth person and auction is the hot one of its hundred.
const HOT_STRIDE: u64 = 100;
/// One in so many goes to a cold one.
const HOT_SELLER_RATIO: u64 = 4;
const HOT_BIDDER_RATIO: u64 = 4;
const HOT_AUCTION_RATIO: u64 = 2;
const PERSON_BYTES: usize = 200;
const AUCTION_BYTES: usize = 500;
const BID_BYTES: usize = 100;

/// What the generator makes.
#[derive(Debug, Clone, PartialEq)]
pub struct GeneratorConfig {
    /// Same seed, same events.
    pub seed: u64,
    /// Event time of event 0, µs since 1970.
    pub base_time: i64,
    /// Events per second of event time, over all three kinds.
    pub event_rate: u64,
}

impl Default for GeneratorConfig {
    fn default() -> Self {
        // 2015-07-15 00:00:00, the original's base time.
        GeneratorConfig { seed: 0, base_time: 1_436_918_400_000_000, event_rate: 10_000 }
    }
}

/// The rows of a range of events.
#[derive(Debug, Clone)]
pub struct NexmarkBatches {
    /// Its persons.
    pub person: RecordBatch,
    /// Its auctions.
    pub auction: RecordBatch,
    /// Its bids.
    pub bid: RecordBatch,
}

/// Makes events by their numbers.
pub struct Generator {
    config: GeneratorConfig,
    words: Words,
    prices: Vec<f64>,
}

/// A stream of random numbers that belongs to one event (splitmix64).
pub(super) struct Random(u64);

impl Random {
    /// The stream of event `n`.
    #[inline]
    pub(super) fn at(seed: u64, n: u64) -> Self {
        Random(mix(seed ^ mix(n.wrapping_add(0x9e37_79b9_7f4a_7c15))))
    }
    #[inline]
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }
    /// A number from 0 to n-1; 0 if n is 0.
    #[inline]
    pub(super) fn below(&mut self, n: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(n)) >> 64) as u64
    }
}

#[inline]
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

const PRICE_STEPS: usize = 4096;

impl Generator {
    /// A generator; making one costs about a millisecond, for its words.
    pub fn new(config: GeneratorConfig) -> Self {
        // Prices are 10^x dollars for x from 0 to 6, in cents; a table with interpolation replaces the power.
        let prices =
            (0..=PRICE_STEPS).map(|i| 100.0 * 10f64.powf(6.0 * i as f64 / PRICE_STEPS as f64)).collect();
        Generator { words: Words::new(config.seed), prices, config }
    }

    /// The rows of all three kinds among these events.
    pub fn generate(&self, events: Range<u64>) -> Result<NexmarkBatches> {
        Ok(NexmarkBatches {
            person: self.persons(events.clone())?,
            auction: self.auctions(events.clone())?,
            bid: self.bids(events)?,
        })
    }

    /// The rows of one kind among these events.
    pub fn generate_table(&self, table: Table, events: Range<u64>) -> Result<RecordBatch> {
        match table {
            Table::Person => self.persons(events),
            Table::Auction => self.auctions(events),
            Table::Bid => self.bids(events),
        }
    }

    /// The event time of event `n`, exactly: whole numbers all the way.
    #[inline]
    pub fn event_time(&self, n: u64) -> i64 {
        let micros = u128::from(n) * 1_000_000 / u128::from(self.config.event_rate);
        self.config.base_time.wrapping_add(micros as i64)
    }

    #[inline]
    fn price(&self, random: &mut Random) -> i64 {
        let x = random.next();
        let i = (x >> 52) as usize;
        let fraction = ((x >> 20) & 0xffff_ffff) as f64 / 4_294_967_296.0;
        (self.prices[i] + (self.prices[i + 1] - self.prices[i]) * fraction).round() as i64
    }

    fn persons(&self, events: Range<u64>) -> Result<RecordBatch> {
        let numbers = kind_range(&events, 0, 1)?;
        let n = numbers.len();
        let (mut id, mut time) = (Vec::with_capacity(n), Vec::with_capacity(n));
        let mut name = TextColumn::with_capacity(n, 16);
        let mut email = TextColumn::with_capacity(n, 16);
        let mut card = TextColumn::with_capacity(n, 20);
        let mut city = TextColumn::with_capacity(n, 12);
        let mut state = TextColumn::with_capacity(n, 2);
        let mut extra = TextColumn::with_capacity(n, 140);
        for event in numbers {
            let mut r = Random::at(self.config.seed, event);
            id.push(FIRST_PERSON_ID + last_person(event) as i64);
            name.add(pick(FIRST_NAMES, &mut r));
            name.add(b" ");
            name.add(pick(LAST_NAMES, &mut r));
            let mut width = 8 + name.end();
            email.add(self.word(7, &mut r));
            email.add(b"@");
            email.add(self.word(5, &mut r));
            email.add(b".com");
            width += email.end();
            let mut digits = [b' '; 19];
            for group in 0..4 {
                let mut v = r.below(10_000);
                for place in (0..4).rev() {
                    digits[group * 5 + place] = b'0' + (v % 10) as u8;
                    v /= 10;
                }
            }
            width += card.push(&digits);
            width += city.push(pick(CITIES, &mut r));
            width += state.push(pick(STATES, &mut r));
            time.push(self.event_time(event));
            extra.push(self.words.extra(width, PERSON_BYTES, &mut r));
        }
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from(id)),
            name.finish()?,
            email.finish()?,
            card.finish()?,
            city.finish()?,
            state.finish()?,
            Arc::new(TimestampMicrosecondArray::from(time)),
            extra.finish()?,
        ];
        Ok(RecordBatch::try_new(Table::Person.schema(), columns)?)
    }

    /// A word of 3 to `max` letters without spaces at its ends: for addresses.
    fn word(&self, max: usize, r: &mut Random) -> &[u8] {
        loop {
            let w = self.words.up_to(max, r);
            if !w.contains(&b' ') {
                return w;
            }
        }
    }

    fn auctions(&self, events: Range<u64>) -> Result<RecordBatch> {
        let numbers = kind_range(&events, 1, FIRST_BID)?;
        let n = numbers.len();
        let longs = || Vec::<i64>::with_capacity(n);
        let (mut id, mut initial, mut reserve, mut time) = (longs(), longs(), longs(), longs());
        let (mut expires, mut seller, mut category) = (longs(), longs(), longs());
        let mut item = TextColumn::with_capacity(n, 12);
        let mut description = TextColumn::with_capacity(n, 52);
        let mut extra = TextColumn::with_capacity(n, 400);
        for event in numbers {
            let mut r = Random::at(self.config.seed, event);
            id.push(FIRST_AUCTION_ID + last_auction(event) as i64);
            let hot = r.below(HOT_SELLER_RATIO) > 0;
            let person =
                if hot { last_person(event) / HOT_STRIDE * HOT_STRIDE } else { some_person(event, &mut r) };
            seller.push(FIRST_PERSON_ID + person as i64);
            category.push(FIRST_CATEGORY_ID + r.below(CATEGORIES) as i64);
            let bid = self.price(&mut r);
            initial.push(bid);
            reserve.push(bid + self.price(&mut r));
            let now = self.event_time(event);
            time.push(now);
            expires.push(now + self.auction_length(event, &mut r));
            let width = 56
                + item.push(self.words.up_to(20, &mut r))
                + description.push(self.words.up_to(100, &mut r));
            extra.push(self.words.extra(width, AUCTION_BYTES, &mut r));
        }
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from(id)),
            item.finish()?,
            description.finish()?,
            Arc::new(Int64Array::from(initial)),
            Arc::new(Int64Array::from(reserve)),
            Arc::new(TimestampMicrosecondArray::from(time)),
            Arc::new(TimestampMicrosecondArray::from(expires)),
            Arc::new(Int64Array::from(seller)),
            Arc::new(Int64Array::from(category)),
            extra.finish()?,
        ];
        Ok(RecordBatch::try_new(Table::Auction.schema(), columns)?)
    }

    /// How long an auction is open, in µs: so that about [`IN_FLIGHT_AUCTIONS`] are open at a time.
    fn auction_length(&self, event: u64, r: &mut Random) -> i64 {
        let ahead = IN_FLIGHT_AUCTIONS * EVENTS_PER_ROUND / AUCTIONS_PER_ROUND;
        let horizon_ms = (self.event_time(event + ahead) - self.event_time(event)) / 1000;
        (1 + r.below((horizon_ms * 2).max(1) as u64) as i64) * 1000
    }

    fn bids(&self, events: Range<u64>) -> Result<RecordBatch> {
        let numbers = kind_range(&events, FIRST_BID, EVENTS_PER_ROUND)?;
        let n = numbers.len();
        let longs = || Vec::<i64>::with_capacity(n);
        let (mut auction, mut bidder, mut price, mut time) = (longs(), longs(), longs(), longs());
        let mut channel = TextColumn::with_capacity(n, 12);
        let mut url = TextColumn::with_capacity(n, 72);
        let mut extra = TextColumn::with_capacity(n, 84);
        for event in numbers {
            let mut r = Random::at(self.config.seed, event);
            let last = last_auction(event);
            let chosen = if r.below(HOT_AUCTION_RATIO) > 0 {
                last / HOT_STRIDE * HOT_STRIDE
            } else {
                let first = last.saturating_sub(IN_FLIGHT_AUCTIONS);
                first + r.below(last - first + 1 + AUCTION_ID_LEAD)
            };
            auction.push(FIRST_AUCTION_ID + chosen as i64);
            let person = if r.below(HOT_BIDDER_RATIO) > 0 {
                last_person(event) / HOT_STRIDE * HOT_STRIDE + 1
            } else {
                some_person(event, &mut r)
            };
            bidder.push(FIRST_PERSON_ID + person as i64);
            price.push(self.price(&mut r));
            time.push(self.event_time(event));
            let (name, address) = self.words.channel(&mut r);
            channel.push(name);
            url.push(address);
            extra.push(self.words.extra(32, BID_BYTES, &mut r));
        }
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from(auction)),
            Arc::new(Int64Array::from(bidder)),
            Arc::new(Int64Array::from(price)),
            channel.finish()?,
            url.finish()?,
            Arc::new(TimestampMicrosecondArray::from(time)),
            extra.finish()?,
        ];
        Ok(RecordBatch::try_new(Table::Bid.schema(), columns)?)
    }
}

/// The events of a range whose place within their round is from `first` to `end - 1`.
struct KindRange {
    next: u64,
    stop: u64,
    first: u64,
    end: u64,
    left: usize,
}

fn kind_range(events: &Range<u64>, first: u64, end: u64) -> Result<KindRange> {
    // Offsets of text columns are 32 bits wide, and a text is at most some 600 bytes.
    const MOST: u64 = 2_500_000;
    if events.end > 1 << 56 {
        return Err(Error::new(
            ErrorKind::ProgramLimit,
            format!("event {} is beyond the last one", events.end),
        ));
    }
    let before =
        |n: u64| n / EVENTS_PER_ROUND * (end - first) + (n % EVENTS_PER_ROUND).clamp(first, end) - first;
    let left = before(events.end.max(events.start)) - before(events.start);
    if left > MOST {
        return Err(Error::new(ErrorKind::ProgramLimit, format!("more than {MOST} rows in one batch")));
    }
    Ok(KindRange { next: events.start, stop: events.end, first, end, left: left as usize })
}

impl KindRange {
    fn len(&self) -> usize {
        self.left
    }
}

impl Iterator for KindRange {
    type Item = u64;
    #[inline]
    fn next(&mut self) -> Option<u64> {
        let place = self.next % EVENTS_PER_ROUND;
        if place < self.first {
            self.next += self.first - place;
        } else if place >= self.end {
            self.next += EVENTS_PER_ROUND - place + self.first;
        }
        if self.next >= self.stop {
            return None;
        }
        self.next += 1;
        Some(self.next - 1)
    }
}

/// Number of the last person made up to this event.
#[inline]
fn last_person(event: u64) -> u64 {
    event / EVENTS_PER_ROUND
}

/// Number of the last auction made up to this event (0 before the first).
#[inline]
fn last_auction(event: u64) -> u64 {
    let (round, place) = (event / EVENTS_PER_ROUND, event % EVENTS_PER_ROUND);
    (round * AUCTIONS_PER_ROUND + place.min(AUCTIONS_PER_ROUND)).saturating_sub(1)
}

/// One of the active persons, or of those who are about to come.
#[inline]
fn some_person(event: u64, r: &mut Random) -> u64 {
    let people = last_person(event) + 1;
    let active = people.min(ACTIVE_PEOPLE);
    people - active + r.below(active + PERSON_ID_LEAD)
}

fn pick<'a>(words: &[&'a str], r: &mut Random) -> &'a [u8] {
    words[r.below(words.len() as u64) as usize].as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Array, AsArray, cast::as_string_array};
    use arrow::compute::concat_batches;
    use arrow::datatypes::Int64Type;

    fn longs(b: &RecordBatch, name: &str) -> Vec<i64> {
        b.column_by_name(name).expect("column").as_primitive::<Int64Type>().values().to_vec()
    }

    #[test]
    fn kinds_come_in_their_proportion() {
        let g = Generator::new(GeneratorConfig::default());
        let b = g.generate(0..5000).expect("generated");
        assert_eq!((b.person.num_rows(), b.auction.num_rows(), b.bid.num_rows()), (100, 300, 4600));
        assert_eq!(longs(&b.person, "id"), (1000..1100).collect::<Vec<_>>());
        assert_eq!(longs(&b.auction, "id"), (1000..1300).collect::<Vec<_>>());
    }

    #[test]
    fn events_do_not_depend_on_how_they_are_batched() {
        let g = Generator::new(GeneratorConfig { seed: 7, ..GeneratorConfig::default() });
        let whole = g.generate(3..1003).expect("generated");
        let parts: Vec<NexmarkBatches> = [3..4, 4..60, 60..60, 60..61, 61..1003]
            .into_iter()
            .map(|r| {
                Generator::new(GeneratorConfig { seed: 7, ..GeneratorConfig::default() })
                    .generate(r)
                    .expect("part")
            })
            .collect();
        let join = |f: fn(&NexmarkBatches) -> &RecordBatch| {
            concat_batches(&f(&whole).schema(), parts.iter().map(f)).expect("concat")
        };
        assert_eq!(whole.bid, join(|b| &b.bid));
        assert_eq!(whole.auction, join(|b| &b.auction));
        assert_eq!(whole.person, join(|b| &b.person));
        let other = Generator::new(GeneratorConfig { seed: 8, ..GeneratorConfig::default() });
        assert_ne!(whole.bid, other.generate(3..1003).expect("generated").bid);
    }

    #[test]
    fn hot_ones_are_as_frequent_as_in_the_original() {
        let g = Generator::new(GeneratorConfig::default());
        let b = g.generate(1_000_000..1_200_000).expect("generated");
        let share = |values: Vec<i64>, hot: fn(i64) -> bool| {
            values.iter().filter(|v| hot(**v)).count() as f64 / values.len() as f64
        };
        assert!((share(longs(&b.bid, "auction"), |a| a % 100 == 0) - 0.505).abs() < 0.02);
        assert!((share(longs(&b.bid, "bidder"), |p| p % 100 == 1) - 0.7525).abs() < 0.02);
        assert!((share(longs(&b.auction, "seller"), |p| p % 100 == 0) - 0.7525).abs() < 0.02);
        assert!(longs(&b.bid, "price").iter().all(|p| (100..=100_000_000).contains(p)));
        assert!(longs(&b.auction, "category").iter().all(|c| (10..15).contains(c)));
    }

    #[test]
    fn text_is_what_the_queries_look_for() {
        let g = Generator::new(GeneratorConfig::default());
        let b = g.generate(0..100_000).expect("generated");
        let state = as_string_array(b.person.column_by_name("state").expect("state"));
        for s in ["OR", "ID", "CA"] {
            assert!(state.iter().flatten().any(|v| v == s), "{s}");
        }
        let urls = as_string_array(b.bid.column_by_name("url").expect("url"));
        assert!(
            urls.iter()
                .flatten()
                .all(|u| u.split('/').count() == 7 && u.starts_with("https://www.nexmark.com/"))
        );
        assert!(urls.iter().flatten().any(|u| u.contains("channel_id=")));
        let channels = as_string_array(b.bid.column_by_name("channel").expect("channel"));
        let hot = channels
            .iter()
            .flatten()
            .filter(|c| ["Apple", "Google", "Facebook", "Baidu"].contains(c))
            .count();
        assert!((hot as f64 / channels.len() as f64 - 0.5).abs() < 0.02);
        let extra = as_string_array(b.bid.column_by_name("extra").expect("extra"));
        let mean = extra.iter().flatten().map(str::len).sum::<usize>() / extra.len();
        assert!((66..=70).contains(&mean), "{mean}");
    }

    #[test]
    fn event_time_is_exact_far_into_the_stream() {
        let g = Generator::new(GeneratorConfig { event_rate: 3, base_time: 0, seed: 0 });
        assert_eq!(g.event_time(3_000_000_000), 1_000_000_000_000_000);
        assert_eq!(g.event_time(3_000_000_001), 1_000_000_000_333_333);
        assert!(g.generate(0..10_000_000).is_err());
    }
}
