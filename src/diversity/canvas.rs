//! What all pictures are drawn on.

use std::fmt::Display;

use plotters::prelude::*;

/// [pixels] Of every picture.
pub(super) const SIZE: (u32, u32) = (900, 540);

pub(super) type Drawn<T = ()> = Result<T, String>;

pub(super) type Canvas<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

/// Of what has no colour of its own.
pub(super) const REST: RGBColor = RGBColor(160, 160, 160);

pub(super) fn said(error: impl Display) -> String {
    error.to_string()
}
