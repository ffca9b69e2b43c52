//! Numbers and texts from their spelling.

use std::borrow::Cow;

use super::tree::Value;

/// What a spelling is not, and why.
pub(super) type LiteralError = &'static str;

/// The value of a number token.
pub(super) fn number(spelling: &str) -> Result<Value<'static>, LiteralError> {
    let (negative, unsigned) = match spelling.as_bytes().first() {
        Some(b'-') => (true, spelling.get(1..).unwrap_or_default()),
        Some(b'+') => (false, spelling.get(1..).unwrap_or_default()),
        _ => (false, spelling),
    };
    if let Some(value) = named_float(unsigned) {
        return Ok(Value::Float(if negative { -value } else { value }));
    }
    let (base, digits) = match unsigned.get(..2) {
        Some("0x") => (16, unsigned.get(2..).unwrap_or_default()),
        Some("0o") => (8, unsigned.get(2..).unwrap_or_default()),
        Some("0b") => (2, unsigned.get(2..).unwrap_or_default()),
        _ => (10, unsigned),
    };
    let float = base == 10 && digits.contains(['.', 'e', 'E', 'f']);
    if float {
        return decimal_float(digits)
            .map(|value| Value::Float(if negative { -value } else { value }));
    }
    let (digits, suffix) = match digits.find(['i', 'u']) {
        Some(at) => digits.split_at(at),
        None => (digits, ""),
    };
    if digits.is_empty() {
        return Err("a number needs at least one digit");
    }
    if digits.starts_with('_') {
        return Err("a number may not start with `_`");
    }
    let magnitude = integer(digits, base)?;
    let Some(value) = magnitude.and_then(|n| i128::try_from(n).ok()) else {
        // As in RON, what is beyond every integer type is a float.
        return match (base, suffix) {
            (10, "") => decimal_float(digits)
                .map(|value| Value::Float(if negative { -value } else { value })),
            _ => Err(TOO_LARGE),
        };
    };
    let value = if negative { -value } else { value };
    match fits(value, suffix) {
        None => Err("unknown suffix of a number; `u8` to `u128` and `i8` to `i128` exist"),
        Some(false) => Err("this number does not fit the type its suffix names"),
        Some(true) => Ok(Value::Integer(value)),
    }
}

/// The digits as a number; none when it is too large.
fn integer(digits: &str, base: u32) -> Result<Option<u128>, LiteralError> {
    let mut sum = Some(0_u128);
    for digit in digits.chars().filter(|c| *c != '_') {
        let digit = digit.to_digit(base).ok_or(NOT_A_DIGIT)?;
        sum = sum.and_then(|sum| sum.checked_mul(base.into())?.checked_add(digit.into()));
    }
    Ok(sum)
}

const NOT_A_DIGIT: LiteralError = "this is not a number: a digit does not belong to its base";
const TOO_LARGE: LiteralError = "this number is too large";

fn fits(value: i128, suffix: &str) -> Option<bool> {
    Some(match suffix {
        "" | "i128" => true,
        "u128" => value >= 0,
        "u8" => u8::try_from(value).is_ok(),
        "u16" => u16::try_from(value).is_ok(),
        "u32" => u32::try_from(value).is_ok(),
        "u64" => u64::try_from(value).is_ok(),
        "i8" => i8::try_from(value).is_ok(),
        "i16" => i16::try_from(value).is_ok(),
        "i32" => i32::try_from(value).is_ok(),
        "i64" => i64::try_from(value).is_ok(),
        _ => return None,
    })
}

/// `inf` and `NaN`, with or without the width.
pub(super) fn named_float(text: &str) -> Option<f64> {
    match text {
        "inf" | "inff32" | "inff64" => Some(f64::INFINITY),
        "NaN" | "NaNf32" | "NaNf64" => Some(f64::NAN),
        _ => None,
    }
}

fn decimal_float(text: &str) -> Result<f64, LiteralError> {
    let text = (text.strip_suffix("f32"))
        .or_else(|| text.strip_suffix("f64"))
        .unwrap_or(text);
    if text.starts_with('_') || text.contains("._") {
        return Err("a number may not start with `_`");
    }
    let plain: String = text.chars().filter(|c| *c != '_').collect();
    let shape = |c: char| c.is_ascii_digit() || matches!(c, '.' | 'e' | 'E' | '+' | '-');
    if !plain.chars().all(shape) {
        return Err(NOT_A_DIGIT);
    }
    plain.parse().map_err(|_| "this is not a number")
}

/// The content of a `Text` token.
pub(super) fn text(spelling: &str) -> Result<Cow<'_, str>, LiteralError> {
    if let Some(raw) = spelling.strip_prefix('r') {
        let hashes = raw.find('"').unwrap_or(0);
        let inner = raw.get(hashes + 1..raw.len().saturating_sub(hashes + 1));
        return Ok(Cow::Borrowed(inner.unwrap_or_default()));
    }
    let inner = spelling
        .get(1..spelling.len().saturating_sub(1))
        .unwrap_or_default();
    if !inner.contains('\\') {
        return Ok(Cow::Borrowed(inner));
    }
    let bytes = unescape(inner, Width::Text)?;
    String::from_utf8(bytes)
        .map(Cow::Owned)
        .map_err(|_| NOT_UTF8)
}

/// Checks the content of a `Bytes` token; the description has no use for its value.
pub(super) fn bytes(spelling: &str) -> Result<(), LiteralError> {
    let spelling = spelling.get(1..).unwrap_or_default();
    if !spelling.starts_with('r') {
        let inner = spelling
            .get(1..spelling.len().saturating_sub(1))
            .unwrap_or_default();
        unescape(inner, Width::Bytes)?;
    }
    Ok(())
}

/// The character of a `Char` token.
pub(super) fn char(spelling: &str) -> Result<char, LiteralError> {
    let inner = spelling
        .get(1..spelling.len().saturating_sub(1))
        .unwrap_or_default();
    let unescaped;
    let inner = if inner.starts_with('\\') {
        if inner.starts_with("\\\n") || inner.starts_with("\\\r\n") {
            return Err(UNKNOWN_ESCAPE);
        }
        unescaped = String::from_utf8(unescape(inner, Width::Text)?).map_err(|_| NOT_UTF8)?;
        unescaped.as_str()
    } else {
        inner
    };
    let mut chars = inner.chars();
    match (chars.next(), chars.next()) {
        (Some(c), None) => Ok(c),
        _ => Err("a character in `'` is one character"),
    }
}

/// The value of a `Byte` token.
pub(super) fn byte(spelling: &str) -> Result<u8, LiteralError> {
    let inner = spelling
        .get(2..spelling.len().saturating_sub(1))
        .unwrap_or_default();
    let bytes = match inner.strip_prefix('\\') {
        Some(escape) if escape.starts_with('u') => return Err("a byte has no Unicode escape"),
        Some(_) => unescape(inner, Width::Bytes)?,
        None => inner.as_bytes().to_vec(),
    };
    match bytes.as_slice() {
        [byte] => Ok(*byte),
        _ => Err("a byte in `b'` is one ASCII character"),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Width {
    Text,
    Bytes,
}

const NOT_UTF8: LiteralError = "the `\\x` escapes do not make a Unicode character";
const UNKNOWN_ESCAPE: LiteralError = "unknown escape; `\\n`, `\\r`, `\\t`, `\\0`, `\\\\`, `\\\"`, `\\'`, `\\x41` and `\\u{1F600}` exist";

fn unescape(inner: &str, width: Width) -> Result<Vec<u8>, LiteralError> {
    let mut out = Vec::with_capacity(inner.len());
    let mut rest = inner;
    while let Some(at) = rest.find('\\') {
        let (plain, escape) = rest.split_at(at);
        out.extend_from_slice(plain.as_bytes());
        rest = one_escape(escape.get(1..).unwrap_or_default(), width, &mut out)?;
    }
    out.extend_from_slice(rest.as_bytes());
    Ok(out)
}

/// Decodes one escape, given what follows its backslash; returns what follows the escape.
fn one_escape<'s>(
    escape: &'s str,
    width: Width,
    out: &mut Vec<u8>,
) -> Result<&'s str, LiteralError> {
    let mut chars = escape.chars();
    let kind = chars.next().ok_or(UNKNOWN_ESCAPE)?;
    let rest = chars.as_str();
    let simple = match kind {
        '\'' => b'\'',
        '"' => b'"',
        '\\' => b'\\',
        'n' => b'\n',
        'r' => b'\r',
        't' => b'\t',
        '0' => 0,
        '\n' => return Ok(continuation(rest)),
        '\r' if rest.starts_with('\n') => return Ok(continuation(rest)),
        'x' => return hex_escape(rest, width, out),
        'u' => return unicode_escape(rest, out),
        _ => return Err(UNKNOWN_ESCAPE),
    };
    out.push(simple);
    Ok(rest)
}

fn continuation(rest: &str) -> &str {
    rest.trim_start_matches(['\n', '\r', '\t', ' '])
}

fn hex_pair(text: &str) -> Result<(u8, &str), LiteralError> {
    const SHORT: LiteralError = "`\\x` is followed by two hexadecimal digits";
    let digits = text.get(..2).ok_or(SHORT)?;
    if !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(SHORT);
    }
    let byte = u8::from_str_radix(digits, 16).map_err(|_| SHORT)?;
    Ok((byte, text.get(2..).unwrap_or_default()))
}

/// In a text, `\x` escapes from 80 upwards spell one UTF-8 character together.
fn hex_escape<'s>(text: &'s str, width: Width, out: &mut Vec<u8>) -> Result<&'s str, LiteralError> {
    let (byte, mut rest) = hex_pair(text)?;
    out.push(byte);
    if width == Width::Bytes || byte.is_ascii() {
        return Ok(rest);
    }
    let start = out.len() - 1;
    for _ in 0..3 {
        let (byte, after) = hex_pair(rest.strip_prefix("\\x").ok_or(NOT_UTF8)?)?;
        out.push(byte);
        rest = after;
        if out
            .get(start..)
            .is_some_and(|bytes| std::str::from_utf8(bytes).is_ok())
        {
            return Ok(rest);
        }
    }
    Err(NOT_UTF8)
}

fn unicode_escape<'s>(text: &'s str, out: &mut Vec<u8>) -> Result<&'s str, LiteralError> {
    const SHAPE: LiteralError = "`\\u` is followed by 1 to 6 hexadecimal digits in `{}`";
    let (digits, rest) = text
        .strip_prefix('{')
        .and_then(|t| t.split_once('}'))
        .ok_or(SHAPE)?;
    if !(1..=6).contains(&digits.len()) || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(SHAPE);
    }
    let code = u32::from_str_radix(digits, 16).map_err(|_| SHAPE)?;
    let c = char::from_u32(code).ok_or("this is not the number of a Unicode character")?;
    out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
    Ok(rest)
}
