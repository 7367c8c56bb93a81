//! Code blocks of Markdown that are fenced by backticks or tildes, as CommonMark defines them (section 4.5), but indented
//! as far as a list may indent them.

use std::ops::Range;

/// A fenced code block of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FencedBlock {
    /// [byte] -- The block with its fences. It ends with the text if it is not closed.
    pub whole: Range<usize>,
    /// [byte] -- The lines between the fences.
    pub content: Range<usize>,
    /// [space] -- Indentation of the opening fence.
    pub indentation: usize,
    /// The first word after the opening fence, in lower case, such as `python`. Empty if there is none.
    pub language: String,
}

/// An opening fence.
struct Fence {
    mark: char,
    length: usize,
    indentation: usize,
    language: String,
}

impl FencedBlock {
    /// Returns all blocks of a text, in their order.
    pub fn all(text: &str) -> Vec<Self> {
        let mut blocks = Vec::new();
        let mut open: Option<(Fence, usize, usize)> = None;
        let mut place = 0;
        for line in text.split_inclusive('\n') {
            let start = place;
            place += line.len();
            match open.take() {
                None => open = Fence::opened_by(line).map(|fence| (fence, start, place)),
                Some((fence, whole, content)) if fence.is_closed_by(line) => {
                    blocks.push(fence.block(whole..place, content..start));
                }
                still_open => open = still_open,
            }
        }
        if let Some((fence, whole, content)) = open {
            blocks.push(fence.block(whole..text.len(), content..text.len()));
        }
        blocks
    }
}

impl Fence {
    /// Returns the fence that a line opens, if it does.
    fn opened_by(line: &str) -> Option<Self> {
        let marks = line.trim_start_matches([' ', '\t']);
        let mark = marks.chars().next().filter(|mark| matches!(mark, '`' | '~'))?;
        let info = marks.trim_start_matches(mark);
        let length = marks.len() - info.len();
        // What follows backticks has no backtick, or they are a code span.
        if length < 3 || (mark == '`' && info.contains('`')) {
            return None;
        }
        let language = info.split_whitespace().next().unwrap_or_default().to_lowercase();
        Some(Self { mark, length, indentation: line.len() - marks.len(), language })
    }

    /// Returns whether a line closes this fence: at least as many of the same mark, alone on a line that is not indented
    /// as code of the block.
    fn is_closed_by(&self, line: &str) -> bool {
        let marks = line.trim();
        let indentation = line.len() - line.trim_start_matches([' ', '\t']).len();
        indentation <= self.indentation + 3
            && marks.len() >= self.length
            && marks.chars().all(|character| character == self.mark)
    }

    fn block(self, whole: Range<usize>, content: Range<usize>) -> FencedBlock {
        FencedBlock { whole, content, indentation: self.indentation, language: self.language }
    }
}

#[cfg(test)]
mod tests {
    use super::FencedBlock;

    #[track_caller]
    fn check(text: &str, expected: &[(&str, &str)]) {
        let blocks = FencedBlock::all(text);
        let found: Vec<_> =
            blocks.iter().map(|block| (block.language.as_str(), &text[block.content.clone()])).collect();
        assert_eq!(found, expected, "{text:?}");
    }

    /// The blocks are those of CommonMark 0.31's reference renderer.
    #[test]
    fn blocks_are_those_of_markdown() {
        check("```python\nx\n```\n", &[("python", "x\n")]);
        check("Sure:\n\n``` Python title\nx\n```", &[("python", "x\n")]);
        check("~~~\nx\n```\n~~~~\ny", &[("", "x\n```\n")]);
        check("   ```py\n   x\n   ```\n", &[("py", "   x\n")]);
        check("````\n```\nx\n```\n````\n", &[("", "```\nx\n```\n")]);
        check("```bash\na\n```\n```python\nb\n```\n", &[("bash", "a\n"), ("python", "b\n")]);
        check("```python\nx\n    ```\ny\n```\n", &[("python", "x\n    ```\ny\n")]);
        check("```python\nnot closed", &[("python", "not closed")]);
        check("```python", &[("python", "")]);
        check("``` a ``` is a span, and `` ` `` too", &[]);
        check("    return x\n", &[]);
    }
}
