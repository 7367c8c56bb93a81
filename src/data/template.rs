//! How a row is put to the model: prompt templates as data, all in one table.

/// Text around a question and its answer.
///
/// A dialogue is `preamble`, then for each exchange `before_question`, the question, `before_answer`, the answer with
/// its `answer_lead`, and the tokenizer's end-of-sequence token. All that stands before `answer_lead` is prompt; the
/// rest is learnt. So the response key of FedLLM-Bench (`\n### Response:` in `alpaca`) is the end of `before_answer`.
///
/// The texts follow section 2 of FedLLM-Bench's description: `alpaca` is Stanford Alpaca's, `vicuna_v1.1` FastChat's,
/// `medquad` OpenFedLLM's. They are interfaces to models that were trained with them, so they are given verbatim: with their
/// notice of origin, as interface and not as text of ours.
#[derive(Debug, PartialEq, Eq)]
pub struct Template {
    /// The name in scenarios.
    pub name: &'static str,
    /// Once, at the start.
    pub preamble: &'static str,
    /// Before each question.
    pub before_question: &'static str,
    /// Between a question and its answer; ends where the answer begins.
    pub before_answer: &'static str,
    /// The key that FedLLM-Bench's collator looks for, defects of two templates included: Arabic's is the header of the
    /// instruction, and Chinese's has a colon that the template has not.
    pub key: &'static str,
    /// The white space with which an answer begins. It is learnt, since most tokenizers merge it with the first word.
    pub answer_lead: &'static str,
}

/// Every template. A new one is an entry here.
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
    /// The template of this name, or `None`.
    pub fn named(name: &str) -> Option<&'static Self> {
        TEMPLATES.iter().find(|template| template.name == name)
    }

    /// The names of all templates, for errors and help.
    pub fn names() -> impl Iterator<Item = &'static str> {
        TEMPLATES.iter().map(|template| template.name)
    }

    /// The prompt of a first question, up to where the answer begins: what generation starts from.
    pub fn prompt(&self, question: &str) -> String {
        [self.preamble, self.before_question, question, self.before_answer].concat()
    }

    /// The prompt of a later question, which follows the end-of-sequence token of the answer before.
    pub fn later_prompt(&self, question: &str) -> String {
        [self.before_question, question, self.before_answer].concat()
    }

    /// A last question that nobody answers, up to where FastChat's conversations end: before the answerer's name.
    pub fn unanswered(&self, question: &str) -> String {
        let name = self.before_answer.trim_start();
        let space = &self.before_answer[..self.before_answer.len() - name.len()];
        [self.before_question, question, space].concat()
    }

    /// The learnt text of an answer, without the end-of-sequence token.
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
