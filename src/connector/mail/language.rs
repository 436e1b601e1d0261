//! The language of a text, where it is plain enough to say.
//!
//! Most mails are written in a handful of languages and give themselves away by their commonest words; that is asked first,
//! because the general detector costs more than the rest of reading a mail.

use std::sync::LazyLock;

use whatlang::Lang;

/// Letters below which nothing is said: short texts are guessed wrong as often as right.
const LETTERS_MIN: usize = 40;
/// Bytes that are looked at: a page says as much as ten.
const SAMPLE_BYTES: usize = 1536;
/// Common words that a text must have for a verdict by them.
const HITS_MIN: usize = 5;

/// Common words of common languages, none of them a word of two of these languages unless both have it in the list.
const COMMON: [(&str, &str); 13] = [
    ("en", "the and you not have with for this was are that from please would your been our has but they were will any can"),
    ("de", "der die das und nicht ich sie mit den ist auf für eine einen haben wir bitte auch noch bei aus wurde wird kann ihre mein dem"),
    ("fr", "le les et est pas vous pour que une dans je nous avec sur votre mais ce qui suis être bonjour été mon cette des du"),
    ("es", "el los y no es para una por con pero mi muy las del está cuando gracias pedido usted hola ha porque su lo más que"),
    ("it", "il che di non per una sono con ho mi è gli della grazie anche ma come questo vostro buongiorno nel alla dei ordine"),
    ("pt", "o os não uma para com meu você mas obrigado foi da do na em por que está ainda minha seu são pedido bom dia ao"),
    ("nl", "het een niet van ik en dat met voor zijn ook maar wij heb naar nog mijn graag bedankt deze bij wordt aan u kunt"),
    ("sv", "och att det jag inte är en som för har med på men ni vi av den till ett kan tack min mitt från hej"),
    ("pl", "nie się jest na że do i to jak ale czy dla proszę moje mam przez był dziękuję tym zamówienie witam już po od"),
    ("cs", "se je na že a to ale jak jsem pro prosím děkuji dobrý den mi který při také jsou nebo byl objednávka tak ve"),
    ("tr", "ve bir bu için ne de da çok ama ile değil var sipariş merhaba olarak lütfen teşekkürler benim henüz kadar daha size"),
    ("fi", "ja on ei en se että mutta kun olen oli kiitos hei tilaus minun vielä sitä tämä voi ole mitä niin kanssa ovat"),
    ("hu", "a az és nem hogy van egy ez de meg csak már is volt kérem köszönöm rendelés vagy mert még nekem ha"),
];

/// Longest common word, in bytes.
const WORD_BYTES_MAX: usize = 16;
/// Places of the table of words: a power of two, several times as many as words.
const PLACES: usize = 2048;

/// A word, padded with zeroes; and the languages that have it, as bits by their place in [`COMMON`].
type Word = ([u8; WORD_BYTES_MAX], u32);

/// Words at the place that their bytes give, or behind it.
static WORDS: LazyLock<Vec<Word>> = LazyLock::new(|| {
    let mut table = vec![([0; WORD_BYTES_MAX], 0); PLACES];
    for (language, (_, words)) in COMMON.iter().enumerate() {
        for text in words.split(' ') {
            let mut word = Lowered::default();
            text.chars().for_each(|c| word.push(c));
            let mut at = place(&word.bytes);
            while let Some((known, languages)) = table.get_mut(at) {
                if *languages == 0 || *known == word.bytes {
                    *known = word.bytes;
                    *languages |= 1 << language;
                    break;
                }
                at = (at + 1) % PLACES;
            }
        }
    }
    table
});

fn place(word: &[u8; WORD_BYTES_MAX]) -> usize {
    // A multiplication by a large odd number spreads the bytes over the upper bits.
    let number = u128::from_le_bytes(*word).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
    (number >> 100) as usize % PLACES
}

fn languages_of(word: &[u8; WORD_BYTES_MAX]) -> u32 {
    let mut at = place(word);
    loop {
        match WORDS.get(at) {
            Some((known, languages)) if *languages != 0 => {
                if known == word {
                    return *languages;
                }
            }
            _ => return 0,
        }
        at = (at + 1) % PLACES;
    }
}

/// A word in lower case, as far as it fits.
#[derive(Default)]
struct Lowered {
    bytes: [u8; WORD_BYTES_MAX],
    len: usize,
}

impl Lowered {
    fn push(&mut self, c: char) {
        let mut buffer = [0; 4];
        if c.is_ascii() {
            self.write(&[c.to_ascii_lowercase() as u8]);
        } else {
            c.to_lowercase().for_each(|c| self.write(c.encode_utf8(&mut buffer).as_bytes()));
        }
    }

    fn write(&mut self, bytes: &[u8]) {
        if let Some(room) = self.bytes.get_mut(self.len..self.len + bytes.len()) {
            room.copy_from_slice(bytes);
        }
        self.len += bytes.len();
    }
}

/// ISO 639-1 code of the language.
pub fn of(text: &str) -> Option<String> {
    let sample = text.get(..text.floor_char_boundary(SAMPLE_BYTES)).unwrap_or(text);
    let mut seen = Seen::default();
    seen.read(sample);
    if seen.letters < if seen.dense { 8 } else { LETTERS_MIN } {
        return None;
    }
    if let Some(found) = seen.by_common_words() {
        return Some(found.to_owned());
    }
    let found = whatlang::detect(sample)?;
    found.is_reliable().then(|| code(found.lang())).flatten().map(str::to_owned)
}

/// What a sample is made of.
#[derive(Default)]
struct Seen {
    letters: usize,
    words: usize,
    hits: [usize; COMMON.len()],
    /// It has letters of a script in which one says as much as several Latin ones.
    dense: bool,
    /// `ы`, `э` or `ё` occur, which only Russian has among the languages that write no Cyrillic letter beyond its alphabet.
    russian: bool,
    /// Cyrillic letters that Russian has not.
    foreign: bool,
}

impl Seen {
    fn read(&mut self, sample: &str) {
        let mut word = Lowered::default();
        for c in sample.chars() {
            if c.is_alphabetic() {
                self.letters += 1;
                self.dense |= matches!(c, '\u{3040}'..='\u{30ff}' | '\u{4e00}'..='\u{9fff}' | '\u{ac00}'..='\u{d7af}');
                self.russian |= matches!(c, 'ы' | 'э' | 'ё');
                self.foreign |= matches!(c, '\u{400}'..='\u{52f}') && !matches!(c, 'А'..='я' | 'ё' | 'Ё');
                word.push(c);
            } else if word.len > 0 {
                self.count(&word);
                word = Lowered::default();
            }
        }
        if word.len > 0 {
            self.count(&word);
        }
    }

    fn count(&mut self, word: &Lowered) {
        self.words += 1;
        let languages = if word.len <= WORD_BYTES_MAX { languages_of(&word.bytes) } else { 0 };
        if languages != 0 {
            for (place, hits) in self.hits.iter_mut().enumerate() {
                *hits += usize::from(languages & (1 << place) != 0);
            }
        }
    }

    /// Russian by its letters, or the one language most of whose common words these are, if no other comes near.
    fn by_common_words(&self) -> Option<&'static str> {
        if self.russian && !self.foreign && self.hits.iter().all(|hits| *hits < HITS_MIN) {
            return Some("ru");
        }
        let (place, most) = self.hits.iter().copied().enumerate().max_by_key(|(_, hits)| *hits)?;
        let second = self.hits.iter().enumerate().filter(|(other, _)| *other != place).map(|(_, hits)| *hits).max().unwrap_or(0);
        // A fifth of a natural text are such words; an address block or a table of another language has one here and there.
        let plain = most >= HITS_MIN && most >= 3 * second && most * 8 >= self.words;
        plain.then(|| COMMON.get(place).map(|(code, _)| *code)).flatten()
    }
}

fn code(lang: Lang) -> Option<&'static str> {
    Some(match lang {
        Lang::Eng => "en",
        Lang::Deu => "de",
        Lang::Fra => "fr",
        Lang::Spa => "es",
        Lang::Ita => "it",
        Lang::Por => "pt",
        Lang::Nld => "nl",
        Lang::Swe => "sv",
        Lang::Dan => "da",
        Lang::Nob => "nb",
        Lang::Fin => "fi",
        Lang::Pol => "pl",
        Lang::Ces => "cs",
        Lang::Slk => "sk",
        Lang::Slv => "sl",
        Lang::Hrv => "hr",
        Lang::Srp => "sr",
        Lang::Hun => "hu",
        Lang::Ron => "ro",
        Lang::Bul => "bg",
        Lang::Ell => "el",
        Lang::Tur => "tr",
        Lang::Rus => "ru",
        Lang::Ukr => "uk",
        Lang::Bel => "be",
        Lang::Heb => "he",
        Lang::Ara => "ar",
        Lang::Pes => "fa",
        Lang::Hin => "hi",
        Lang::Urd => "ur",
        Lang::Ben => "bn",
        Lang::Tha => "th",
        Lang::Vie => "vi",
        Lang::Ind => "id",
        Lang::Cmn => "zh",
        Lang::Jpn => "ja",
        Lang::Kor => "ko",
        Lang::Est => "et",
        Lang::Lav => "lv",
        Lang::Lit => "lt",
        Lang::Cat => "ca",
        Lang::Kat => "ka",
        Lang::Hye => "hy",
        Lang::Aze => "az",
        Lang::Mkd => "mk",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Option<&str>) {
        assert_eq!(of(text).as_deref(), expected, "{text}");
    }

    #[test]
    fn plain_texts_are_told() {
        check("Hello, the parcel you sent was not delivered, please tell me when it will be here.", Some("en"));
        check("Guten Tag, ich habe die Bestellung noch nicht bekommen und bitte Sie um eine Auskunft.", Some("de"));
        check("Bonjour, je vous écris pour la commande qui n'est pas arrivée, merci de me répondre avec une date.", Some("fr"));
        check("Hola, el pedido no ha llegado y los datos de la factura no son correctos, gracias por su ayuda.", Some("es"));
        check("Buongiorno, il mio ordine non è ancora arrivato, come posso fare per avere una risposta?", Some("it"));
        check("Здравствуйте, заказ до сих пор не пришёл, прошу вас проверить статус доставки.", Some("ru"));
        check("お世話になっております。注文した商品がまだ届いていません。", Some("ja"));
        check("Hej, jag har inte fått min beställning och undrar när den kommer till oss, tack.", Some("sv"));
    }

    #[test]
    fn what_is_too_short_or_mixed_is_not_told() {
        check("Ok, thanks", None);
        check("", None);
        check("4711 / 4712 / 4713 / 4714 / 4715 / 4716 / 4717 / 4718", None);
    }
}
