//! Border around parsers of other crates, some of which panic on damaged input.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;

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
