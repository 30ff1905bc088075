#!/usr/bin/env python3
"""Writes tests/data/tokenizer: what Hugging Face tokenizers makes of some thousand difficult lines.

usage: make_tokenizer_cases.py TOKENIZER.json OUTPUT_FOLDER      (needs `pip install tokenizers`)

  fable-vocab.bin  vocabulary and merges of TOKENIZER.json (a GPT-2 style byte-level BPE)
  other-vocab.bin  the same of a small tokenizer trained here on the lines themselves, with
                   user-defined tokens
  cases.bin        the lines and their ids under both
  decoder.bin      byte strings, mostly broken UTF-8, and the text that Python decodes them to

Vocabularies are a GGUF metadata section: u64 count, then (u64 key bytes, key, u32 type, value). The
other files are a varint count, then per case varints and bytes in the order the writers below give.
The output depends on the seed, on TOKENIZER.json and on the version of tokenizers alone (0.23.3,
whose regex engine has Unicode 16.0.0, made the files in the repository).
"""
import json
import random
import struct
import sys
from pathlib import Path

try:
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
except ImportError as missing:  # tests/programs/test_spm.py takes the lines alone
    if __name__ == "__main__":
        sys.exit(f"{missing}: pip install tokenizers")

SEED = 20240614

SENTENCES = """\
Alice was beginning to get very tired of sitting by her sister on the bank, and of having nothing
"Oh dear! Oh dear! I shall be late!" -- it wasn't SO very remarkable; she'd thought they're odd,
I'll say, we've all I'm
It's 3.14159, isn't it? You'll owe $1,234.56 (or 42%) by 1999-12-31T23:59:59Z; e-mail
me@example.org #hash @you.
int main(void) { for (int i = 0; i < 10; i++) printf("%d\\n", a[i]->b); return 0; } /* C's code */
// don't
Tous les êtres humains naissent libres et égaux en dignité et en droits. Qu'est-ce que c'est? L'été
à Noël.
Alle Menschen sind frei und gleich an Würde und Rechten geboren. Straße, Größe, Übermut, ÄÖÜ ẞ.
Todos los seres humanos nacen libres e iguales en dignidad y derechos. ¿Qué? ¡Mañana! El niño y la
cigüeña.
Todos os seres humanos nascem livres e iguais em dignidade e em direitos. São João não é à toa.
Tutti gli esseri umani nascono liberi ed eguali in dignità e diritti. Perché? L'università
dell'Aquila.
Všichni lidé rodí se svobodní a sobě rovní co do důstojnosti a práv. Příliš žluťoučký kůň úpěl
ďábelské ódy.
Wszyscy ludzie rodzą się wolni i równi pod względem swej godności i swych praw. Zażółć gęślą jaźń.
Minden emberi lény szabadon születik és egyenlő méltósága és joga van. Árvíztűrő tükörfúrógép.
Toate ființele umane se nasc libere și egale în demnitate și în drepturi. Țară, șapte, înțelept.
Bütün insanlar hür, haysiyet ve haklar bakımından eşit doğarlar. İstanbul'da ılık ığdır.
Tất cả mọi người sinh ra đều được tự do và bình đẳng về nhân phẩm và quyền lợi.
Kaikki ihmiset syntyvät vapaina ja tasavertaisina arvoltaan ja oikeuksiltaan. Hääyöaie.
Alla människor är födda fria och lika i värde och rättigheter. Räksmörgås på ön.
Hver maður er borinn frjáls og jafn öðrum að virðingu og réttindum. Þórður, Æsa, ðeir.
Visi cilvēki piedzimst brīvi un vienlīdzīgi savā pašcieņā un tiesībās. Žurnāls, ģimene.
Все люди рождаются свободными и равными в своём достоинстве и правах. Съешь ещё этих мягких
французских булок.
Всі люди народжуються вільними і рівними у своїй гідності та правах. Її ґанок, п'ять.
Сва људска бића рађају се слободна и једнака у достојанству и правима. Љубав, џеп, ђак.
Όλοι οι άνθρωποι γεννιούνται ελεύθεροι και ίσοι στην αξιοπρέπεια και τα δικαιώματα. Ξεσκεπάζω; ᾧ ᾳ.
Բոլոր մարդիկ ծնվում են ազատ ու հավասար՝ իրենց արժանապատվությամբ ու իրավունքներով։
ყველა ადამიანი იბადება თავისუფალი და თანასწორი თავისი ღირსებითა და უფლებებით.
כל בני אדם נולדו בני חורין ושווים בערכם ובזכויותיהם. בְּרֵאשִׁית בָּרָא אֱלֹהִים
يولد جميع الناس أحرارا متساوين في الكرامة والحقوق. بِسْمِ ٱللَّهِ ٱلرَّحْمَٰنِ ١٢٣٤٥
تمام انسان‌ها آزاد به دنیا می‌آیند و از لحاظ حیثیت و حقوق با هم برابرند. ۱۲۳۴
سبھی انسان آزاد اور حقوق و عزت کے اعتبار سے برابر پیدا ہوئے ہیں۔
सभी मनुष्यों को गौरव और अधिकारों के मामले में जन्मजात स्वतन्त्रता और समानता प्राप्त है। १२३
সমস্ত মানুষ স্বাধীনভাবে সমান মর্যাদা এবং অধিকার নিয়ে জন্মগ্রহণ করে। ১২৩
ਸਾਰੇ ਮਨੁੱਖ ਮਾਣ ਅਤੇ ਹੱਕਾਂ ਪੱਖੋਂ ਆਜ਼ਾਦ ਅਤੇ ਬਰਾਬਰ ਜਨਮ ਲੈਂਦੇ ਹਨ।
પ્રતિષ્ઠા અને અધિકારોની દૃષ્ટિએ સર્વ માનવો જન્મથી સ્વતંત્ર અને સમાન હોય છે.
மனிதப் பிறவியினர் சகலரும் சுதந்திரமாகவே பிறக்கின்றனர். ௧௨௩
ప్రతిపత్తిస్వత్వముల విషయమున మానవులెల్లరును జన్మతః స్వతంత్రులును సమానులును అగుదురు.
ಎಲ್ಲಾ ಮಾನವರೂ ಸ್ವತಂತ್ರರಾಗಿಯೇ ಜನಿಸಿದ್ದಾರೆ. ೧೨೩
മനുഷ്യരെല്ലാവരും തുല്യാവകാശങ്ങളോടും അന്തസ്സോടും സ്വാതന്ത്ര്യത്തോടുംകൂടി ജനിച്ചിട്ടുള്ളവരാണ്.
සියලු මනුෂ්‍යයෝ නිදහස්ව උපත ලබා ඇත.
มนุษย์ทั้งหลายเกิดมามีอิสระและเสมอภาคกันในเกียรติศักดิ์และสิทธิ ๑๒๓๔
ມະນຸດທຸກຄົນເກີດມາມີອິດສະຫຼະ ແລະ ສະເໝີພາບກັນ
လူတိုင်းသည် တူညီ လွတ်လပ်သော ဂုဏ်သိက္ခာဖြင့် မွေးဖွားလာသူများဖြစ်သည်။
មនុស្សទាំងអស់ កើតមកមានសេរីភាព និងសមភាព។
འགྲོ་བ་མིའི་རིགས་རྒྱུད་ཡོངས་ལ་སྐྱེས་ཙམ་ཉིད་ནས་ཆེ་མཐོངས་དང༌།
የሰው ልጅ ሁሉ ሲወለድ ነጻና በክብርና በመብትም እኩልነት ያለው ነው።
人人生而自由，在尊严和权利上一律平等。他们赋有理性和良心！
人人生而自由，在尊嚴和權利上一律平等。《論語》曰：「學而時習之」。
すべての人間は、生まれながらにして自由であり、かつ、尊厳と権利とについて平等である。カタカナ ﾊﾝｶｸ １２３
모든 인간은 태어날 때부터 자유로우며 그 존엄과 권리에 있어 동등하다. 각
Хүн бүр төрж мэндлэхэд эрх чөлөөтэй, адилхан нэр төртэй. ᠮᠣᠩᠭᠣᠯ
ᏂᎦᏓ ᎠᏂᏴᏫ ᏂᎨᎫᏓᎸᎾ ᎠᎴ ᎤᏂᏠᏱ. ᐃᓄᒃᑎᑐᑦ ᚠᚢᚦᚨᚱᚲ ⲁⲃⲅ 𐌰𐌱𐌲 𐤀𐤁 𒀀𒁀 𓀀𓁐
Watu wote wamezaliwa huru, hadhi na haki zao ni sawa. Ụmụ mmadụ nile a mụrụ n'ohere nhere.
E=mc², ∀x∈ℝ: ⌈x⌉ = −⌊−x⌋, α ∧ ¬β; ½ + ⅓ = ⅚; Ⅷ ⅻ ① ② ㊿ ™ © ® ° µ Ω Å ﬁ ﬂ Ǆ ß
""".splitlines()

# first and last code point of blocks to make words from, and how many lines of each
BLOCKS = [(0x20, 0x7E, 350), (0xA0, 0xFF, 80), (0x100, 0x24F, 80), (0x250, 0x2FF, 40),
          (0x300, 0x36F, 60), (0x370, 0x3FF, 60), (0x400, 0x52F, 60), (0x530, 0x58F, 30),
          (0x590, 0x5FF, 40), (0x600, 0x6FF, 60), (0x700, 0x7FF, 40), (0x800, 0x8FF, 40),
          (0x900, 0x97F, 50), (0x980, 0xDFF, 80), (0xE00, 0xEFF, 40), (0xF00, 0xFFF, 40),
          (0x1000, 0x10FF, 40), (0x1100, 0x11FF, 30), (0x1200, 0x139F, 30), (0x13A0, 0x167F, 40),
          (0x1680, 0x16FF, 40), (0x1700, 0x18AF, 40), (0x18B0, 0x1CFF, 60), (0x1D00, 0x1FFF, 40),
          (0x2000, 0x206F, 90), (0x2070, 0x218F, 60), (0x2190, 0x245F, 30), (0x2460, 0x27BF, 50),
          (0x27C0, 0x2BFF, 20), (0x2C00, 0x2DFF, 40), (0x2E00, 0x303F, 50), (0x3040, 0x33FF, 60),
          (0x3400, 0x4DBF, 20), (0x4E00, 0x9FFF, 50), (0xA000, 0xABFF, 80), (0xAC00, 0xD7FF, 40),
          (0xE000, 0xF8FF, 10), (0xF900, 0xFFFD, 80), (0x10000, 0x105FF, 40),
          (0x10600, 0x10FFF, 60), (0x11000, 0x11FFF, 80), (0x12000, 0x16FFF, 60),
          (0x17000, 0x1BFFF, 40), (0x1C000, 0x1D7FF, 60), (0x1D800, 0x1F1FF, 60),
          (0x1F200, 0x1FAFF, 60), (0x20000, 0x323AF, 40), (0xE0000, 0xE01EF, 20),
          (0x10FF00, 0x10FFFF, 10)]
SPACES = [*"\t\n\v\f\r ", "\x85", "\xa0", "\u1680", *map(chr, range(0x2000, 0x200B)), "\u2028",
          "\u2029", "\u202f", "\u205f", "\u3000"]
NOT_SPACES = ["\x1c", "\x1d", "\x1e", "\x1f", "\u180e", "\u200b", "\u200c", "\u200d", "\u2060",
              "\ufeff", "\u3164"]
DIGIT_ZEROS = [0x30, 0x660, 0x6F0, 0x7C0, 0x966, 0x9E6, 0xA66, 0xAE6, 0xB66, 0xBE6, 0xC66, 0xCE6,
               0xD66, 0xDE6, 0xE50, 0xED0, 0xF20, 0x1040, 0x17E0, 0x1810, 0x1946, 0x19D0, 0x1B50,
               0x1BB0, 0x1C40, 0xA620, 0xA8D0, 0xA900, 0xA9D0, 0xAA50, 0xABF0, 0xFF10, 0x104A0,
               0x10D40, 0x11066, 0x116D0, 0x1D7CE, 0x1E140, 0x1E950]
NUMBERS = "²³¹¼½¾٠Ⅷⅻ①⑳❿㊿〇〡㆒꠰𐄇𐅀𒐀𝍠𞲠🄀൰௰"
EMOJI = ["😀", "👍🏽", "👨‍👩‍👧‍👦", "🏳️‍🌈", "🇯🇵", "🇧🇷🇩🇪", "1️⃣", "#️⃣", "❤️", "🧑🏿‍🚀", "☕", "🫠",
         "👩‍❤️‍💋‍👨", "🏴󠁧󠁢󠁥󠁮󠁧󠁿", "⏳", "🪿", "🙈🙉🙊", "©️"]
CONTRACTIONS = ["'s", "'t", "'re", "'ve", "'m", "'ll", "'d", "'S", "'LL", "'r", "'v", "'l", "''s",
                "’s", "'", "'se", "'tv", "'lll", "'dd", "'\u00e9"]
SPECIALS = ["<s>", "<pad>", "</s>", "<unk>", "<|end|>", "<|end|>!", "<|pad|>", "→→", "\n\n\n",
            " the end", " the end of", "<", "</s", "s>", "<|end|", "→", "\n\n", " the en",
            "</s></s>", "<s></s>"]
ASCII_WORDS = """I you the was hello World don't it's can't re ve ll 1 22 333 4.5 a_b x=y e.g. (ok)
                 [x] {y} "q" -- ...""".split()


def word(rng, first, last, longest=7):
    characters = [chr(rng.randint(first, last)) for _ in range(rng.randint(1, longest))]
    return "".join(c for c in characters if not 0xD800 <= ord(c) <= 0xDFFF)


def join(rng, parts):
    text = ""
    for part in parts:
        odd = rng.choice(SPACES), rng.choice(SPACES)
        text += part + rng.choice(["", " ", " ", " ", "  ", odd[0], odd[1] * 2])
    return text if rng.random() < 0.5 else text.strip(" ")


def some(rng, choices, most):
    return [rng.choice(choices) for _ in range(rng.randint(1, most))]


def make_lines(rng):
    lines = ["", " ", "  ", "\n", "'", "a", "\u3000", "\0"] + SENTENCES
    for sentence in SENTENCES * 8:
        start = rng.randrange(len(sentence) // 2)
        lines.append(sentence[start:start + rng.randint(5, 40)])
    for first, last, count in BLOCKS:
        for _ in range(count):
            parts = [word(rng, first, last) for _ in range(rng.randint(1, 3))]
            if rng.random() < 0.4:
                parts.insert(rng.randint(0, len(parts)), rng.choice(ASCII_WORDS))
            lines.append(join(rng, parts))
    for _ in range(350):
        mixed = ASCII_WORDS + SPACES + NOT_SPACES + ["é", "字"]
        lines.append("".join(some(rng, SPACES, 6) + some(rng, mixed, 6)))
    for _ in range(150):
        lines.append("".join(some(rng, [" ", " ", "\n", "\r", "\r\n", "\t", "x", "."], 12)))
    for _ in range(300):
        lines.append("".join(some(rng, ASCII_WORDS + CONTRACTIONS * 3 + [" "] * 20, 8)))
    for _ in range(200):
        digits = [chr(zero + rng.randrange(10)) for zero in some(rng, DIGIT_ZEROS, 8)]
        lines.append(join(rng, ["".join(digits), rng.choice(NUMBERS), rng.choice(ASCII_WORDS)]))
    for _ in range(200):
        lines.append("".join(some(rng, EMOJI * 2 + [" ", "a", "\ufe0f", "\u200d", "🏻", "! "], 6)))
    for _ in range(150):
        bases = some(rng, "aeoq Éक字1", 6)
        lines.append("".join(base + word(rng, 0x300, 0x36F, 4) for base in bases))
    for _ in range(200):
        controls = [chr(c) for c in range(32)] + ["\x7f", "\x80", "\x9f", "\xad", "\xff", "a", " "]
        lines.append("".join(some(rng, controls, 10)))
    for _ in range(500):
        far = rng.random() < 0.4
        lines.append(word(rng, 0x80, 0x10FFFF, 9) if far else word(rng, 0x20, 0xFFFF, 12))
    for _ in range(250):
        lines.append("".join(some(rng, SPECIALS * 2 + ASCII_WORDS + [" ", "\n", "字"], 7)))
    for piece, count in [("a", 700), (" ", 400), ("1", 300), ("ab", 200), ("\n", 120), ("!", 200),
                         ("字", 60), ("é", 90), ("he", 150), ("the ", 60), (" the", 60), ("'s", 60),
                         ("\u3000", 60), ("\r\n", 60), ("=", 333), ("😀", 40), ("\u0301", 80),
                         ("-_", 70), ("xyzzy", 60), ("aA", 65)]:
        lines += [piece * count, piece * (count // 3) + "x", "  " + piece * (count // 7) + " "]
    return lines


def varint(number):
    out = b""
    while number >= 128:
        out += bytes([number & 127 | 128])
        number >>= 7
    return out + bytes([number])


def blob(data):
    return varint(len(data)) + data


def gguf_string(text):
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


U32, BOOL, STRING, ARRAY, I32 = 4, 7, 8, 9, 5


def vocabulary(tokenizer, keys, pre="gpt-2", model="gpt2", type_of=lambda text, kind: kind):
    """The tokenizer.ggml.* keys of a tokenizer as a GGUF metadata section."""
    spec = json.loads(tokenizer.to_str())
    added = {token["id"]: token for token in spec["added_tokens"]}
    ids = tokenizer.get_vocab(with_added_tokens=True)
    tokens = [text for text, _ in sorted(ids.items(), key=lambda item: item[1])]
    assert sorted(ids.values()) == list(range(len(tokens)))
    types = [1 if i not in added else 3 if added[i]["special"] else 4 for i in range(len(tokens))]
    merges = [m if isinstance(m, str) else " ".join(m) for m in spec["model"]["merges"]]
    types = [type_of(text, kind) for text, kind in zip(tokens, types)]
    entries = [("model", STRING, gguf_string(model))]
    if pre is not None:
        entries.append(("pre", STRING, gguf_string(pre)))
    for key, kind, elements in (("tokens", STRING, [gguf_string(t) for t in tokens]),
                                ("token_type", I32, [struct.pack("<i", t) for t in types]),
                                ("merges", STRING, [gguf_string(m) for m in merges])):
        entries.append((key, ARRAY, struct.pack("<IQ", kind, len(elements)) + b"".join(elements)))
    for key, value in keys.items():
        kind, form = (BOOL, "<?") if isinstance(value, bool) else (U32, "<I")
        entries.append((key, kind, struct.pack(form, value)))
    out = struct.pack("<Q", len(entries))
    for key, kind, value in entries:
        out += gguf_string("tokenizer.ggml." + key) + struct.pack("<I", kind) + value
    return out


def train_other(lines):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=1500, special_tokens=["<|end|>", "<|pad|>"],
                                  initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
                                  min_frequency=2, show_progress=False)
    tokenizer.train_from_iterator(lines, trainer)
    tokenizer.add_tokens([AddedToken(text, normalized=False)
                          for text in ("<|end|>!", "→→", "\n\n\n", " the end", " the end of")])
    return tokenizer


def encoded(tokenizer, line, special):
    tokenizer.encode_special_tokens = not special  # True: texts of special tokens are plain text
    ids = tokenizer.encode(line, add_special_tokens=False).ids
    return varint(len(ids)) + b"".join(map(varint, ids))


def broken_utf8(rng):
    good = [c.encode() for c in "aé字😀\u07ff\u0800\uffff\U00010000\U0010ffff"]
    bad = [b"\x80", b"\xbf", b"\xc0\x80", b"\xc1", b"\xe0\x80\x80", b"\xed\xa0\x80",
           b"\xf0\x80\x80\x80", b"\xf4\x90\x80\x80", b"\xf5", b"\xff", b"\xfe", b"\xe5\xad",
           b"\xf0\x9f\x98", b"\xf0\x9f", b"\xc3", b"\xe0\xa0", b"\xf4\x8f\xbf"]
    pieces = some(rng, good + bad, 6)
    if rng.random() < 0.3:
        pieces.append(bytes(rng.randrange(256) for _ in range(rng.randint(1, 8))))
    return b"".join(pieces)


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    rng, folder = random.Random(SEED), Path(sys.argv[2])
    fable = Tokenizer.from_file(sys.argv[1])
    lines = make_lines(rng)
    other = train_other(lines[::2])
    cases, count = b"", 0
    for line in dict.fromkeys(lines):  # each once, in order
        both = any(special in line for special in SPECIALS[:8])
        for special in (True, False) if both else (rng.random() < 0.5,):
            cases += varint(special) + blob(line.encode())
            cases += encoded(fable, line, special) + encoded(other, line, special)
            count += 1
    strings = [b"", b"\xe2\x82", b"\xf0\x9f\x98\x80"] + [broken_utf8(rng) for _ in range(1500)]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "fable-vocab.bin").write_bytes(vocabulary(fable, {
        "bos_token_id": 2, "eos_token_id": 2, "unknown_token_id": 3, "padding_token_id": 1,
        "add_bos_token": True}))
    (folder / "other-vocab.bin").write_bytes(vocabulary(other, {"eos_token_id": 0}))
    (folder / "cases.bin").write_bytes(varint(count) + cases)
    (folder / "decoder.bin").write_bytes(varint(len(strings)) + b"".join(
        blob(s) + blob(s.decode("utf-8", "replace").encode()) for s in strings))
    print(count, "cases,", len(strings), "byte strings")


if __name__ == "__main__":
    main()
