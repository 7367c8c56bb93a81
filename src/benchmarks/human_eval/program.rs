//! Assembly of a testable program from a model's answer.

use serde::Deserialize;

use crate::benchmarks::open_ended::without_thoughts;
use crate::generation::FencedBlock;

/// A problem of HumanEval.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Problem {
    /// Identifier, such as `HumanEval/0`.
    pub task_id: String,
    /// Imports, helpers, and the head of the function with its docstring.
    pub prompt: String,
    /// Name of the function.
    pub entry_point: String,
    /// The rest of the function, written by a person.
    pub canonical_solution: String,
    /// Python code that defines `check(candidate)`.
    pub test: String,
}

/// Texts that end a completion, since they begin something after the function. From Chen et al. (2021).
pub(super) const STOPS: [&str; 5] = ["\nclass", "\ndef", "\n#", "\nif", "\nprint"];

/// How a model was asked for its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnswerForm {
    /// The problem's text was to be continued.
    Continuation,
    /// A question was to be answered.
    Reply,
}

/// Returns the completed function, with everything that precedes it in the problem.
///
/// An answer may be a continuation of the prompt, or a text with the code in a fenced block or after a few words. Either may
/// repeat the function from its head instead of continuing where the prompt ends.
pub fn program(problem: &Problem, answer: &str, form: AnswerForm) -> String {
    let text = match form {
        AnswerForm::Continuation => answer.to_owned(),
        AnswerForm::Reply => without_thoughts(answer),
    };
    let blocks = FencedBlock::all(&text);
    let first_line = text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
    let is_fence = blocks.first().is_some_and(|block| text[..block.whole.start].trim().is_empty());
    let is_in_line = form == AnswerForm::Continuation && !problem.prompt.ends_with('\n');
    // The function goes on at once. Fences that follow belong to its strings.
    if (is_in_line || first_line.starts_with([' ', '\t'])) && !is_fence {
        let code = match form {
            AnswerForm::Continuation => cut(&text),
            AnswerForm::Reply => body(&text),
        };
        return format!("{}{code}", problem.prompt);
    }
    let block = chosen(problem, &text, &blocks);
    let code = block.map_or_else(|| unfenced(problem, &text).to_owned(), |block| dedented(block, &text));
    if head_in(&code, &problem.entry_point).is_some() {
        // The answer repeats the head: only the imports and helpers before it are taken from the prompt.
        let before = head_in(&problem.prompt, &problem.entry_point).unwrap_or(problem.prompt.len());
        return format!("{}\n{code}", &problem.prompt[..before]);
    }
    if block.is_none() && form == AnswerForm::Continuation {
        return format!("{}{}", problem.prompt, cut(&code));
    }
    format!("{}{}", problem.prompt, body(&indented_as(&problem.prompt, &code)))
}

/// Appends the problem's tests to a program.
pub(super) fn tested(problem: &Problem, program: &str) -> String {
    format!("{program}\n{}\ncheck({})\n", problem.test, problem.entry_point)
}

/// Returns the code up to the first stop text.
fn cut(code: &str) -> &str {
    let end = STOPS.iter().filter_map(|stop| code.find(stop)).min();
    &code[..end.unwrap_or(code.len())]
}

/// Returns the block with the function's head, else the first one in Python, else the first one in no named language.
fn chosen<'b>(problem: &Problem, text: &str, blocks: &'b [FencedBlock]) -> Option<&'b FencedBlock> {
    let whole = blocks.iter().find(|block| head_in(&dedented(block, text), &problem.entry_point).is_some());
    let python = blocks.iter().find(|block| block.language.trim_start_matches(['{', '.']).starts_with("py"));
    whole.or(python).or_else(|| blocks.iter().find(|block| block.language.is_empty()))
}

/// Returns the content of a block without the indentation of its fence, as far as all lines have it.
fn dedented(block: &FencedBlock, text: &str) -> String {
    let content = &text[block.content.clone()];
    let lines = content.lines().filter(|line| !line.trim().is_empty());
    let least = lines.map(indentation).min().unwrap_or(0).min(block.indentation);
    shifted(content, -(least as isize))
}

/// Returns code whose first line is indented as the body of the function that the prompt begins.
fn indented_as(prompt: &str, code: &str) -> String {
    let last = prompt.lines().rfind(|line| !line.trim().is_empty()).map_or(0, indentation);
    let wanted = if last == 0 { 4 } else { last };
    let first = code.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
    // Spaces before a tab would be another indentation than those of the other lines.
    if first.starts_with('\t') { code.to_owned() } else { shifted(code, wanted as isize - indentation(first) as isize) }
}

/// [space] -- Returns the number of spaces before a line's text.
fn indentation(line: &str) -> usize {
    line.len() - line.trim_start_matches(' ').len()
}

/// Returns the code with `by` more spaces before each line that has text, or as many fewer as it has.
fn shifted(code: &str, by: isize) -> String {
    if by == 0 {
        return code.to_owned();
    }
    let mut text = String::with_capacity(code.len());
    for line in code.split_inclusive('\n') {
        if by > 0 && !line.trim().is_empty() {
            text += &" ".repeat(by.unsigned_abs());
        }
        let dropped = if by < 0 { by.unsigned_abs().min(indentation(line)) } else { 0 };
        text += &line[dropped..];
    }
    text
}

/// Returns the code in a text without a block: the function with what precedes it, or else the indented lines.
fn unfenced<'t>(problem: &Problem, text: &'t str) -> &'t str {
    let Some(head) = head_in(text, &problem.entry_point) else {
        let is_code = |line: &str| line.starts_with([' ', '\t']) && !line.trim().is_empty();
        return first_line(text, is_code).map_or(text, |start| &text[start..]);
    };
    let start = first_line(text, is_statement).map_or(head, |start| start.min(head));
    let after_head = &text[head..];
    for place in logical_lines(after_head) {
        let line = &after_head[place..];
        if place > 0 && begins_statement(line) && !is_statement(line) {
            return &text[start..head + place];
        }
    }
    &text[start..]
}

/// Returns the beginning of a function's body up to the end of the function.
fn body(code: &str) -> &str {
    let ends = |place: &usize| begins_statement(&code[*place..]) && !code[*place..].starts_with('#');
    logical_lines(code).into_iter().find(ends).map_or(code, |end| &code[..end])
}

/// Returns whether a line has text that is not indented.
fn begins_statement(line: &str) -> bool {
    line.starts_with(|first: char| !first.is_whitespace())
}

/// Returns whether a line that is not indented looks like Python, and not like a sentence.
fn is_statement(line: &str) -> bool {
    const WORDS: [&str; 20] = [
        "def", "class", "import", "from", "if", "elif", "else", "for", "while", "try", "except", "finally", "with",
        "return", "assert", "print", "async", "pass", "raise", "del",
    ];
    let end = line.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(line.len());
    let (word, rest) = line.split_at(end);
    if word.is_empty() {
        return rest.starts_with(['@', '#', '(', '[', '{', '"', '\'', ')', ']', '}']);
    }
    let is_attribute = rest.strip_prefix('.').is_some_and(|rest| rest.starts_with(char::is_alphabetic));
    let assigned = rest.trim_start().trim_start_matches(['+', '-', '*', '/', '|', '&']);
    WORDS.contains(&word) || rest.starts_with(['(', '[']) || is_attribute || assigned.starts_with('=')
}

/// [byte] -- Returns the positions of the lines that begin outside of strings and brackets.
fn logical_lines(code: &str) -> Vec<usize> {
    let mut lines = vec![0];
    let mut depth = 0_usize;
    let mut place = 0;
    while let Some(next) = code[place..].chars().next() {
        match next {
            '\'' | '"' => {
                place = string_end(code, place);
                continue;
            }
            '#' => {
                place += code[place..].find('\n').unwrap_or(code.len() - place);
                continue;
            }
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth = depth.saturating_sub(1),
            '\n' if depth == 0 => lines.push(place + 1),
            _ => {}
        }
        place += next.len_utf8();
    }
    lines
}

/// [byte] -- Returns the end of the string literal that begins at `start`. One in single quotes ends with its line at the
/// latest.
fn string_end(code: &str, start: usize) -> usize {
    let quote = &code[start..=start];
    let tripled = quote.repeat(3);
    let is_triple = code[start..].starts_with(&tripled);
    let close = if is_triple { tripled.as_str() } else { quote };
    let mut place = start + close.len();
    while let Some(next) = code[place..].chars().next() {
        if code[place..].starts_with(close) {
            return place + close.len();
        }
        if next == '\n' && !is_triple {
            return place;
        }
        place += next.len_utf8();
        if next == '\\' {
            place += code[place..].chars().next().map_or(0, char::len_utf8);
        }
    }
    code.len()
}

/// [byte] -- Returns the position of the line that begins the function `name`.
fn head_in(code: &str, name: &str) -> Option<usize> {
    first_line(code, |line| {
        let line = line.strip_prefix("async ").map_or(line, str::trim_start);
        let after_def = line.strip_prefix("def").filter(|rest| rest.starts_with([' ', '\t']));
        let after_name = after_def.and_then(|rest| rest.trim_start().strip_prefix(name));
        after_name.is_some_and(|rest| rest.trim_start().starts_with(['(', '[']))
    })
}

/// [byte] -- Returns the position of the first line for which `is_wanted` holds.
fn first_line(text: &str, is_wanted: impl Fn(&str) -> bool) -> Option<usize> {
    let mut place = 0;
    for line in text.split_inclusive('\n') {
        if is_wanted(line) {
            return Some(place);
        }
        place += line.len();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem() -> Problem {
        Problem {
            task_id: "T/0".into(),
            prompt: "import math\n\n\ndef f(x):\n    \"\"\"Doc.\"\"\"\n".into(),
            entry_point: "f".into(),
            canonical_solution: "    return x\n".into(),
            test: "def check(f):\n    assert f(1) == 1\n".into(),
        }
    }

    const CONTINUED: &str = "import math\n\n\ndef f(x):\n    \"\"\"Doc.\"\"\"\n    return x\n";

    #[track_caller]
    fn check(answer: &str, expected: &str) {
        for form in [AnswerForm::Continuation, AnswerForm::Reply] {
            assert_eq!(program(&problem(), answer, form), expected, "{form:?}");
        }
    }

    #[track_caller]
    fn check_reply(answer: &str, expected: &str) {
        let found = program(&problem(), answer, AnswerForm::Reply);
        assert_eq!(found.trim_end(), expected.trim_end(), "{answer:?}");
    }

    #[test]
    fn continuations_go_on_where_the_prompt_ends_and_stop_where_the_function_does() {
        check("    return x\n", CONTINUED);
        check_reply("    return x\n\nprint(f(1))\n", CONTINUED);
        check_reply("    return x\n\ndef g():\n    pass\n", CONTINUED);
        check_reply("    return x\n\nThis returns x.", CONTINUED);
        check("```python\n    return x\n```\nThis returns x.", CONTINUED);
    }

    #[test]
    fn code_is_found_in_fences_of_every_form_and_after_words() {
        check("   ```python\n    return x\n   ```\n", CONTINUED);
        check("~~~python\n    return x\n~~~\n", CONTINUED);
        check("Here is the rest:\n    return x\n", CONTINUED);
        check("Usage:\n```bash\npip install x\n```\n```python\n    return x\n```\n", CONTINUED);
        check("```\n1\n```\n```py\n    return x\n```\n", CONTINUED);
        check("1. So:\n   ```python\n   return x\n   ```\n", CONTINUED);
        check("```python\nreturn x\n```\n", CONTINUED);
        check_reply("<think>\n```python\n    return 0\n```\n</think>\n```python\n    return x\n```", CONTINUED);
        check_reply("return x\n", CONTINUED);
        let quoted = "    s = \"\"\"\n```\nexample\n```\n\"\"\"\n    return x\n";
        check(quoted, &CONTINUED.replace("    return x\n", quoted));
        let commented = "    y = x\n# the end\n    return y\n";
        check_reply(commented, &CONTINUED.replace("    return x\n", commented));
        let wide = "    y = [\n1,\n]\n    z = 'it\\'s'\n    return x\n";
        check_reply(wide, &CONTINUED.replace("    return x\n", wide));
    }

    #[test]
    fn whole_functions_take_the_place_of_the_head() {
        let expected = "import math\n\n\n\ndef f(x):\n    return g(x)\n\ndef g(x):\n    return x\n";
        let function = "def f(x):\n    return g(x)\n\ndef g(x):\n    return x\n";
        check(function, expected);
        check(&format!("Here it is:\n\n```python\n{function}```\n"), expected);
        check(&format!("```\n{function}"), expected);
        check(&format!("```python\nassert f(1) == 1\n```\n```python\n{function}```\n"), expected);
        check_reply(&format!("Sure, here it is:\n{function}\nThis works (see above).\nIt is short."), expected);
        check("def f (x: int) -> int:\n    return x\n", "import math\n\n\n\ndef f (x: int) -> int:\n    return x\n");
        let helped = "import re\ndef h(y):\n    return y\n\ndef f(x):\n    return h(x)\n";
        check(helped, &format!("import math\n\n\n\n{helped}"));
        let listed = function.lines().map(|line| format!("   {line}\n").replace("   \n", "\n")).collect::<String>();
        check(&format!("- So:\n   ```python\n{listed}   ```\n"), expected);
    }
}
