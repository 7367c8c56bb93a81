//! Border around parsers of other crates, some of which panic on damaged input.

use std::cell::Cell;
use std::io::{self, ErrorKind, Read};
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;

use serde::Deserialize;
use serde::de::Error;

thread_local! {
    /// Whether this thread is in a parser of another crate, so that a panic is an error of its input.
    static IS_INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// Calls a parser of another crate. A panic of it is returned as its message and is not printed.
///
/// Nothing that `parse` has changed may be used after an error.
///
/// # Errors
/// The message of the panic.
///
/// # Examples
///
/// ```
/// use fedreplay::store::without_panic;
///
/// assert_eq!(without_panic(|| 2 + 5), Ok(7));
/// assert_eq!(without_panic(|| -> u32 { panic!("a page of {} bytes", 0) }), Err("a page of 0 bytes".to_owned()));
/// ```
pub fn without_panic<T>(parse: impl FnOnce() -> T) -> Result<T, String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let others = take_hook();
        set_hook(Box::new(move |panic| {
            if !IS_INSIDE.get() {
                others(panic);
            }
        }));
    });
    let before = IS_INSIDE.replace(true);
    let parsed = catch_unwind(AssertUnwindSafe(parse));
    IS_INSIDE.set(before);
    parsed.map_err(|payload| {
        let text = payload.downcast_ref::<&str>().map(|&text| text.to_owned());
        text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_else(|| "its parser failed".to_owned())
    })
}

/// Parses JSON from outside of the program.
///
/// # Errors
/// Those of the parser. If it panics, the error has no line and no column.
///
/// # Examples
///
/// ```
/// use fedreplay::store::parse_json;
///
/// assert_eq!(parse_json::<Vec<u32>>(b"[1, 2]").unwrap(), [1, 2]);
/// assert!(parse_json::<Vec<u32>>(b"[1, 2").is_err());
/// ```
pub fn parse_json<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> serde_json::Result<T> {
    without_panic(|| serde_json::from_slice(bytes)).unwrap_or_else(|panic| Err(serde_json::Error::custom(panic)))
}

/// Reader of another crate, such as one that unpacks. Its panics are errors of the kind [`ErrorKind::InvalidData`].
pub struct ForeignReader<R>(pub R);

impl<R: Read> Read for ForeignReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let inner = &mut self.0;
        without_panic(|| inner.read(buffer)).unwrap_or_else(|panic| Err(io::Error::new(ErrorKind::InvalidData, panic)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Value whose parser fails.
    #[derive(Debug)]
    struct Panicking;

    impl<'a> Deserialize<'a> for Panicking {
        fn deserialize<D: serde::Deserializer<'a>>(_: D) -> Result<Self, D::Error> {
            panic!("the parser fails")
        }
    }

    impl Read for Panicking {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            panic!("{} bytes are asked for", buffer.len())
        }
    }

    #[test]
    fn a_panic_of_a_parser_of_json_is_its_error() {
        assert_eq!(parse_json::<Panicking>(b"1").unwrap_err().to_string(), "the parser fails");
    }

    #[test]
    fn a_panic_of_a_reader_is_its_error() {
        let error = ForeignReader(Panicking).read(&mut [0; 7]).unwrap_err();
        assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::InvalidData, "7 bytes are asked for"));
    }
}
