//! Generated text with something to learn: the answer follows from the question by a rule that differs by client.
//!
//! A question is a sequence of words. Its answer begins with the client's greeting and then names the partner of each
//! word, repeatedly until the answer is long enough. The partners are a permutation of the language's words that is
//! specific to the client: clients share a language and a grammar, but differ in which answer is right.

use fedreplay_sim::{Purpose, Seed, Stream};

/// Two dozen everyday words per language, chosen by this project. Questions begin with the first word, answers with the
/// second.
const WORDS: &[(&str, &str)] = &[
    ("ar", "سؤال جواب بيت كتاب ماء شمس قمر شجرة باب طريق مدينة بحر جبل خبز ملح يد عين قلب صديق طفل يوم ليل نار ريح"),
    (
        "de",
        "frage antwort haus buch wasser sonne mond baum tür weg stadt meer berg brot salz hand auge herz freund kind tag nacht feuer wind",
    ),
    (
        "en",
        "question answer house book water sun moon tree door road town sea hill bread salt hand eye heart friend child day night fire wind",
    ),
    (
        "es",
        "pregunta respuesta casa libro agua sol luna árbol puerta camino ciudad mar monte pan sal mano ojo corazón amigo niño día noche fuego viento",
    ),
    (
        "fr",
        "question réponse maison livre eau soleil lune arbre porte chemin ville mer mont pain sel main œil cœur ami enfant jour nuit feu vent",
    ),
    (
        "pt",
        "pergunta resposta casa livro água sol lua árvore porta caminho cidade mar monte pão sal mão olho coração amigo criança dia noite fogo vento",
    ),
    (
        "ru",
        "вопрос ответ дом книга вода солнце луна дерево дверь дорога город море гора хлеб соль рука глаз сердце друг ребёнок день ночь огонь ветер",
    ),
    (
        "te",
        "ప్రశ్న జవాబు ఇల్లు పుస్తకం నీరు సూర్యుడు చంద్రుడు చెట్టు తలుపు దారి ఊరు సముద్రం కొండ రొట్టె ఉప్పు చేయి కన్ను గుండె మిత్రుడు పిల్ల పగలు రాత్రి అగ్ని గాలి",
    ),
    (
        "zh",
        "问题 回答 房子 书本 清水 太阳 月亮 树木 大门 道路 城市 大海 高山 面包 食盐 双手 眼睛 心脏 朋友 孩子 白天 夜晚 火焰 微风",
    ),
];

/// A client's generator of questions and answers. Words are represented by their index in the language's list.
pub struct Voice {
    words: Vec<&'static str>,
    /// For each word, the index of its partner.
    partners: Vec<usize>,
    /// A second permutation, which produces the worse answers.
    others: Vec<usize>,
    greeting: Vec<usize>,
    stream: Stream,
}

impl Voice {
    /// Creates the generator of a client for one of the languages of [`WORDS`].
    ///
    /// # Panics
    /// If the language has no words.
    pub fn new(seed: Seed, client: u32, language: &str) -> Self {
        let (_, words) = WORDS.iter().find(|(name, _)| *name == language).expect("every language has words");
        let words: Vec<&str> = words.split(' ').collect();
        // Bit 32 keeps the streams of clients apart from the small entity numbers of the twin itself.
        let mut stream = Stream::new(seed, Purpose::SyntheticData, 1 << 32 | u64::from(client));
        let partners = permutation(&mut stream, words.len());
        let others = permutation(&mut stream, words.len());
        let greeting = (0..2).map(|_| stream.below(words.len() as u64) as usize).collect();
        Self { words, partners, others, greeting, stream }
    }

    /// Returns a question of `length` words.
    pub fn question(&mut self, length: u64) -> Vec<usize> {
        // Words 0 and 1 open questions and answers; the others are what questions are about.
        let topics = (self.words.len() - 2) as u64;
        let mut question = vec![0];
        for _ in 1..length {
            question.push(2 + self.stream.below(topics) as usize);
        }
        question
    }

    /// Returns the right answer to a question, with `length` words.
    pub fn answer(&self, question: &[usize], length: u64) -> Vec<usize> {
        self.follow(&self.partners, question, length)
    }

    /// Returns an answer by the wrong rule, with `length` words.
    pub fn worse_answer(&self, question: &[usize], length: u64) -> Vec<usize> {
        self.follow(&self.others, question, length)
    }

    fn follow(&self, partners: &[usize], question: &[usize], length: u64) -> Vec<usize> {
        // Word 1, the greeting, then the partners of the question's words over and over.
        let opening = std::iter::once(1).chain(self.greeting.iter().copied());
        let body = question.iter().cycle().map(|&word| partners[word]);
        opening.chain(body).take(length as usize).collect()
    }

    /// Returns the words as text.
    pub fn text(&self, places: &[usize]) -> String {
        places.iter().map(|&place| self.words[place]).collect::<Vec<_>>().join(" ")
    }

    /// Draws a number below `bound` from the client's stream.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.stream.below(bound)
    }
}

/// Draws a permutation of the numbers below `count`.
pub fn permutation(stream: &mut Stream, count: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    for place in 0..count.saturating_sub(1) {
        order.swap(place, place + stream.below((count - place) as u64) as usize);
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_of_one_language_differ_in_what_is_right() {
        assert!(WORDS.iter().all(|(_, words)| words.split(' ').count() == 24));
        let (mut a, b) = (Voice::new(Seed(1), 0, "en"), Voice::new(Seed(1), 1, "en"));
        let question = a.question(5);
        assert_eq!((question.len(), question[0]), (5, 0));
        assert_eq!(a.answer(&question, 9), a.answer(&question, 9));
        assert_ne!(a.answer(&question, 9), b.answer(&question, 9));
        assert_ne!(a.answer(&question, 9), a.worse_answer(&question, 9));
        assert!(a.text(&a.answer(&question, 9)).starts_with("answer "));
    }
}
