//! Assembly of a testable program from a model's answer.

use super::human_eval::Problem;

/// Texts that end a completion, since they begin something after the function. From Chen et al. (2021).
pub(super) const STOPS: [&str; 5] = ["\nclass", "\ndef", "\n#", "\nif", "\nprint"];

/// Returns the completed function, with everything that precedes it in the problem.
///
/// An answer may be a continuation of the prompt, or a text with the code in a fenced block. Either may repeat the
/// function from its head instead of continuing where the prompt ends.
pub fn program(problem: &Problem, answer: &str) -> String {
    let code = fenced(answer).unwrap_or(answer);
    let head = format!("def {}(", problem.entry_point);
    if begins_line(code, &head).is_some() {
        // The answer repeats the head: only the imports and helpers before it are taken from the prompt.
        let before = begins_line(&problem.prompt, &head).unwrap_or(problem.prompt.len());
        return format!("{}\n{code}", &problem.prompt[..before]);
    }
    format!("{}{}", problem.prompt, cut(code))
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

/// Returns the content of the first fenced Markdown block. A block that is not closed extends to the end.
fn fenced(text: &str) -> Option<&str> {
    let from = begins_line(text, "```")?;
    let inside = &text[from..];
    let inside = &inside[inside.find('\n')? + 1..];
    Some(begins_line(inside, "```").map_or(inside, |end| &inside[..end]))
}

/// [byte] -- Returns the position of the first line that begins with `words`.
fn begins_line(text: &str, words: &str) -> Option<usize> {
    text.match_indices(words).map(|(place, _)| place).find(|&place| place == 0 || text[..place].ends_with('\n'))
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

    #[track_caller]
    fn check(answer: &str, expected: &str) {
        assert_eq!(program(&problem(), answer), expected);
    }

    #[test]
    fn continuations_go_on_where_the_prompt_ends_and_stop_where_the_function_does() {
        let expected = "import math\n\n\ndef f(x):\n    \"\"\"Doc.\"\"\"\n    return x\n";
        check("    return x\n", expected);
        check("    return x\n\nprint(f(1))\n", expected);
        check("    return x\n\ndef g():\n    pass\n", expected);
        check("```python\n    return x\n```\nThis returns x.", expected);
    }

    #[test]
    fn whole_functions_take_the_place_of_the_head() {
        let expected = "import math\n\n\n\ndef f(x):\n    return g(x)\n\ndef g(x):\n    return x\n";
        let function = "def f(x):\n    return g(x)\n\ndef g(x):\n    return x\n";
        check(function, expected);
        check(&format!("Here it is:\n\n```python\n{function}```\n"), expected);
        check(&format!("```\n{function}"), expected);
    }
}
