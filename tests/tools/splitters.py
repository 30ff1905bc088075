"""The tokenizers that tokenizer.ggml.pre names, as their models' own tokenizer.json have them, for Hugging Face tokenizers.

Written down apart from lib/text/split.c, and in that package's words: what the two make of a text is compared.
"""
import json

GPT2 = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
BYTES = {**GPT2, "use_regex": False}
DIGITS = {"type": "Digits", "individual_digits": True}
CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
SPACES = r"\s*[\r\n]+|\s+(?!\S)|\s+"
LLAMA = CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|" + SPACES
QWEN2 = LLAMA.replace("{1,3}", "")
QWEN35 = CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|" + SPACES
GPT4O = (rf"[^\r\n\p{{L}}\p{{N}}]?{UPPER}*{LOWER}+{CONTRACTIONS}?|[^\r\n\p{{L}}\p{{N}}]?{UPPER}+{LOWER}*{CONTRACTIONS}?"
         r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|" + SPACES)
TEKKEN = GPT4O.replace(CONTRACTIONS + "?", "").replace("{1,3}", "")
# a class of letters from before expressions had \p{..}, in numbers: some are not in NFC
DEEPSEEK_LETTERS = [
    (0x41, 0x5a), (0x61, 0x7a), 0xb5, (0xc0, 0xd6), (0xd8, 0xf6), (0xf8, 0x1ba), (0x1bc, 0x1bf), (0x1c4, 0x293),
    (0x295, 0x2af), (0x370, 0x373), 0x376, 0x377, (0x37b, 0x37d), 0x37f, 0x386, (0x388, 0x38a), 0x38c, (0x38e, 0x3a1),
    (0x3a3, 0x3f5), (0x3f7, 0x481), (0x48a, 0x52f), (0x531, 0x556), (0x10a0, 0x10c5), (0x13a0, 0x13f5), (0x13f8, 0x13fd),
    (0x1c90, 0x1cba), (0x1cbd, 0x1cbf), (0x1d00, 0x1d2b), (0x1d6b, 0x1d77), (0x1d79, 0x1d9a), (0x1e00, 0x1f15),
    (0x1f18, 0x1f1d), (0x1f20, 0x1f45), (0x1f48, 0x1f4d), (0x1f50, 0x1f57), 0x1f59, 0x1f5b, 0x1f5d, (0x1f5f, 0x1f7d),
    (0x1f80, 0x1fb4), (0x1fb6, 0x1fbc), 0x1fbe, (0x1fc2, 0x1fc4), (0x1fc6, 0x1fcc), (0x1fd0, 0x1fd3), (0x1fd6, 0x1fdb),
    (0x1fe0, 0x1fec), (0x1ff2, 0x1ff4), (0x1ff6, 0x1ffc), 0x2102, 0x2107, (0x210a, 0x2113), 0x2115, (0x2119, 0x211d),
    0x2124, 0x2126, 0x2128, (0x212a, 0x212d), (0x212f, 0x2134), 0x2139, (0x213c, 0x213f), (0x2145, 0x2149), 0x214e, 0x2183,
    0x2184, (0x2c00, 0x2c7b), (0x2c7e, 0x2ce4), (0x2ceb, 0x2cee), 0x2cf2, 0x2cf3, (0xa640, 0xa66d), (0xa680, 0xa69b),
    (0xa722, 0xa76f), (0xa771, 0xa787), (0xa78b, 0xa78e), (0xab70, 0xabbf), (0xfb00, 0xfb06), (0xfb13, 0xfb17),
    (0xff21, 0xff3a), (0xff41, 0xff5a), (0x10400, 0x1044f), (0x104b0, 0x104d3), (0x104d8, 0x104fb), (0x10c80, 0x10cb2),
    (0x10cc0, 0x10cf2), (0x118a0, 0x118df), (0x1e900, 0x1e943)]
HAN = "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+"


def ranges(numbers):
    return "".join(chr(n) if isinstance(n, int) else f"{chr(n[0])}-{chr(n[1])}" for n in numbers)


def split(*expressions, then=(BYTES,)):
    """Split by each expression, then something else."""
    parts = [{"type": "Split", "pattern": {"Regex": text}, "behavior": "Isolated", "invert": False} for text in expressions]
    return {"type": "Sequence", "pretokenizers": [*parts, *then]}


NFC = {"type": "NFC"}
# name: pre_tokenizer, normalizer, ignore_merges
SPLITTERS = {
    "gpt-2": (GPT2, None, False),
    "phi-2": (GPT2, None, False),
    "olmo": (GPT2, NFC, False),
    "mpt": (GPT2, NFC, False),
    "smollm": (split(then=(DIGITS, GPT2)), None, False),
    "starcoder": (split(then=(DIGITS, GPT2)), None, False),
    "refact": (split(then=(DIGITS, GPT2)), None, False),
    "command-r": (split(then=(DIGITS, GPT2)), NFC, False),
    "llama-bpe": (split(LLAMA), None, True),
    "llama3": (split(LLAMA), None, True),
    "llama-v3": (split(LLAMA), None, True),
    "qwen2": (split(QWEN2), NFC, False),
    "qwen35": (split(QWEN35), NFC, False),
    "gpt-4o": (split(GPT4O), None, False),
    "llama4": (split(GPT4O), None, False),
    "tekken": (split(TEKKEN), None, True),
    "falcon": (split(then=({"type": "Punctuation", "behavior": "Contiguous"}, GPT2, {**DIGITS, "individual_digits": False},
                           split("[0-9][0-9][0-9]", then=())["pretokenizers"][0])), None, False),
    "deepseek-llm": (split("[\r\n]", f"\\s?[{ranges(DEEPSEEK_LETTERS)}]+",
                           "\\s?[!-/:-~\uff01-\uff0f\uff1a-\uff5e\u2018-\u201f\u3000-\u3002]+", "\\s+$", HAN,
                           then=(DIGITS, BYTES)), None, False),
    "deepseek-coder": (split("[\r\n]", "\\s?\\p{L}+", "\\s?\\p{P}+", HAN, then=(DIGITS, BYTES)), None, False),
    "deepseek-v3": (split("\\p{N}{1,3}", "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+",
                          r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^""" "\r\n" r"""\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"""
                          r"""| ?[\p{P}\p{S}]+[""" "\r\n" r"""]*|\s*[""" "\r\n" r"""]+|\s+(?!\S)|\s+"""), None, False),
}
# SentencePiece's BPE by a list of merges, over whole texts
GEMMA4 = ({"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": False},
          {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}, False)


def tokenizer_json(pre, vocab, merges, added, pieces=False):
    """tokenizer.json of a name, with these tables. added: [(id, text, special)]; pieces: gemma4 instead of a name."""
    splitter, normalizer, ignore_merges = GEMMA4 if pieces else SPLITTERS[pre]
    return json.dumps({
        "version": "1.0", "truncation": None, "padding": None, "normalizer": normalizer, "pre_tokenizer": splitter,
        "post_processor": None, "decoder": None,
        "added_tokens": [{"id": number, "content": text, "single_word": False, "lstrip": False, "rstrip": False,
                          "normalized": False, "special": special} for number, text, special in added],
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                  "end_of_word_suffix": None, "fuse_unk": pieces, "byte_fallback": pieces,
                  "ignore_merges": ignore_merges, "vocab": vocab, "merges": merges}}, ensure_ascii=False)
