//! to_char and to_number for numbers: templates such as `FM999,990.00`.
//!
//! The rules are those of PostgreSQL: blanks before the first digit, one column for the sign unless FM, `#` when the
//! number is too long.
//!
//! Boundary: templates and decimal texts.

use arrow::array::{Decimal128Builder, StringBuilder};
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::logical_expr::{ColumnarValue, Expr, ScalarFunctionArgs, Volatility};

use super::DfResult;
use super::kernel::rows;
use super::native_with;
use super::registry::Build::{Native, With};
use super::registry::Spec;
use super::to_char::ordinal_ending;
use crate::error::{Error, ErrorKind, Result};

/// One item of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Item {
    Nine,
    Zero,
    Point,
    Comma,
    Currency,
    Minus,
    Plus,
    Sign,
    Ordinal {
        upper: bool,
    },
    Roman {
        upper: bool,
    },
    Text(String),
    /// Items that only set an option.
    Nothing,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Place {
    #[default]
    None,
    Before,
    After,
}

/// A template taken apart.
#[derive(Debug, Clone, Default)]
struct Template {
    items: Vec<Item>,
    /// Digits before and after the point.
    before: usize,
    after: usize,
    fill_mode: bool,
    decimal: bool,
    zero: bool,
    /// The digit at which zeros begin, from 1, and the last that is a zero.
    zero_start: usize,
    zero_end: usize,
    locale_sign: Place,
    sign_digits: usize,
    bracket: bool,
    minus: bool,
    plus: bool,
    roman: bool,
    /// Digits after V.
    shift: Option<usize>,
    exponent: bool,
}

fn syntax(message: &str) -> Error {
    Error::new(ErrorKind::Syntax, message)
}

impl Template {
    fn parse(text: &str) -> Result<Template> {
        const KEYWORDS: &[&str] = &["EEEE", "FM", "MI", "PL", "PR", "RN", "SG", "SP", "TH"];
        let mut t = Template::default();
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            if c == '"' {
                let (quoted, after) = rest[1..].split_once('"').unwrap_or((&rest[1..], ""));
                t.items.push(Item::Text(quoted.to_string()));
                rest = after;
                continue;
            }
            if c == '\\' && rest[1..].starts_with('"') {
                t.items.push(Item::Text("\"".to_string()));
                rest = &rest[2..];
                continue;
            }
            let keyword =
                KEYWORDS.iter().find(|k| rest.get(..k.len()).is_some_and(|r| r.eq_ignore_ascii_case(k)));
            let used = keyword.map_or(c.len_utf8(), |k| k.len());
            let upper = c.is_ascii_uppercase();
            let item = t.item(keyword.copied(), c, upper)?;
            t.items.push(item);
            rest = &rest[used..];
        }
        Ok(t)
    }

    fn item(&mut self, keyword: Option<&str>, c: char, upper: bool) -> Result<Item> {
        Ok(match (keyword, c) {
            (Some("FM"), _) => {
                self.fill_mode = true;
                Item::Nothing
            }
            (Some("MI"), _) => {
                self.minus = true;
                Item::Minus
            }
            (Some("PL"), _) => {
                self.plus = true;
                Item::Plus
            }
            (Some("SG"), _) => {
                (self.plus, self.minus) = (true, true);
                Item::Sign
            }
            (Some("PR"), _) => {
                if self.locale_sign != Place::None || self.plus || self.minus {
                    return Err(syntax("cannot use \"PR\" and \"S\"/\"PL\"/\"MI\"/\"SG\" together"));
                }
                self.bracket = true;
                Item::Nothing
            }
            (Some("RN"), _) => {
                self.roman = true;
                Item::Roman { upper }
            }
            (Some("TH"), _) => Item::Ordinal { upper },
            (Some("EEEE"), _) => {
                self.exponent = true;
                Item::Nothing
            }
            (Some(_), _) => Item::Nothing,
            (None, '9') => {
                if self.bracket {
                    return Err(syntax("\"9\" must be ahead of \"PR\""));
                }
                self.digit();
                Item::Nine
            }
            (None, '0') => {
                if self.bracket {
                    return Err(syntax("\"0\" must be ahead of \"PR\""));
                }
                if !self.zero && !self.decimal {
                    self.zero = true;
                    self.zero_start = self.before + 1;
                }
                self.digit();
                self.zero_end = self.before + self.after;
                Item::Zero
            }
            (None, '.' | 'D' | 'd') => {
                if self.decimal {
                    return Err(syntax("multiple decimal points"));
                }
                if self.shift.is_some() {
                    return Err(syntax("cannot use \"V\" and decimal point together"));
                }
                self.decimal = true;
                Item::Point
            }
            (None, ',' | 'G' | 'g') => Item::Comma,
            (None, 'L' | 'l') => Item::Currency,
            (None, 'S' | 's') => {
                if self.locale_sign != Place::None {
                    return Err(syntax("cannot use \"S\" twice"));
                }
                if self.plus || self.minus || self.bracket {
                    return Err(syntax("cannot use \"S\" and \"PL\"/\"MI\"/\"SG\"/\"PR\" together"));
                }
                self.locale_sign = if self.decimal { Place::After } else { Place::Before };
                self.sign_digits = self.before;
                Item::Nothing
            }
            (None, 'V' | 'v') => {
                if self.decimal {
                    return Err(syntax("cannot use \"V\" and decimal point together"));
                }
                self.shift = Some(0);
                Item::Nothing
            }
            (None, 'B' | 'b' | 'C' | 'c') => Item::Nothing,
            (None, c) => Item::Text(c.to_string()),
        })
    }

    fn digit(&mut self) {
        if let Some(n) = &mut self.shift {
            *n += 1;
        } else if self.decimal {
            self.after += 1;
        } else {
            self.before += 1;
        }
    }
}

/// A number as digits, with just the decimals the template shows.
struct Digits {
    negative: bool,
    text: String,
}

/// What is being written of one number.
struct Writer<'a> {
    t: &'a Template,
    number: &'a [u8],
    at: usize,
    /// The last decimal that FM keeps.
    last: Option<usize>,
    negative: bool,
    sign_wrote: bool,
    sign: Place,
    bracket: bool,
    spaces: usize,
    count: usize,
    current: usize,
    zero_start: usize,
    digit_wrote: bool,
    out: &'a mut String,
}

impl Writer<'_> {
    /// A blank instead of the zero before the point: `9.9` shows ` .1`.
    fn blank_zero(&self) -> bool {
        !self.t.zero && self.at == 0 && self.number.first() == Some(&b'0') && self.t.after != 0
    }

    fn last_is_point(&self) -> bool {
        self.last.is_some_and(|l| self.number.get(l) == Some(&b'.'))
    }

    fn sign_character(&self) -> char {
        if self.negative { '-' } else { '+' }
    }

    fn write_sign(&mut self) {
        let due = self.current >= self.spaces || (self.t.zero && self.zero_start == self.current);
        if self.sign_wrote || !due || (self.blank_zero() && !self.last_is_point()) {
            return;
        }
        if self.t.locale_sign != Place::None {
            if self.sign == Place::Before {
                self.out.push(self.sign_character());
                self.sign_wrote = true;
            }
        } else if self.bracket {
            self.out.push(if self.negative { '<' } else { ' ' });
            self.sign_wrote = true;
        } else if !self.negative {
            if !self.t.fill_mode {
                self.out.push(' ');
            }
            self.sign_wrote = true;
        } else {
            self.out.push('-');
            self.sign_wrote = true;
        }
    }

    /// A digit or the point.
    fn part(&mut self, is_zero: bool) {
        self.digit_wrote = false;
        self.write_sign();
        if self.current < self.spaces && (self.zero_start > self.current || !self.t.zero) {
            if !self.t.fill_mode {
                self.out.push(' ');
            }
        } else if self.t.zero && self.current < self.spaces && self.zero_start <= self.current {
            self.out.push('0');
            self.digit_wrote = true;
        } else {
            match self.number.get(self.at) {
                Some(b'.') => {
                    if !self.last_is_point() || self.t.fill_mode {
                        self.out.push('.');
                    }
                }
                digit => {
                    if self.last.is_some_and(|l| self.at > l) && !is_zero {
                    } else if self.blank_zero() {
                        if !self.t.fill_mode {
                            self.out.push(' ');
                        } else if self.last_is_point() {
                            self.out.push('0');
                        }
                    } else if let Some(d) = digit {
                        self.out.push(char::from(*d));
                        self.digit_wrote = true;
                    }
                }
            }
            if self.at < self.number.len() {
                self.at += 1;
            }
        }
        let mut end = self.count + usize::from(self.spaces > 0) + usize::from(self.t.decimal);
        if self.last == Some(self.at) {
            end = self.current;
        }
        if self.current + 1 == end {
            if self.sign_wrote && self.bracket {
                self.out.push(if self.negative { '>' } else { ' ' });
            } else if self.t.locale_sign != Place::None && self.sign == Place::After {
                self.out.push(self.sign_character());
            }
        }
        self.current += 1;
    }
}

/// Writes a number by a template.
fn write(t: &Template, digits: &Digits, roman: Option<i64>, out: &mut String) {
    if t.roman {
        let text =
            roman.filter(|n| (1..=3999).contains(n)).map_or_else(|| "###############".to_string(), to_roman);
        let lower = t.items.iter().any(|i| matches!(i, Item::Roman { upper: false }));
        let text = if lower { text.to_lowercase() } else { text };
        for item in &t.items {
            match item {
                Item::Roman { .. } if t.fill_mode => out.push_str(&text),
                Item::Roman { .. } => out.push_str(&format!("{text:>15}")),
                Item::Text(text) => out.push_str(text),
                _ => {}
            }
        }
        return;
    }
    let before = t.before + t.shift.unwrap_or(0);
    let whole = digits.text.find('.').unwrap_or(digits.text.len());
    let overflow: String;
    let (number, spaces) = if whole > before {
        let mut hashes = vec![b'#'; before + t.after + 1];
        hashes[before] = b'.';
        overflow = String::from_utf8_lossy(&hashes).into_owned();
        (overflow.as_bytes(), 0)
    } else {
        (digits.text.as_bytes(), before - whole)
    };
    let signs = t.plus || t.minus;
    let mut last = None;
    if t.fill_mode && t.decimal {
        last = number.iter().position(|b| *b == b'.').map(|point| {
            let kept = (point + 1..number.len()).rev().find(|i| number[*i] != b'0').unwrap_or(point);
            if t.zero_end > spaces { kept.max((number.len() - 1).min(t.zero_end - spaces)) } else { kept }
        });
    }
    let sign_wrote = signs || (!digits.negative && t.fill_mode && t.locale_sign == Place::None);
    let sign = if !signs && t.locale_sign == Place::Before && t.before == t.sign_digits && t.sign_digits > 0 {
        Place::After
    } else {
        t.locale_sign
    };
    let bracket = t.bracket && (digits.negative || !t.fill_mode);
    // PL alone still needs a sign for negative numbers.
    let sign_wrote = if t.plus && !t.minus { false } else { sign_wrote };
    let mut count = (t.after + before).wrapping_sub(1);
    if !sign_wrote && spaces == 0 {
        count = count.wrapping_add(1);
    }
    let mut w = Writer {
        t,
        number,
        at: 0,
        last,
        negative: digits.negative,
        sign_wrote,
        sign,
        bracket,
        spaces,
        count,
        current: 0,
        zero_start: t.zero_start.saturating_sub(1),
        digit_wrote: false,
        out,
    };
    for item in &t.items {
        match item {
            Item::Nine | Item::Point => w.part(false),
            Item::Zero => w.part(true),
            Item::Comma => {
                if w.digit_wrote {
                    w.out.push(',');
                } else if !t.fill_mode {
                    w.out.push(' ');
                }
            }
            Item::Currency => w.out.push(' '),
            Item::Minus => {
                if digits.negative {
                    w.out.push('-');
                } else if !t.fill_mode {
                    w.out.push(' ');
                }
            }
            Item::Plus => {
                if !digits.negative {
                    w.out.push('+');
                } else if !t.fill_mode {
                    w.out.push(' ');
                }
            }
            Item::Sign => w.out.push(if digits.negative { '-' } else { '+' }),
            Item::Ordinal { upper } => {
                if !digits.negative && !t.decimal && number.first() != Some(&b'#') {
                    let text = std::str::from_utf8(number).unwrap_or_default();
                    w.out.push_str(ordinal_ending(text, *upper));
                }
            }
            Item::Text(text) => w.out.push_str(text),
            Item::Roman { .. } | Item::Nothing => {}
        }
    }
}

fn to_roman(n: i64) -> String {
    const STEPS: [(i64, &str); 13] = [
        (1000, "M"),
        (900, "CM"),
        (500, "D"),
        (400, "CD"),
        (100, "C"),
        (90, "XC"),
        (50, "L"),
        (40, "XL"),
        (10, "X"),
        (9, "IX"),
        (5, "V"),
        (4, "IV"),
        (1, "I"),
    ];
    let (mut n, mut out) = (n, String::new());
    for (value, text) in STEPS {
        while n >= value {
            out.push_str(text);
            n -= value;
        }
    }
    out
}

/// A decimal as digits with so many decimals, rounded half away from zero.
fn decimal_digits(value: i128, scale: i8, decimals: usize) -> Digits {
    let (mut v, scale) = (value.unsigned_abs(), usize::from(scale.max(0).unsigned_abs()));
    if decimals < scale {
        let cut = 10u128.pow((scale - decimals) as u32);
        v = v / cut + u128::from(v % cut * 2 >= cut);
    }
    let mut text = v.to_string();
    if decimals > scale {
        text.extend(std::iter::repeat_n('0', decimals - scale));
    }
    if decimals > 0 {
        if text.len() <= decimals {
            text.insert_str(0, &"0".repeat(decimals + 1 - text.len()));
        }
        text.insert(text.len() - decimals, '.');
    }
    Digits { negative: value < 0 && text.bytes().any(|b| (b'1'..=b'9').contains(&b)), text }
}

/// A float as digits: fifteen are significant.
fn float_digits(value: f64, decimals: usize) -> Digits {
    let whole = format!("{:.0}", value.abs()).len();
    let decimals = if whole >= 15 { 0 } else { decimals.min(15 - whole) };
    let text = format!("{:.decimals$}", value.abs());
    Digits { negative: value < 0.0, text }
}

/// Scientific notation: `1.23e+04`.
fn exponent(value: f64, exact: Option<(i128, i8)>, decimals: usize, out: &mut String) {
    let (negative, text) = match exact {
        Some((v, scale)) => {
            // Exact digits, rounded half away from zero.
            let digits = v.unsigned_abs().to_string();
            let keep = decimals + 1;
            let mut power = digits.len() as i64 - 1 - i64::from(scale);
            let mut kept: u128 = if digits.len() > keep {
                let head: u128 = digits[..keep].parse().unwrap_or(0);
                head + u128::from(digits.as_bytes()[keep] >= b'5')
            } else {
                digits.parse::<u128>().unwrap_or(0) * 10u128.pow((keep - digits.len()) as u32)
            };
            if kept >= 10u128.pow(keep as u32) {
                kept /= 10;
                power += 1;
            }
            if v == 0 {
                power = 0;
            }
            let mut mantissa = kept.to_string();
            mantissa.insert_str(0, &"0".repeat(keep.saturating_sub(mantissa.len())));
            if decimals > 0 {
                mantissa.insert(1, '.');
            }
            (v < 0, format!("{mantissa}e{}{:02}", if power < 0 { '-' } else { '+' }, power.abs()))
        }
        None => {
            let text = format!("{:.decimals$e}", value.abs());
            let (mantissa, power) = text.split_once('e').unwrap_or((&text, "0"));
            let power: i64 = power.parse().unwrap_or(0);
            (value < 0.0, format!("{mantissa}e{}{:02}", if power < 0 { '-' } else { '+' }, power.abs()))
        }
    };
    out.push(if negative { '-' } else { ' ' });
    out.push_str(&text);
}

/// The template of the last row, taken apart.
#[derive(Default)]
struct Templates {
    text: Option<String>,
    template: Template,
}

impl Templates {
    fn get(&mut self, text: &str) -> Result<&Template> {
        if self.text.as_deref() != Some(text) {
            self.template = Template::parse(text)?;
            self.text = Some(text.to_string());
        }
        Ok(&self.template)
    }
}

fn exact(t: &Template, value: i128, scale: i8, out: &mut String) {
    if t.exponent {
        return exponent(0.0, Some((value, scale)), t.after, out);
    }
    let value = match t.shift {
        Some(n) => value.saturating_mul(10i128.pow(n.min(37) as u32)),
        None => value,
    };
    let roman =
        t.roman.then(|| decimal_digits(value, scale, 0).text.parse().unwrap_or(0) * value.signum() as i64);
    write(t, &decimal_digits(value, scale, t.after), roman, out);
}

fn of_int4(args: &ScalarFunctionArgs, result: &DataType) -> DfResult<ColumnarValue> {
    let (mut templates, mut buffer) = (Templates::default(), String::new());
    rows!(args, result, out = StringBuilder::new(), (v: Int4, t: Text) {
        buffer.clear();
        exact(templates.get(t)?, v.into(), 0, &mut buffer);
        out.append_value(&buffer);
    })
}

fn of_int8(args: &ScalarFunctionArgs, result: &DataType) -> DfResult<ColumnarValue> {
    let (mut templates, mut buffer) = (Templates::default(), String::new());
    rows!(args, result, out = StringBuilder::new(), (v: Int8, t: Text) {
        buffer.clear();
        exact(templates.get(t)?, v.into(), 0, &mut buffer);
        out.append_value(&buffer);
    })
}

fn of_numeric(args: &ScalarFunctionArgs, result: &DataType) -> DfResult<ColumnarValue> {
    let scale = match args.args[0].data_type() {
        DataType::Decimal128(_, s) => s,
        _ => 0,
    };
    let (mut templates, mut buffer) = (Templates::default(), String::new());
    rows!(args, result, out = StringBuilder::new(), (v: Number, t: Text) {
        buffer.clear();
        exact(templates.get(t)?, v, scale, &mut buffer);
        out.append_value(&buffer);
    })
}

fn of_float(args: &ScalarFunctionArgs, result: &DataType) -> DfResult<ColumnarValue> {
    let (mut templates, mut buffer) = (Templates::default(), String::new());
    rows!(args, result, out = StringBuilder::new(), (v: Float8, t: Text) {
        buffer.clear();
        let t = templates.get(t)?;
        if !v.is_finite() {
            let hashes = "#".repeat(t.before.max(1));
            let tail = if t.after > 0 { format!(".{}", "#".repeat(t.after)) } else { String::new() };
            buffer.push_str(&format!("{}{hashes}{tail}", if t.fill_mode { "" } else { " " }));
        } else if t.exponent {
            exponent(v, None, t.after, &mut buffer);
        } else {
            let shifted = t.shift.map_or(v, |n| v * 10f64.powi(n as i32));
            let roman = t.roman.then(|| shifted.round_ties_even() as i64);
            write(t, &float_digits(shifted, t.after), roman, &mut buffer);
        }
        out.append_value(&buffer);
    })
}

/// to_number(text, template): the scale is the template's.
fn to_number(args: Vec<Expr>, _: &[FieldRef], _: &str) -> Result<Expr> {
    let scale = match args.get(1) {
        Some(Expr::Literal(v, _)) => match v.try_as_str().flatten() {
            Some(text) => {
                let t = Template::parse(text)?;
                t.after + t.shift.unwrap_or(0)
            }
            None => 0,
        },
        _ => return Err(Error::unsupported("to_number needs a constant template")),
    };
    let scale = i8::try_from(scale.min(37)).unwrap_or(37);
    let field = Field::new("", DataType::Decimal128(38, scale), true);
    Ok(native_with("to_number", field, read_number, Volatility::Immutable, args))
}

fn read_number(args: &ScalarFunctionArgs, result: &DataType) -> DfResult<ColumnarValue> {
    let scale = match result {
        DataType::Decimal128(_, s) => usize::from(s.unsigned_abs()),
        _ => 0,
    };
    let mut templates = Templates::default();
    rows!(args, result, out = Decimal128Builder::new(), (text: Text, t: Text) {
        let t = templates.get(t)?;
        let (mut whole, mut fraction) = (String::new(), String::new());
        let (mut negative, mut point) = (false, false);
        for c in text.chars() {
            match c {
                '0'..='9' if point => fraction.push(c),
                '0'..='9' => whole.push(c),
                '.' if t.decimal => point = true,
                '-' => negative = true,
                '<' if t.bracket => negative = true,
                _ => {}
            }
        }
        if whole.is_empty() && fraction.is_empty() {
            Err(Error::new(ErrorKind::InvalidText, format!("invalid input syntax for type numeric: \"{}\"", if text.trim().is_empty() { " " } else { text })))?;
        }
        if let Some(n) = t.shift {
            let at = whole.len().saturating_sub(n);
            fraction = whole.split_off(at);
        }
        fraction.truncate(scale);
        while fraction.len() < scale {
            fraction.push('0');
        }
        let v: i128 = format!("0{whole}{fraction}")
            .parse()
            .ok()
            .filter(|v: &i128| v.unsigned_abs() < 10u128.pow(38))
            .ok_or_else(|| Error::new(ErrorKind::NumericOutOfRange, "numeric field overflow"))?;
        out.append_value(if negative { -v } else { v });
    })
}

/// The functions with their signatures.
pub const SPECS: &[Spec] = &[
    ("to_char(int4,text)->text", Native(of_int4), "the number in the form of a template"),
    ("to_char(int8,text)->text", Native(of_int8), "the number in the form of a template"),
    ("to_char(numeric,text)->text", Native(of_numeric), "the number in the form of a template"),
    ("to_char(float8,text)->text", Native(of_float), "the number in the form of a template"),
    ("to_number(text,text)->numeric", With(to_number), "number of a text in the form of a template"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_take_the_form_of_templates() {
        let show = |v: i128, scale: i8, t: &str| {
            let mut out = String::new();
            exact(&Template::parse(t).unwrap(), v, scale, &mut out);
            out
        };
        for (v, s, t, expected) in [
            (-12, 0, "999", " -12"),
            (485, 0, "999", " 485"),
            (1, 1, "9.99", "  .10"),
            (1, 1, "0.99", " 0.10"),
            (1, 1, "FM9.99", ".1"),
            (1485, 1, "999.999", " 148.500"),
            (1485, 1, "FM999.999", "148.5"),
            (1485, 0, "9,999", " 1,485"),
            (485, 0, "9,999", "   485"),
            (-485, 0, "999S", "485-"),
            (-485, 0, "999MI", "485-"),
            (-485, 0, "999PR", "<485>"),
            (485, 0, "SG999", "+485"),
            (482, 0, "999th", " 482nd"),
            (485, 0, "RN", "        CDLXXXV"),
            (1, 0, "FM00009", "00001"),
            (123456, 0, "999", " ###"),
            (12_454, 3, "99V9", " 125"),
        ] {
            assert_eq!(show(v, s, t), expected, "{t}");
        }
    }
}
