//! The picture of how instructions begin: a column a word, a box an opening, its height the rows that begin so.

use plotters::prelude::*;
use whatlang::{Script, detect_script};

use super::Opening;
use super::canvas::{Canvas, Drawn, REST, SIZE, said};

/// Room above for the names of columns, and below for a note [pixel].
const HEAD: i32 = 34;
const FOOT: i32 = 24;

/// Height from which a box has room for its words [pixel]; openings of less are among the others.
const LABELLED: f64 = 15.0;

/// Characters of a word that a box has room for.
const LETTERS: usize = 20;

const NAMES: [&str; super::openings::DEPTH] = ["first word", "second word", "third word", "fourth word"];

/// A box of the picture.
struct Shown<'a> {
    /// Column, from 0.
    level: usize,
    /// [rows] Above it, and of it.
    above: u64,
    rows: u64,
    /// None of the rest, whose openings are less frequent or end here.
    opening: Option<&'a Opening>,
    /// Which of the first words it begins with.
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
        let edge = |rows: u64| HEAD + (rows as f64 * height).round() as i32;
        let corners = [(left, edge(shown.above)), (left + width, edge(shown.above + shown.rows))];
        let colour = match shown.opening {
            Some(_) => {
                let (r, g, b) = Palette99::pick(shown.branch).to_backend_color().rgb;
                RGBColor(r, g, b).mix(0.45 - 0.08 * shown.level as f64)
            }
            None => REST.mix(0.15),
        };
        area.draw(&Rectangle::new(corners, colour.filled())).map_err(said)?;
        area.draw(&Rectangle::new(corners, WHITE.stroke_width(1))).map_err(said)?;
        label(area, shown, corners)?;
    }
    let is_named =
        |shown: &Shown| shown.opening.is_some_and(|one| one.words.iter().any(|word| name_of(word).is_some()));
    let scripts = match boxes.iter().any(is_named) {
        true => "; [Script] is a word in a script that not every font has: openings.parquet has it",
        false => "",
    };
    let note = format!("heights and numbers: how many of {rows} rows begin so{scripts}");
    area.draw(&Text::new(note, (12, SIZE.1 as i32 - 18), ("sans-serif", 13))).map_err(said)
}

/// Where boxes have their place: the column, and the rows above them and of all of them.
#[derive(Clone, Copy)]
struct Room {
    level: usize,
    above: u64,
    rows: u64,
}

/// Lays out the openings of at least `least` rows; what is left of the room's rows is the rest. In the first column each
/// opening begins a branch, in later ones all belong to `branch`.
fn lay_out<'a>(openings: &'a [Opening], room: Room, (least, branch): (u64, usize), boxes: &mut Vec<Shown<'a>>) {
    let Room { level, above, rows } = room;
    let mut reached = above;
    // Each opening stands before those that begin with it.
    let families = openings.chunk_by(|_, next| next.words.len() > level + 1);
    for (place, family) in families.enumerate().filter(|(_, family)| family[0].rows >= least) {
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

/// The word at the left of a box and its rows at the right: one text of both would be turned round where words run from
/// right to left.
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

/// The English name of a word's script, in brackets, where a picture's reader may lack its letters.
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
