//! Text made from a seed: many scripts, emoji, whitespace and the worst cases. Pure functions of
//! their size; the same bytes on every machine.

use crate::spec::TextKind;
use crate::stats::splitmix;

/// Common words of twenty languages in nine scripts. A real sentence would be better and would
/// have to be somebody's; words in Zipf's proportions exercise the same merges.
const LANGUAGES: [(&str, &str); 20] = [
    (
        "de",
        "der die und in den von zu das mit sich des auf für ist im dem nicht ein eine als auch es an werden aus er hat dass sie nach wird bei einer um am sind noch wie einem über einen so zum war haben nur oder aber vor zur bis mehr durch man sein wurde Straße Größe schön Mädchen",
    ),
    (
        "fr",
        "de la le et les des en un du une que est pour qui dans a par plus pas au sur ne se ce il sont la avec son elle été être comme mais nous même où ou leur fait deux aussi après très français élève garçon œuvre çà",
    ),
    (
        "es",
        "de la que el en y a los se del las un por con no una su para es al lo como más o pero sus le ha me si sin sobre este ya entre cuando todo esta ser son dos también fue había era muy años hasta desde está niño mañana corazón",
    ),
    (
        "pt",
        "de a o que e do da em um para é com não uma os no se na por mais as dos como mas foi ao ele das tem à seu sua ou ser quando muito há nos já está eu também só pelo pela até isso ela entre coração irmão avó",
    ),
    (
        "it",
        "di e il la che in un a per è una non sono del le con si da come più al lo nel alla i della dei anche se o ma gli ha suo delle questo tra perché città può così già università",
    ),
    (
        "pl",
        "w i na z do się że nie to jest o jak po od ale za przez co dla tym jego czy tego przed już może być był która także więc bardzo wszystko gdzie ponieważ źródło żółć",
    ),
    (
        "cs",
        "a v se na je že o s z do i to k ve pro za by ale si po jako podle od nebo který jsou však jeho bylo také při jen už tak příliš žluťoučký kůň řeka",
    ),
    (
        "tr",
        "ve bir bu da de için ile çok daha olarak gibi ne kadar sonra olan var ama o en her şey ki değil diye ben yok büyük göre önce değişiklik İstanbul ığdır",
    ),
    (
        "vi",
        "và của là có được cho không trong người một các những với đã này để từ khi đến như về cũng ra nhiều tôi năm hơn lại vào còn nước thế giới việt nam",
    ),
    (
        "fi",
        "ja on ei se että oli hän ovat mutta kuin myös joka niin sen mukaan jo vain kun mitä tämä sitä ole voi hänen jos nyt äiti yö öljy",
    ),
    (
        "ru",
        "и в не на я быть он с что а по это она этот к но они мы весь который из у то за свой от со для о же ты год человек время рука дело жизнь день первый очень вопрос",
    ),
    (
        "uk",
        "і в не на що я з він до а це у як за та по але його ти ми вони так все від про був для вже мене нас коли ще було їх є лише чого",
    ),
    (
        "el",
        "και το να του η της με που την από για είναι στο οι τα δεν ο θα τον σε τη τους στην μου αυτό αλλά ένα μια ήταν όταν πολύ κάτι χρόνια άνθρωπος",
    ),
    (
        "ar",
        "في من على أن إلى التي عن لا ما هذا هذه كان مع الذي بعد كل أو بين قد ذلك لم كما هو عند حتى لكن غير قبل يوم العالم",
    ),
    (
        "he",
        "של את על לא הוא זה עם כי גם אני היא אבל כל יש אם או היה מה אין רק יותר כמו אחד שלא בין לאחר עוד היום עולם",
    ),
    (
        "hi",
        "के में है की और का को से पर यह कि ने हैं एक भी नहीं हो कर था जो तो कहा इस साथ वह लिए अपने बाद किया समय भारत दुनिया",
    ),
    (
        "ja",
        "の に は を た が で て と し れ さ ある いる も する から な こと として い や など なっ ない この ため その 日本 世界 東京 時間 です ます カタカナ コンピュータ",
    ),
    (
        "zh",
        "的 一 是 不 了 人 我 在 有 他 这 中 大 来 上 国 和 地 到 以 说 时 要 就 出 会 可 也 你 对 生 能 而 子 那 得 世界 中国 北京 时间 我们 他们 没有 可以 工作",
    ),
    (
        "ko",
        "이 그 는 을 를 에 의 가 하다 있다 것 수 나 들 않다 없다 사람 우리 그것 보다 등 때 년 대하다 위하다 말 일 한국 세계 시간 서울 컴퓨터",
    ),
    ("th", "ที่ ใน และ เป็น มี ของ ได้ จะ ไม่ การ ว่า ให้ กับ นี้ มา ไป ก็ คน แต่ จาก หรือ อยู่ โดย ประเทศไทย โลก เวลา"),
];

const EMOJI: [&str; 16] =
    ["😀", "🎉", "👍🏽", "👩‍💻", "👨‍👩‍👧‍👦", "🏳️‍🌈", "🇩🇪", "🇯🇵", "❤️", "1️⃣", "🤷‍♀️", "🧑🏿‍🚀", "☕", "✨", "🫠", "🐍🦀"];
const SPACES: [&str; 10] = [" ", "  ", "\n", "\n\n", "\t", "    ", "\r\n", "\u{a0}", "\u{3000}", "        "];

/// `bytes` bytes or a little more of a generated kind; empty for real kinds.
pub(super) fn text(kind: TextKind, bytes: usize) -> String {
    let mut draw = Draw(0xa55a ^ kind as u64);
    let mut text = String::with_capacity(bytes + 64);
    match kind {
        TextKind::Prose | TextKind::Code => {}
        TextKind::OneLetter => text.extend(std::iter::repeat_n('a', bytes)),
        TextKind::OneWord => {
            while text.len() < bytes {
                text.push(char::from(b'a' + draw.below(26) as u8));
            }
        }
        TextKind::Whitespace => {
            while text.len() < bytes {
                let run = SPACES[draw.below(SPACES.len())];
                let times = 1 + draw.below(200);
                text.extend(std::iter::repeat_n(run, times));
                if draw.below(8) == 0 {
                    text.push('x');
                }
            }
        }
        TextKind::EmojiWhitespace => {
            while text.len() < bytes {
                let words: Vec<&str> = LANGUAGES[draw.below(4)].1.split(' ').collect();
                text.push_str(EMOJI[draw.below(EMOJI.len())]);
                text.push_str(SPACES[draw.below(SPACES.len())]);
                if draw.below(3) == 0 {
                    text.push_str(words[draw.below(words.len())]);
                }
                if draw.below(40) == 0 {
                    text.extend(std::iter::repeat_n(' ', draw.below(60)));
                }
            }
        }
        TextKind::Multilingual => {
            while text.len() < bytes {
                sentence(&mut draw, &mut text);
            }
        }
    }
    text
}

fn sentence(draw: &mut Draw, text: &mut String) {
    let (language, words) = LANGUAGES[draw.below(LANGUAGES.len())];
    let words: Vec<&str> = words.split(' ').collect();
    let spaced = !matches!(language, "ja" | "zh" | "th");
    let length = 6 + draw.below(14);
    for at in 0..length {
        if at > 0 && spaced {
            text.push(' ');
        }
        text.push_str(words[draw.zipf(words.len())]);
        if draw.below(12) == 0 {
            text.push_str(if spaced { "," } else { "、" });
        }
        if draw.below(25) == 0 {
            text.push_str(&format!(" {}", draw.below(3000)));
        }
    }
    text.push_str(if spaced { ". " } else { "。" });
    if draw.below(5) == 0 {
        text.push('\n');
    }
}

struct Draw(u64);
impl Draw {
    fn below(&mut self, n: usize) -> usize {
        self.0 = splitmix(self.0);
        ((self.0 >> 33) % n as u64) as usize
    }
    /// Small indices more often: the product of two draws falls off like 1/rank.
    fn zipf(&mut self, n: usize) -> usize {
        let (a, b) = (self.below(n), self.below(n));
        a * (b + 1) / n
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_what_they_say() {
        assert_eq!(text(TextKind::OneLetter, 5), "aaaaa");
        assert!(text(TextKind::OneWord, 100).bytes().all(|byte| byte.is_ascii_lowercase()));
        let spaces = text(TextKind::Whitespace, 1000);
        assert!(spaces.chars().all(|c| c.is_whitespace() || c == 'x'));
        let many = text(TextKind::Multilingual, 20_000);
        for sample in ['ж', '的', 'の', 'ا', 'ה', 'ह', '한', 'λ', 'ß'] {
            let script = many.chars().any(|c| (c as u32) / 256 == (sample as u32) / 256);
            assert!(script, "no script of {sample}");
        }
        assert!(text(TextKind::EmojiWhitespace, 5000).contains('\u{200d}'));
    }

    #[test]
    fn the_same_size_is_the_same_text() {
        assert_eq!(text(TextKind::Multilingual, 5000), text(TextKind::Multilingual, 5000));
        let (long, short) = (text(TextKind::Multilingual, 9000), text(TextKind::Multilingual, 2000));
        assert!(long.starts_with(&short), "a longer text goes on where a shorter one ends");
    }
}
