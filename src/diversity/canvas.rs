//! Canvas that all pictures are drawn on.

use std::fmt::Display;

use plotters::prelude::*;

/// [pixel] -- Width and height of every picture.
pub(super) const SIZE: (u32, u32) = (900, 540);

pub(super) type Drawn<T = ()> = Result<T, String>;

pub(super) type Canvas<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

/// Color of everything without its own.
pub(super) const REST: RGBColor = RGBColor(160, 160, 160);

/// Returns the message of an error of the drawing library.
pub(super) fn said(error: impl Display) -> String {
    error.to_string()
}
