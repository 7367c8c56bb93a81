//! The picture of openings: one column per word, one box per opening, with a height proportional to its rows.

use plotters::prelude::*;
use whatlang::{Script, detect_script};

use super::Opening;
use super::{Canvas, Drawn, REST, SIZE, said};

/// [pixel] -- Space above for the names of columns.
const HEAD: i32 = 34;

/// [pixel] -- Space below for a note.
const FOOT: i32 = 24;

/// [pixel] -- Minimum height of a box with a label. Openings of smaller boxes are merged as "others".
const LABELLED: f64 = 15.0;

/// Maximum number of characters of a label.
const LETTERS: usize = 20;

const NAMES: [&str; super::openings::DEPTH] = ["first word", "second word", "third word", "fourth word"];

/// A box of the picture.
struct Shown<'a> {
    /// Column, from 0.
    level: usize,
    /// [rows] -- Rows above the box.
    above: u64,
    /// [rows] -- Rows of the box.
    rows: u64,
    /// The opening. `None` for the rest, whose openings are less frequent or end here.
    opening: Option<&'a Opening>,
    /// Index of its first word, which determines the color.
    branch: usize,
}

/// Draws the openings of `rows` rows.
pub(super) fn openings(area: &Canvas, openings: &[Opening], rows: u64) -> Drawn {
    let height = f64::from(SIZE.1 as i32 - HEAD - FOOT) / rows.max(1) as f64;
    let mut boxes = Vec::new();
    let least = (LABELLED / height).ceil() as u64;
    lay_out(openings, Room { level: 0, above: 0, rows }, (least, 0), &mut boxes);
    let columns = boxes.iter().map(|shown| shown.level + 1).max().unwrap_or(1);
    let width = (SIZE.0 as i32 - 24) / columns as i32;
    for (column, name) in NAMES.iter().take(columns).enumerate() {
        area.draw(&Text::new(*name, (12 + column as i32 * width, 12), ("sans-serif", 14))).map_err(said)?;
    }
    for shown in &boxes {
        let left = 12 + shown.level as i32 * width;
        // Edges are rounded from the sums of rows, so that neighboring boxes share them exactly.
        let top = HEAD + (shown.above as f64 * height).round() as i32;
        let bottom = HEAD + ((shown.above + shown.rows) as f64 * height).round() as i32;
        let corners = [(left, top), (left + width, bottom)];
        area.draw(&Rectangle::new(corners, color_of(shown).filled())).map_err(said)?;
        area.draw(&Rectangle::new(corners, WHITE.stroke_width(1))).map_err(said)?;
        label(area, shown, corners)?;
    }
    let scripts = match boxes.iter().any(has_named_script) {
        true => "; [Script] is a word in a script that not every font has: openings.parquet has it",
        false => "",
    };
    let note = format!("heights and numbers: how many of {rows} rows begin so{scripts}");
    area.draw(&Text::new(note, (12, SIZE.1 as i32 - 18), ("sans-serif", 13))).map_err(said)
}

/// Returns the color of a box: one hue per first word, paler from column to column.
fn color_of(shown: &Shown) -> RGBAColor {
    if shown.opening.is_none() {
        return REST.mix(0.15);
    }
    let (r, g, b) = Palette99::pick(shown.branch).to_backend_color().rgb;
    RGBColor(r, g, b).mix(0.45 - 0.08 * shown.level as f64)
}

/// Returns whether a word of the box's opening is shown as the name of its script.
fn has_named_script(shown: &Shown) -> bool {
    shown.opening.is_some_and(|opening| opening.words.iter().any(|word| name_of(word).is_some()))
}

/// The area for boxes to lay out: the column, the rows above it, and its rows.
#[derive(Clone, Copy)]
struct Room {
    level: usize,
    above: u64,
    rows: u64,
}

/// Lays out the openings of at least `least` rows, and a box for the other rows of the area. In the first column each
/// opening begins a new branch; in later columns all belong to `branch`.
fn lay_out<'a>(openings: &'a [Opening], room: Room, (least, branch): (u64, usize), boxes: &mut Vec<Shown<'a>>) {
    let Room { level, above, rows } = room;
    let mut reached = above;
    // Openings are in preorder: each is followed by its continuations, which have more words than this column.
    let families = openings.chunk_by(|_, next| next.words.len() > level + 1);
    for (place, family) in families.enumerate() {
        if family[0].rows < least {
            continue;
        }
        let branch = if level == 0 { place } else { branch };
        let opening = &family[0];
        boxes.push(Shown { level, above: reached, rows: opening.rows, opening: Some(opening), branch });
        let behind = Room { level: level + 1, above: reached, rows: opening.rows };
        lay_out(&family[1..], behind, (least, branch), boxes);
        reached += opening.rows;
    }
    let rest = (above + rows).saturating_sub(reached);
    if reached > above && rest >= least {
        boxes.push(Shown { level, above: reached, rows: rest, opening: None, branch });
    }
}

/// Draws the word at the left of a box and its rows at the right. They are two texts, since one text of both would be
/// reordered in scripts that run from right to left.
fn label(area: &Canvas, shown: &Shown, [(left, top), (right, bottom)]: [(i32, i32); 2]) -> Drawn {
    let word = match shown.opening.and_then(|opening| opening.words.last()) {
        Some(word) => name_of(word).unwrap_or_else(|| word.chars().take(LETTERS).collect()),
        None => "others".to_owned(),
    };
    let middle = (top + bottom) / 2 - 6;
    let style = ("sans-serif", 13).into_text_style(area);
    area.draw(&Text::new(word, (left + 6, middle), style.clone())).map_err(said)?;
    let at_right = style.pos(plotters::style::text_anchor::Pos::new(
        plotters::style::text_anchor::HPos::Right,
        plotters::style::text_anchor::VPos::Top,
    ));
    area.draw(&Text::new(shown.rows.to_string(), (right - 6, middle), at_right)).map_err(said)
}

/// Returns the English name of a word's script in brackets, unless most fonts have the script.
fn name_of(word: &str) -> Option<String> {
    let script = detect_script(word)?;
    let is_common =
        matches!(script, Script::Latin | Script::Cyrillic | Script::Greek | Script::Arabic | Script::Hebrew);
    (!is_common).then(|| format!("[{}]", script.name()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boxes_fill_the_columns_that_have_any() {
        let opening =
            |words: &[&str], rows| Opening { words: words.iter().map(|&word| word.into()).collect(), rows, clients: 1 };
        let found =
            [opening(&["what"], 5), opening(&["what", "is"], 3), opening(&["what", "was"], 2), opening(&["tell"], 2)];
        let mut boxes = Vec::new();
        lay_out(&found, Room { level: 0, above: 0, rows: 9 }, (2, 0), &mut boxes);
        // A continuation of one row is too low to be shown.
        let shown: Vec<_> = boxes
            .iter()
            .map(|shown| (shown.level, shown.above, shown.rows, shown.opening.is_some(), shown.branch))
            .collect();
        let expected =
            [(0, 0, 5, true, 0), (1, 0, 3, true, 0), (1, 3, 2, true, 0), (0, 5, 2, true, 1), (0, 7, 2, false, 0)];
        assert_eq!(shown, expected);
    }

    #[test]
    fn scripts_that_fonts_lack_are_named() {
        for (word, name) in
            [("what", None), ("что", None), ("ప్రశ్న", Some("[Telugu]")), ("问题", Some("[Mandarin]")), ("42", None)]
        {
            assert_eq!(name_of(word).as_deref(), name, "{word}");
        }
    }
}
