//! Secrets that stay out of texts: keys and tokens that a foreign text may repeat, as it is or in some encoding.

use std::collections::HashSet;
use std::fmt;
use std::ops::Range;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};

/// [character] -- Minimum length of a secret that is hidden. Shorter ones are placeholders for local servers, such as `EMPTY`:
/// hiding them would hide ordinary words.
const SECRET_CHARS_MIN: usize = 8;

/// [character] -- Length from which a secret reads like nothing else, so that it is looked for everywhere. A shorter one may be an
/// ordinary word, such as `localhost`, and is hidden where it stands as a word of its own.
const LONG_CHARS_MIN: usize = 16;

/// [character] -- Length of the shortest part of a long secret that is hidden: others may have cut the text that has it.
const PART_CHARS_MIN: usize = 12;

/// [character] -- Length of the shortest part of a long secret's base64 or hexadecimal digits that is hidden.
const ENCODED_CHARS_MIN: usize = 20;

/// Number of encodings that may lie over each other, such as JSON within JSON.
const LEVELS: usize = 3;

/// Replacement of a secret in texts.
const HIDDEN: &str = "(hidden)";

/// A key or token.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretText(String);

impl SecretText {
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Returns the secret itself, for the one header that it belongs in.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Returns `text` without the secret and without long parts of it.
    ///
    /// It is found in any case of its letters, with spaces, line breaks and control characters in between, and in the escapes
    /// of JSON, URLs and HTML, and as base64 or hexadecimal digits. A secret of under 16 characters is found as a whole and exact
    /// word only, in the same escapes, and one of under 8 nowhere: both may be ordinary words.
    ///
    /// # Examples
    ///
    /// ```
    /// use fedreplay::store::SecretText;
    ///
    /// let key = SecretText::new("sk-AbCd/0123456789");
    /// assert_eq!(key.hide_in("bad key sk-AbCd/0123456789!"), "bad key (hidden)!");
    /// assert_eq!(key.hide_in(r#"{"error": "bad key sk-AbCd\/0123456789"}"#), r#"{"error": "bad key (hidden)"}"#);
    /// ```
    pub fn hide_in(&self, text: &str) -> String {
        let mut secret: Vec<char> = self.0.chars().collect();
        if secret.len() < SECRET_CHARS_MIN {
            return text.to_owned();
        }
        let is_long = secret.len() >= LONG_CHARS_MIN;
        let mut length = secret.len();
        if is_long {
            secret.iter_mut().for_each(|c| *c = c.to_ascii_lowercase());
            length = PART_CHARS_MIN;
        }
        let search = Search { is_long, length, windows: secret.windows(length).collect() };
        let letters = text.char_indices().filter_map(|(at, c)| search.letter(c, at..at + c.len_utf8()));
        let mut letters: Vec<Letter> = letters.collect();
        let encoded = if is_long { encoded(self.0.as_bytes()) } else { vec![] };
        let windows = encoded.iter().flat_map(|form| form.windows(ENCODED_CHARS_MIN)).collect();
        let search_encoded = Search { is_long, length: ENCODED_CHARS_MIN, windows };
        let mut hidden = Vec::new();
        for _ in 0..LEVELS {
            search.mark(&letters, &mut hidden);
            search_encoded.mark(&letters, &mut hidden);
            let decoded = search.decoded(&letters);
            if decoded.len() == letters.len() {
                break;
            }
            letters = decoded;
        }
        replaced(text, hidden)
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}

/// A character, and the bytes of the text that stand for it.
#[derive(Clone)]
struct Letter {
    c: char,
    place: Range<usize>,
}

/// Whether a character may stand between those of a secret: a text that is wrapped or made safe has such characters.
fn is_between(c: char) -> bool {
    c.is_whitespace() || c.is_control() || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2060}' | '\u{feff}' | '\u{ad}')
}

/// Search for a secret.
struct Search<'a> {
    /// Whether it is found in any case, in parts, and with white space in between.
    is_long: bool,
    /// Length of the windows.
    length: usize,
    /// Parts of the secret that are looked for, or all of it.
    windows: HashSet<&'a [char]>,
}

impl Search<'_> {
    /// Returns the letter for a character as it is compared; `None` if it is skipped.
    fn letter(&self, c: char, place: Range<usize>) -> Option<Letter> {
        match self.is_long {
            true => (!is_between(c)).then(|| Letter { c: c.to_ascii_lowercase(), place }),
            false => Some(Letter { c, place }),
        }
    }

    /// Adds the places at which the letters read like the secret or a part of it.
    fn mark(&self, letters: &[Letter], hidden: &mut Vec<Range<usize>>) {
        let text: Vec<char> = letters.iter().map(|letter| letter.c).collect();
        for (at, window) in text.windows(self.length).enumerate() {
            let end = at + self.length;
            let is_inside_word = is_in_word(text[..at].last()) || is_in_word(text.get(end));
            if self.windows.contains(window) && (self.is_long || !is_inside_word) {
                hidden.push(letters[at].place.start..letters[end - 1].place.end);
            }
        }
    }

    /// Replaces the escapes of JSON (`\/`, `\u002b`, `\x2b`), URLs (`%2B`) and HTML (`&#43;`, `&#x2b;`, `&amp;`) by what they
    /// stand for.
    fn decoded(&self, letters: &[Letter]) -> Vec<Letter> {
        let mut found = Vec::with_capacity(letters.len());
        let mut rest = letters;
        while let Some(first) = rest.first() {
            let (c, count) = escape(rest).unwrap_or((first.c, 1));
            let place = first.place.start..rest[count - 1].place.end;
            // An escaped line break is one.
            found.extend(self.letter(c, place));
            rest = &rest[count..];
        }
        found
    }
}

/// Returns a secret in the encodings that headers and dumps have, in lower case: as hexadecimal digits, and as base64, in which it may
/// begin at each of the three places of a group.
fn encoded(secret: &[u8]) -> Vec<Vec<char>> {
    let mut forms = vec![secret.iter().map(|byte| format!("{byte:02x}")).collect::<String>()];
    for before in 0..3 {
        let shifted = [&[0; 2][..before], secret].concat();
        // Characters that also depend on the bytes around the secret are left out.
        let first = (before * 8).div_ceil(6);
        let last = shifted.len() * 8 / 6;
        forms.push(STANDARD_NO_PAD.encode(&shifted)[first..last].to_owned());
        forms.push(URL_SAFE_NO_PAD.encode(&shifted)[first..last].to_owned());
    }
    forms.iter().map(|form| form.to_ascii_lowercase().chars().collect()).collect()
}

/// Whether a character next to a short secret makes it a part of a longer word. Letters of scripts that write without spaces do not.
fn is_in_word(c: Option<&char>) -> bool {
    c.is_some_and(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'))
}

/// Returns the character that an escape at the beginning stands for, and the number of letters of the escape.
fn escape(letters: &[Letter]) -> Option<(char, usize)> {
    let at = |index: usize| letters.get(index).map(|letter| letter.c);
    let number = |from: usize, count: usize, radix: u32| {
        let digits: String = letters.get(from..from + count)?.iter().map(|letter| letter.c).collect();
        char::from_u32(u32::from_str_radix(&digits, radix).ok()?)
    };
    match (at(0)?, at(1)?) {
        ('\\', 'u') => Some((number(2, 4, 16)?, 6)),
        ('\\', 'x') => Some((number(2, 2, 16)?, 4)),
        ('\\', 'n' | 'r' | 't') => Some((' ', 2)),
        ('\\', c) if c.is_ascii_punctuation() => Some((c, 2)),
        ('%', _) => Some((number(1, 2, 16)?, 3)),
        ('&', _) => {
            // The longest name of HTML that a key needs is `&#x0002b;`.
            let end = letters.iter().take(10).position(|letter| letter.c == ';')?;
            let name: String = letters[1..end].iter().map(|letter| letter.c).collect();
            let c = match name.as_str() {
                "amp" => '&',
                "lt" => '<',
                "gt" => '>',
                "quot" => '"',
                "apos" => '\'',
                "sol" => '/',
                "plus" => '+',
                "equals" => '=',
                _ => {
                    let digits = name.strip_prefix('#')?;
                    match digits.strip_prefix('x') {
                        Some(digits) => char::from_u32(u32::from_str_radix(digits, 16).ok()?)?,
                        None => char::from_u32(digits.parse().ok()?)?,
                    }
                }
            };
            Some((c, end + 1))
        }
        _ => None,
    }
}

/// Returns the text with the places replaced; those that overlap are replaced once.
fn replaced(text: &str, mut places: Vec<Range<usize>>) -> String {
    places.sort_by_key(|place| place.start);
    let mut shown = String::with_capacity(text.len());
    let mut at = 0;
    for place in places {
        if place.start >= at {
            shown += &text[at..place.start];
            // A place that continues the last one, as parts of one secret do, is hidden with it.
            if !(shown.ends_with(HIDDEN) && place.start == at && at > 0) {
                shown += HIDDEN;
            }
        }
        at = at.max(place.end);
    }
    shown + &text[at..]
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "sk-proj-AbCdEfGhIjKlMnOpQrStUvWxYz0123456789/opq+=";

    #[track_caller]
    fn check(text: &str, expected: &str) {
        assert_eq!(SecretText::new(KEY).hide_in(text), expected);
    }

    #[test]
    fn a_secret_is_found_in_every_encoding() {
        let url: String = KEY.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let html: String = KEY.bytes().map(|byte| format!("&#{byte};")).collect();
        let hex: String = KEY.bytes().map(|byte| format!("&#x{byte:x};")).collect();
        let json: String = KEY.bytes().map(|byte| format!("\\u{byte:04x}")).collect();
        let spaced: String = KEY.chars().flat_map(|c| [c, ' ']).collect();
        let wrapped = format!("{}\n{}", &KEY[..20], &KEY[20..]);
        let split = format!("{}\u{200b}{}", &KEY[..20], &KEY[20..]);
        for text in [
            KEY.to_owned(),
            KEY.to_ascii_lowercase(),
            KEY.to_ascii_uppercase(),
            KEY.replace('/', "\\/"),
            KEY.replace('+', "\\u002b").replace('=', "\\u003D"),
            KEY.replace('+', "\\\\u002b"),
            KEY.replace('+', "%2B").replace('=', "%3d"),
            KEY.replace('+', "&#43;").replace('/', "&sol;"),
            KEY.replace('+', "&amp;#43;"),
            url,
            html,
            hex,
            json,
            wrapped,
            split,
        ] {
            check(&format!("bad key <{text}>."), "bad key <(hidden)>.");
        }
        check(&format!("key {}.", spaced.trim()), "key (hidden).");
        check(&format!("{KEY} and {KEY}"), "(hidden) and (hidden)");
    }

    #[test]
    fn a_secret_is_found_as_base64_and_as_hexadecimal_digits() {
        use base64::engine::general_purpose::STANDARD;

        let hidden = |text: &str| SecretText::new(KEY).hide_in(text);
        for before in ["", "u", "us", "user:", "Bearer "] {
            for engine in [&STANDARD, &URL_SAFE_NO_PAD] {
                let shown = hidden(&engine.encode(format!("{before}{KEY}:x")));
                let rest: String = shown.split(HIDDEN).collect();
                assert!(shown.contains(HIDDEN) && rest.len() < 16, "{before}: {shown}");
            }
        }
        let hex: String = KEY.bytes().map(|byte| format!("{byte:02X}")).collect();
        assert_eq!(hidden(&format!("<{hex}>")), "<(hidden)>");
        let other = STANDARD.encode("an ordinary text of some length, which is no secret");
        assert_eq!(hidden(&other), other);
    }

    #[test]
    fn a_part_of_a_secret_is_hidden_if_it_is_long() {
        check("known keys begin with sk-proj-", "known keys begin with sk-proj-");
        check(&format!("{}...", &KEY[..30]), "(hidden)...");
        check(&format!("...{}", &KEY[10..]), "...(hidden)");
        check(&format!("{}|{}", &KEY[..25], &KEY[25..]), "(hidden)|(hidden)");
        check(&format!("sk-proj-...{}", &KEY[KEY.len() - 4..]), "sk-proj-...pq+=");
    }

    #[test]
    fn other_texts_stay_as_they_are() {
        for text in ["", "é%", "\\", "\\u12", "&#;", "&", "100 % of &amp; \\n \u{200b}", "日本語 \\u65e5 %E6%97%A5"]
        {
            check(text, text);
        }
        assert_eq!(SecretText::new("EMPTY").hide_in("The list is EMPTY."), "The list is EMPTY.");
        assert_eq!(format!("{:?}", SecretText::new(KEY)), "(hidden)");
    }

    #[test]
    fn a_short_secret_is_hidden_as_a_word_of_its_own() {
        let hidden = |secret: &str, text: &str| SecretText::new(secret).hide_in(text);
        for text in [
            "12345678",
            "key: 12345678.",
            "\"12345678\"",
            "a\\n12345678\\n",
            "Bearer%2012345678%0A",
            "&quot;12345678&quot;",
            "令牌12345678无效",
        ] {
            assert_eq!(hidden("12345678", text), text.replace("12345678", "(hidden)"));
        }
        assert_eq!(hidden("p+ssw0rd/x", "key=p%2Bssw0rd\\/x&b"), "key=(hidden)&b");
        assert_eq!(hidden("0123456789abcde", "bad 0123456789abcde"), "bad (hidden)");
        for (secret, text) in [
            ("localhost", "localhosts, sub-localhost, localhost_1 and LOCALHOST"),
            ("thetoken", "the token, then the\ntoken"),
            ("12345678", "123456789, x12345678"),
            ("0123456789abcde", "0123456789abc and 123456789abcde"),
        ] {
            assert_eq!(hidden(secret, text), text);
        }
        // From 16 characters on, everywhere.
        assert_eq!(hidden("0123456789abcdef", "x0123456789ABCDEFx"), "x(hidden)x");
    }
}
