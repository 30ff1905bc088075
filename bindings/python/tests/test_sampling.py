"""What tokens are chosen and where a text ends: stop texts, biases, samplers' states, log probabilities."""
import asyncio
import math

import numpy
import pytest
from conftest import BUDGET, MODEL

import libflashinfer as f

PROMPT = "Once upon a time there was a little girl"
TOKENS = 30
SAMPLING = {"temperature": 0.9, "top_k": 40, "seed": 7, "repetition_penalty": 1.2, "repetition_tokens": 16}


@pytest.fixture(scope="module")
def pieces(model):
    """Of the greedy text."""
    found = list(model.generate(PROMPT, tokens=TOKENS))
    assert len(found) > 20
    return found


def over_a_border(pieces, at):
    """A piece's last character, the next one and the first ones of that after it, with its place in the text."""
    stop = pieces[at][-1] + pieces[at + 1] + pieces[at + 2][:2]
    text = "".join(pieces)
    assert text.index(stop) == len("".join(pieces[:at + 1])) - 1, "it comes earlier as well: choose another place"
    return stop, text.index(stop)


# ------------------------------------------------------------------------------------------------------- stop texts


def test_a_text_ends_before_a_stop_over_a_border_of_tokens(model, session, pieces):
    text = "".join(pieces)
    stop, place = over_a_border(pieces, 11)
    for given in (stop, [stop], (one for one in ["not in it", stop])):
        assert "".join(model.generate(PROMPT, tokens=TOKENS, stop=given)) == text[:place]
    found = list(session.generate(PROMPT, stop=stop))
    assert "".join(found) == text[:place] and all(found)
    assert session.position == len(model.tokenize(PROMPT)) + 13  # it ended there, and did not go on in silence


def test_no_part_of_a_stop_is_ever_shown(model, pieces):
    """Wherever it comes, by every way of generating; where the text ends first, what was held back comes after all."""
    text = "".join(pieces)
    for length in (1, 3, 12):
        for start in range(0, len(text) - length, 7):
            stop = text[start:start + length]
            seen = ""
            for piece in model.generate(PROMPT, tokens=TOKENS, stop=[stop]):
                seen += piece
                assert stop not in seen and text.startswith(seen)
            assert seen == text[:text.index(stop)]
    assert "".join(model.generate(PROMPT, tokens=TOKENS, stop=text + "?")) == text


def test_the_first_stop_counts_and_a_prompt_may_hold_one(model, session, pieces):
    text = "".join(pieces)
    stop, place = over_a_border(pieces, 11)
    later, _ = over_a_border(pieces, 12)
    assert "".join(session.generate(PROMPT, tokens=TOKENS, stop=[later, "Once upon", stop])) == text[:place]
    position = session.position
    rest = "".join(session.generate(tokens=5))  # the token that held the stop's end was chosen and is run now
    assert rest and session.position == position + 5
    assert "".join(model.generate(PROMPT, tokens=3, stop=None)) == "".join(model.generate(PROMPT, tokens=3, stop=[]))


def test_stops_with_asyncio(model, session, pieces):
    stop, place = over_a_border(pieces, 11)

    async def main():
        for generate in (model.agenerate, session.agenerate):
            found = [piece async for piece in generate(PROMPT, tokens=TOKENS, stop=stop)]
            assert "".join(found) == "".join(pieces)[:place]
    asyncio.run(main())


def test_a_decoder_stops(model):
    ids = model.tokenize("A cat sat. A dog sat\0down", bos=False)
    with model.decoder() as decoder:
        decoder.set_stops(["dog", "t\0d"])
        assert decoder.stopped is None
        seen = [decoder.push(token) for token in ids]
        assert "".join(seen) == "A cat sat. A " and decoder.stopped == 0
        assert decoder.finish() == "" and decoder.stopped == 0
        assert decoder.push(ids[0]) and decoder.stopped is None  # another text
        decoder.finish()
        decoder.set_stops("t\0d")
        assert "".join(map(decoder.push, ids)) == "A cat sat. A dog sa" and decoder.stopped == 0
        decoder.finish()
        decoder.set_stops(())
        assert "".join(map(decoder.push, ids)) + decoder.finish() == "A cat sat. A dog sat\0down"
    with pytest.raises(ValueError, match="closed"):
        decoder.stopped


def test_what_stops_no_text(model, session):
    for generate in (model.generate, session.generate, model.agenerate):
        for bad in (5, b"END", True, 1.5):
            with pytest.raises(TypeError, match="^stop must be a text or several, not"):
                generate(PROMPT, stop=bad)
        for bad in (["a", 5], ["a", b"b"], [True, None], ["a", None]):
            with pytest.raises(TypeError, match=r"^stop\[[01]\] must be a text, not"):
                generate(PROMPT, stop=bad)
        for bad in ("", ["a", ""], "\ud800"):
            with pytest.raises(f.Error, match="EINVAL"):  # at the call
                generate(PROMPT, stop=bad)
    with model.decoder() as decoder, pytest.raises(TypeError, match="^stops must be"):
        decoder.set_stops(5)


# ---------------------------------------------------------------------------------------------------------- biases


def test_a_bias_of_minus_infinity_is_never_chosen(model):
    logits = numpy.array([1.0, 5.0, 4.0, 3.0], "float32")
    for given in ({1: -math.inf}, [(1, -math.inf)], ((1, -math.inf), (0, -0.5)), {numpy.int32(1): numpy.float32("-inf")},
                  iter([[1, float("-inf")]])):
        with f.Sampler(4, logit_biases=given) as sampler:
            assert sampler.sample(logits) == 2
    with f.Sampler(4, logit_biases={1: -math.inf, 2: -math.inf}, temperature=5.0, seed=3) as sampler:
        drawn = {sampler.sample(logits) for _ in range(500)}
    assert drawn == {0, 3}
    with f.Sampler(4, temperature=5.0, seed=3) as sampler:
        assert {sampler.sample(logits) for _ in range(500)} == {0, 1, 2, 3}
    with f.Sampler(4, logit_biases={3: 2.5}) as up, f.Sampler(4, logit_biases={}) as none:
        assert up.sample(logits) == 3 and none.sample(logits) == 1


def test_biases_reach_generate(model):
    """The first token of the text without, then with it forbidden; and the text's end made certain."""
    plain = "".join(model.generate(PROMPT, tokens=1))
    first = model.tokenize(PROMPT + plain)[-1]
    with model.session() as session:
        session.eval(model.tokenize(PROMPT))
        assert int(session.logits.argmax()) == first
        second = session.logprobs(top=2)[1].token
    assert "".join(model.generate(PROMPT, tokens=1, logit_biases={first: -math.inf})) == model.detokenize([second])
    assert "".join(model.generate(PROMPT, logit_biases={model.info.eos_token: 1e9})) == ""


def test_what_is_no_bias():
    """The library's own words; what is no number at all is in test_numbers.py."""
    for bad, words in [({4: 1.0}, "is for token 4, outside"), ({-1: 1.0}, "is for token -1, outside"), ({1: math.nan}, "bias is -?nan"),
                       ({1: math.inf}, "bias is inf"), ([(1, 1.0), (1, 2.0)], "a second one for token 1")]:
        with pytest.raises(f.Error, match=rf"E(INVAL|TOKEN): .*logit_biases\[[01]\].*{words}"):
            f.Sampler(4, logit_biases=bad)


# ---------------------------------------------------------------------------------------------------- copy and state


def draws(sampler, count=40):
    logits = [0.1 * (token * 7 % 13) for token in range(64)]
    return [sampler.sample(logits) for _ in range(count)]


def test_a_saved_sampler_goes_on_with_the_same_draws():
    with f.Sampler(64, **SAMPLING) as sampler, f.Sampler(64, **SAMPLING) as other:
        begun = draws(sampler)
        state = sampler.save_state()
        assert isinstance(state, bytes) and len(state) > 4 * 16
        following = draws(sampler)
        assert following != begun and draws(other) == begun
        for form in (state, bytearray(state), memoryview(state)):
            other.load_state(form)
            assert draws(other) == following
        with f.Sampler(64, **{**SAMPLING, "repetition_tokens": 8}) as another, f.Sampler(63, **SAMPLING) as smaller:
            for wrong in (another, smaller):
                with pytest.raises(f.Error, match="ESTATE"):
                    wrong.load_state(state)
        for spoilt in (b"", state[:-1], state + b"x", bytes([state[0] ^ 1]) + state[1:]):
            before = other.save_state()
            with pytest.raises(f.Error, match="ESTATE"):
                other.load_state(spoilt)
            assert other.save_state() == before
    with pytest.raises(ValueError, match="closed"):
        sampler.save_state()
    with pytest.raises(ValueError, match="closed"):
        sampler.load_state(state)


def test_a_copy_goes_on_by_itself():
    sampler = f.Sampler(64, logit_biases={5: -math.inf}, **SAMPLING)
    draws(sampler, 7)
    with sampler.copy() as copied:
        assert isinstance(copied, f.Sampler) and copied.save_state() == sampler.save_state()
        expected = draws(sampler)
        sampler.close()
        assert draws(copied) == expected and 5 not in expected
    with pytest.raises(ValueError, match="closed"):
        sampler.copy()


def test_a_text_goes_on_with_both_states(model):
    """A session's state and a sampler's: the text as if nobody had stopped, in another model."""
    options = {**SAMPLING, "seed": 11}
    whole = "".join(model.generate(PROMPT, tokens=16, **options))
    with f.Sampler(model.info.vocab_count, **options) as sampler, model.session() as session, model.decoder() as decoder:
        for token in model.tokenize(PROMPT):
            sampler.accept(token)
            decoder.push(token)
        session.eval(model.tokenize(PROMPT))
        text = ""
        for _ in range(8):
            token = sampler.sample(session.logits)
            text += decoder.push(token)
            session.step(token)
        saved = session.save_state(), sampler.save_state()
        with f.Model(MODEL, memory_budget=BUDGET) as later, later.session() as again, \
                f.Sampler(later.info.vocab_count, **options) as choosing:
            again.load_state(saved[0])
            choosing.load_state(saved[1])
            for _ in range(8):
                token = choosing.sample(again.logits)
                text += decoder.push(token)
                again.step(token)
        assert text + decoder.finish() == whole


# ------------------------------------------------------------------------------------------------- log probabilities


def test_logprobs_are_the_log_softmax(model, session):
    session.eval(model.tokenize(PROMPT))
    logits = session.logits.astype("float64")
    expected = logits - logits.max() - math.log(numpy.exp(logits - logits.max()).sum())
    every = session.logprobs(top=len(logits))
    assert sorted(token for token, _ in every) == list(range(len(logits)))
    assert abs(sum(math.exp(logprob) for _, logprob in every) - 1) < 1e-5
    for token, logprob in every:
        assert abs(logprob - expected[token]) < 1e-5
    assert [one.logprob for one in every] == sorted((one.logprob for one in every), reverse=True)
    assert every[0].token == int(session.logits.argmax())

    found = session.logprobs(300, numpy.int64(5), top=3)
    assert [one.token for one in found[:2]] == [300, 5] and found[2:] == every[:3]
    assert dict(found)[300] == dict(every)[300] and session.logprobs() == []
    assert session.logprobs(every[0].token) == every[:1]


def test_logprobs_that_there_are_not(model, session):
    with pytest.raises(ValueError, match="no logits"):
        session.logprobs(top=1)
    session.step(5)
    for bad in (-1, model.info.vocab_count):
        with pytest.raises(f.Error, match="ETOKEN"):
            session.logprobs(3, bad)
    for bad in (1.0, "1", True, 1 << 40):
        with pytest.raises((TypeError, ValueError), match=r"^tokens\[1\] must be"):
            session.logprobs(3, bad)
    with pytest.raises(ValueError, match=f"^top must be from 0 to {model.info.vocab_count}"):
        session.logprobs(top=model.info.vocab_count + 1)
    session.close()
    with pytest.raises(ValueError, match="closed"):
        session.logprobs(top=1)
