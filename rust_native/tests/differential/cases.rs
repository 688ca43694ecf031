//! The generated cases. Each has a number, so that any share of them is spread evenly over all, and any thread
//! can make any of them.

use std::sync::LazyLock;

/// Cases of a whole run: all of the numbered ones, and the rest drawn.
pub const WHOLE: u64 = 10_000_000;

/// Code points that are characters.
pub const CHARACTERS: u64 = 0x11_0000 - 0x800;

/// One character or more of every kind that the pattern tells apart, in every width of UTF-8. The first ten are
/// the ones that catch the most; the first [`SWEPT`] are swept in fives.
pub const KINDS: [&str; 20] = [
    " ", "\n", "a", "1", "!", "\0", "世", "\u{a0}", "\t", "'", "s", "l", "e", "🙂", "é", "\u{3000}", "٣",
    "\r", "\u{301}", "V",
];
const SWEPT: u64 = 15;
const FOURS: u64 = 20 + 20 * 20 + 20 * 20 * 20 + 20 * 20 * 20 * 20;

/// Places where corpora are begun, and where they are ended.
const CUTS: u64 = 70;

/// A way to make cases.
pub struct Generator {
    pub name: &'static str,
    pub size: Size,
    /// Appends the case of this number.
    pub make: fn(u64, &mut Vec<u8>),
}

/// How many cases a generator has.
#[derive(Clone, Copy)]
pub enum Size {
    /// So many and no more.
    All(u64),
    /// Any number; this share of what the others leave, in tenths.
    Drawn(u64),
}

/// Longest cases first: what one thread ends with should be short.
pub const GENERATORS: [Generator; 10] = [
    Generator { name: "piece over 64 KB", size: Size::All(100), make: long },
    Generator { name: "corpus cut at 70 places", size: Size::All(6 * CUTS * CUTS), make: cut },
    Generator {
        name: "code point alone",
        size: Size::All(CHARACTERS),
        make: |i, case| push(case, character(i)),
    },
    Generator { name: "code point in runs", size: Size::All(CHARACTERS), make: runs },
    Generator { name: "code point between others", size: Size::All(CHARACTERS), make: between },
    Generator { name: "up to 4 kinds of 20", size: Size::All(FOURS), make: fours },
    Generator { name: "4 kinds at a block's end", size: Size::All(3 * 20_u64.pow(4)), make: at_the_end },
    Generator {
        name: "5 kinds of 15",
        size: Size::All(SWEPT.pow(5)),
        make: |i, case| kinds(i, SWEPT, 5, case),
    },
    Generator {
        name: "mixture of texts",
        size: Size::Drawn(8),
        make: |i, case| mixture(&mut Draws(i), case),
    },
    Generator { name: "damaged bytes", size: Size::Drawn(2), make: damaged },
];

/// How many cases each generator contributes to `total`, and which: the case `i` of `n` has this number.
pub fn counts(total: u64) -> [u64; GENERATORS.len()] {
    let mut left = total;
    let mut counts = GENERATORS.map(|generator| match generator.size {
        Size::All(size) if total < WHOLE => (size * total).div_ceil(WHOLE),
        Size::All(size) => size,
        Size::Drawn(_) => 0,
    });
    left -= left.min(counts.iter().sum());
    for (count, generator) in counts.iter_mut().zip(&GENERATORS) {
        if let Size::Drawn(tenths) = generator.size {
            *count = (left * tenths).div_ceil(10);
        }
    }
    counts
}

impl Generator {
    /// The number of the `i`th of `count` cases: spread evenly, but never in step with how they are numbered.
    pub fn number(&self, i: u64, count: u64) -> u64 {
        match self.size {
            Size::All(size) => {
                let (from, to) = (i * size / count, (i + 1) * size / count);
                from + Draws(i).next() % (to - from)
            }
            Size::Drawn(_) => i,
        }
    }
}

/// Random numbers of a case: SplitMix64, after Steele, Lea and Flood, OOPSLA 2014.
struct Draws(u64);

impl Draws {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let x = (self.0 ^ self.0 >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let x = (x ^ x >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        x ^ x >> 31
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    fn of<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[self.below(list.len())]
    }
}

fn push(case: &mut Vec<u8>, c: char) {
    case.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
}

/// The `i`th code point that is a character.
pub fn character(i: u64) -> char {
    let code = if i < 0xD800 { i } else { i + 0x800 };
    char::from_u32(code as u32).expect("surrogates are left out")
}

fn runs(i: u64, case: &mut Vec<u8>) {
    let c = character(i);
    // Past a block, now and then: what is looked at together are 64 bytes.
    for _ in 0..if i.is_multiple_of(64) { 70 } else { 3 } {
        push(case, c);
    }
    case.push(b' ');
    push(case, c);
    push(case, c);
}

fn between(i: u64, case: &mut Vec<u8>) {
    let c = character(i);
    for other in [" ", "a", "1", "!", "\n", "  ", "'s", "'"] {
        case.extend_from_slice(other.as_bytes());
        push(case, c);
    }
}

fn kinds(mut i: u64, of: u64, length: u32, case: &mut Vec<u8>) {
    for _ in 0..length {
        case.extend_from_slice(KINDS[(i % of) as usize].as_bytes());
        i /= of;
    }
}

fn fours(mut i: u64, case: &mut Vec<u8>) {
    let mut length = 1;
    while i >= 20_u64.pow(length) {
        i -= 20_u64.pow(length);
        length += 1;
    }
    kinds(i, 20, length, case);
}

fn at_the_end(i: u64, case: &mut Vec<u8>) {
    case.extend(std::iter::repeat_n(b'x', 61 + (i % 3) as usize));
    kinds(i / 3, 20, 4, case);
    case.push(b'b');
}

static CORPORA: LazyLock<[String; 6]> = LazyLock::new(|| {
    let scripts = "Съешь же ещё этих мягких французских булок, да выпей чаю. 日本語のテキスト、そして全角の　空白。\
        صِف خَلقَ خَودٍ كَمِثلِ الشَمسِ إِذ بَزَغَت — 12٣٤ हिन्दी पाठ 한국어 문장입니다.\n\n Ça va ? « Oui »… 👩‍👩‍👧 🇩🇪\u{2003}\u{2003}x\r\n";
    let code = include_str!("../../src/bpe/encode.rs");
    [
        include_str!("../../README.md").to_owned(),
        code.to_owned(),
        code[code.floor_char_boundary(code.len() / 2)..].replace("    ", "\t"),
        scripts.repeat(9),
        "it's we'll I'd they've 'tis ''s ' 'r 're! ".repeat(90),
        "a\n\n b \t\r\n  c\u{a0}\u{3000}\u{3000}d   1\n \n\n".repeat(90),
    ]
    // Beyond a chunk of 2 KiB, so that its end is cut through as well.
    .map(|text| text[..text.floor_char_boundary(2200)].to_owned())
});

fn cut(i: u64, case: &mut Vec<u8>) {
    let (text, from, to) = (i / (CUTS * CUTS), i / CUTS % CUTS, i % CUTS);
    let text = &CORPORA[text as usize];
    let (from, to) =
        (text.floor_char_boundary(from as usize), text.floor_char_boundary(text.len() - to as usize));
    case.extend_from_slice(&text.as_bytes()[from..to]);
}

/// Pieces that are longer than a 16-bit offset can say: of one character, then of many.
fn long(i: u64, case: &mut Vec<u8>) {
    const LENGTHS: [usize; 4] = [65_535, 65_536, 65_537, 131_075];
    const MANY: [&[u8]; 5] = [b"abcdefghijklmnopqrstuvwxyz", b"aeiou", b"0123456789", b"=-_*#./", b"ab"];
    let (which, length) = ((i / 4) as usize, LENGTHS[(i % 4) as usize]);
    if i % 8 < 4 {
        case.extend_from_slice(b"x ");
    }
    if let Some(kind) = KINDS.get(which) {
        while case.len() < length {
            case.extend_from_slice(kind.as_bytes());
        }
    } else {
        let mut draws = Draws(i);
        case.extend((0..length).map(|_| draws.of(MANY[which - KINDS.len()])));
    }
    case.extend_from_slice(b"'s");
}

/// What texts are mixed of: single characters of a pool, or whole words.
static POOLS: LazyLock<Vec<Vec<char>>> = LazyLock::new(|| {
    [
        "etaoinshrdlucmfwypvbgkqjxz",
        "etaoinshrdlu",
        "ABCDEFGHIJKLMNOPQRSTUVWXYZ",
        "0123456789",
        " ",
        " \n\t\r\u{b}\u{c}",
        "'stmdrevl",
        "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~",
        "\u{a0}\u{1680}\u{2000}\u{2003}\u{200a}\u{200b}\u{2028}\u{2029}\u{202f}\u{205f}\u{3000}\u{feff}\u{85}\u{1c}\u{1f}\u{180e}",
        "\u{300}\u{301}\u{308}\u{327}\u{36f}\u{200d}\u{fe0f}",
        "世界日本語テキスト的一是不了한국어문장",
        "Ⅷ½²٣०৪๓𝟘𐒠①",
        "éÉßñøČœàüö",
        "абвгдежзиклмнопрстуЖШЩ",
        "العربيةمندوكت",
        "हिन्दीपाठकेमें",
        "🙂👩👧🏳🌈🇩🇪👍🏽🎉",
        "\u{0}\u{1}\u{7}\u{7f}\u{80}\u{9f}",
    ]
    .map(|pool| pool.chars().collect())
    .to_vec()
});

const WORDS: [&str; 24] = [
    " the",
    " and",
    "The",
    " function",
    "http://www.",
    "'s",
    "'re",
    "'ll",
    "'S",
    " don't",
    "    ",
    "\n\n",
    "\r\n",
    " ==",
    "://",
    "...",
    "<|endoftext|>",
    "<|endof",
    "<|",
    " I'm",
    " 2024",
    " naïve",
    " 你好",
    "\t\t",
];

fn mixture(draws: &mut Draws, case: &mut Vec<u8>) {
    for _ in 0..1 + draws.below(10) {
        match draws.below(24) {
            0 => push(case, character(draws.next() % CHARACTERS)),
            1..=5 => case.extend_from_slice(draws.of(&WORDS).as_bytes()),
            _ => {
                let pool = draws.of(&POOLS);
                // Long words are rare, and then beyond what each of the caches holds.
                let most = if draws.below(40) == 0 { 90 } else { 7 };
                for _ in 0..1 + draws.below(most) {
                    push(case, *draws.of(pool));
                }
            }
        }
    }
}

/// A mixture, cut anywhere, with bytes changed to ones that no text has or that belong elsewhere.
fn damaged(i: u64, case: &mut Vec<u8>) {
    let mut draws = Draws(!i);
    mixture(&mut draws, case);
    let end = draws.below(case.len() + 1);
    case.truncate(end);
    case.drain(..draws.below(4).min(case.len()));
    for _ in 0..draws.below(4) {
        let byte = match draws.below(4) {
            0 => 0xF5 + draws.below(11) as u8,
            1 => 0x80 + draws.below(64) as u8,
            2 => *draws.of(&[0xC0, 0xC1, 0xC3, 0xE0, 0xE4, 0xED, 0xEF, 0xF0, 0xF4]),
            _ => draws.below(256) as u8,
        };
        let at = draws.below(case.len() + 1);
        if draws.below(2) == 0 && at < case.len() {
            case[at] = byte;
        } else {
            case.insert(at, byte);
        }
    }
}
