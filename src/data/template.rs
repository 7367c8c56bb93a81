//! Prompt templates, as data in one table.

/// A prompt template: the text around questions and answers.
///
/// A dialogue is `preamble`, then for each exchange `before_question`, the question, `before_answer`, the answer with
/// its `answer_lead`, and the tokenizer's end-of-sequence token. Everything before `answer_lead` is prompt; the rest is
/// trained on. The response key of FedLLM-Bench (`\n### Response:` in `alpaca`) is therefore the end of
/// `before_answer`.
///
/// The texts follow section 2 of FedLLM-Bench's description: `alpaca` comes from Stanford Alpaca, `vicuna_v1.1` from
/// FastChat and `medquad` from OpenFedLLM. Models were trained with exactly these texts, so they are quoted verbatim,
/// as an interface to those models and not as text of this project.
#[derive(Debug, PartialEq, Eq)]
pub struct Template {
    /// Name in scenarios.
    pub name: &'static str,
    /// Text at the beginning of the dialogue.
    pub preamble: &'static str,
    /// Text before each question.
    pub before_question: &'static str,
    /// Text between a question and its answer; ends where the answer begins.
    pub before_answer: &'static str,
    /// The key that FedLLM-Bench's collator searches for, including its defects in two templates: the Arabic key is the
    /// header of the instruction, and the Chinese key has a colon that does not occur in the template.
    pub key: &'static str,
    /// White space at the beginning of an answer. It is trained on, since most tokenizers merge it with the first word.
    pub answer_lead: &'static str,
}

/// All templates. Adding an entry here is all that a new template needs.
const TEMPLATES: &[Template] = &[
    Template {
        name: "alpaca",
        preamble: "Below is an instruction that describes a task. \
                   Write a response that appropriately completes the request.\n\n",
        before_question: "### Instruction:\n",
        before_answer: " \n\n### Response:",
        key: "\n### Response:",
        answer_lead: " ",
    },
    Template {
        name: "vicuna_v1.1",
        preamble: "A chat between a curious user and an artificial intelligence assistant. \
                   The assistant gives helpful, detailed, and polite answers to the user's questions. ",
        before_question: "USER: ",
        before_answer: " ASSISTANT:",
        key: " ASSISTANT:",
        answer_lead: " ",
    },
    Template {
        name: "medquad",
        preamble: "Below is a conversation between a user and a professional doctor. \
                   The doctor gives helpful, precise, detailed and polite answer to the user's question. ",
        before_question: "USER: ",
        before_answer: " DOCTOR:",
        key: " DOCTOR:",
        answer_lead: " ",
    },
    // The following are this project's own translations, under the benchmark's names.
    Template {
        name: "arabic_alpaca",
        preamble: "فيما يلي تعليمات تصف مهمة. اكتب ردًا يكمل الطلب على نحو مناسب.\n\n",
        before_question: "### التعليمات:\n",
        before_answer: " \n\n### الرد:",
        key: "\n### التعليمات:",
        answer_lead: " ",
    },
    Template {
        name: "chinese_alpaca",
        preamble: "以下是一条描述任务的指令。请写出一个恰当完成该请求的回答。\n\n",
        before_question: "### 指令:\n",
        before_answer: " \n\n### 回答:",
        key: "\n### 回答：",
        answer_lead: " ",
    },
    Template {
        name: "portuguese_alpaca",
        preamble: "Segue uma instrução que descreve uma tarefa. \
                   Escreva uma resposta que cumpra o pedido de forma adequada.\n\n",
        before_question: "### Instrução:\n",
        before_answer: " \n\n### Resposta:",
        key: "\n### Resposta:",
        answer_lead: " ",
    },
    Template {
        name: "telugu_alpaca",
        preamble: "క్రింద ఒక పనిని వివరించే సూచన ఉంది. ఆ కోరికను తగిన విధంగా తీర్చే జవాబు రాయండి.\n\n",
        before_question: "### సూచన:\n",
        before_answer: " \n\n### జవాబు:",
        key: "\n### జవాబు:",
        answer_lead: " ",
    },
    Template {
        name: "russian_alpaca",
        preamble: "Ниже дано указание, в котором описана задача. \
                   Напишите ответ, который как следует выполняет просьбу.\n\n",
        before_question: "### Указание:\n",
        before_answer: " \n\n### Ответ:",
        key: "\n### Ответ:",
        answer_lead: " ",
    },
    Template {
        name: "french_alpaca",
        preamble: "Voici une consigne qui décrit une tâche. Rédigez une réponse qui satisfait la demande.\n\n",
        before_question: "### Consigne:\n",
        before_answer: " \n\n### Réponse:",
        key: "\n### Réponse:",
        answer_lead: " ",
    },
    Template {
        name: "spanish_alpaca",
        preamble: "Aquí hay una instrucción que describe una tarea. \
                   Escribe una respuesta que cumpla la petición de forma adecuada.\n\n",
        before_question: "### Instrucción:\n",
        before_answer: " \n\n### Respuesta:",
        key: "\n### Respuesta:",
        answer_lead: " ",
    },
];

impl Template {
    /// Returns the template with this name.
    pub fn named(name: &str) -> Option<&'static Self> {
        TEMPLATES.iter().find(|template| template.name == name)
    }

    /// Returns the names of all templates, for errors and help.
    pub fn names() -> impl Iterator<Item = &'static str> {
        TEMPLATES.iter().map(|template| template.name)
    }

    /// Returns the prompt of a first question, up to where the answer begins. Generation starts from this text.
    pub fn prompt(&self, question: &str) -> String {
        [self.preamble, self.before_question, question, self.before_answer].concat()
    }

    /// Returns the prompt of a first question with a system prompt in place of the preamble, as FastChat's
    /// `set_system_message` does. The white space that ends the preamble stays.
    pub fn prompt_under(&self, system: Option<&str>, question: &str) -> String {
        let Some(system) = system else { return self.prompt(question) };
        let space = &self.preamble[self.preamble.trim_end().len()..];
        [system, space, self.before_question, question, self.before_answer].concat()
    }

    /// Returns the prompt of a later question, which follows the end-of-sequence token of the previous answer.
    pub fn later_prompt(&self, question: &str) -> String {
        [self.before_question, question, self.before_answer].concat()
    }

    /// Returns a last question without an answer. As in FastChat's conversations, it ends before the assistant's name.
    pub fn unanswered(&self, question: &str) -> String {
        // `before_answer` is white space followed by the name, of which only the white space is used.
        let name = self.before_answer.trim_start();
        let space = &self.before_answer[..self.before_answer.len() - name.len()];
        [self.before_question, question, space].concat()
    }

    /// Returns the text of an answer to train on, without the end-of-sequence token.
    pub fn answer(&self, text: &str) -> String {
        [self.answer_lead, text].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alpaca_is_exact() {
        let alpaca = Template::named("alpaca").unwrap();
        assert_eq!(
            alpaca.prompt("Greet me.") + &alpaca.answer("Hello there."),
            "Below is an instruction that describes a task. Write a response that appropriately completes the \
             request.\n\n### Instruction:\nGreet me. \n\n### Response: Hello there."
        );
        assert!(alpaca.prompt("x").ends_with("\n### Response:"));
    }

    #[test]
    fn vicuna_is_exact_over_two_turns() {
        let vicuna = Template::named("vicuna_v1.1").unwrap();
        let text = [
            vicuna.prompt("q1") + &vicuna.answer("a1"),
            "</s>".into(),
            vicuna.later_prompt("q2") + &vicuna.answer("a2"),
        ];
        assert!(text.concat().ends_with("user's questions. USER: q1 ASSISTANT: a1</s>USER: q2 ASSISTANT: a2"));
    }

    /// The prompts of FastChat 0.2.36 for `vicuna_v1.1` and `alpaca` after `set_system_message("Be brief.")`, with
    /// OpenFedLLM's line break after the instruction's header and its space after the question.
    #[test]
    fn a_system_prompt_takes_the_place_of_the_preamble() {
        let prompt = |name| Template::named(name).unwrap().prompt_under(Some("Be brief."), "q");
        assert_eq!(prompt("vicuna_v1.1"), "Be brief. USER: q ASSISTANT:");
        assert_eq!(prompt("alpaca"), "Be brief.\n\n### Instruction:\nq \n\n### Response:");
        let alpaca = Template::named("alpaca").unwrap();
        assert_eq!(alpaca.prompt_under(None, "q"), alpaca.prompt("q"));
    }

    #[test]
    fn keys_end_the_prompts_but_for_the_two_published_defects() {
        for template in TEMPLATES {
            let has_key = template.before_answer.ends_with(template.key);
            assert_eq!(has_key, !["arabic_alpaca", "chinese_alpaca"].contains(&template.name), "{}", template.name);
        }
    }

    #[test]
    fn names_are_unique_and_unknown_ones_are_none() {
        let names: std::collections::BTreeSet<_> = Template::names().collect();
        assert_eq!(names.len(), TEMPLATES.len());
        assert_eq!(Template::named("alpacca"), None);
    }
}
