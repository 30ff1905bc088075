//! What tokens are chosen and where a text ends: stop texts, biases, samplers' states, log probabilities.

mod support;

use libflashinfer::{
    Error, ErrorCode, GenerateOptions, Sampler, SamplerOptions, Session, TokenizeOptions,
};
use support::open;

const PROMPT: &str = "Once upon a time there was a little girl";

fn failed<T: std::fmt::Debug>(result: Result<T, Error>) -> Error {
    result.expect_err("this should have failed")
}

fn text_of(session: &mut Session, options: &GenerateOptions) -> Vec<String> {
    session.rewind(0).unwrap();
    let pieces: Result<Vec<String>, Error> = session.generate(PROMPT, options).unwrap().collect();
    pieces.unwrap()
}

/// Every stop of some characters of the text, so over borders of tokens too: it ends before the first, and shows no part.
#[test]
fn a_text_ends_before_a_stop() {
    let model = open();
    let mut session = model.session().unwrap();
    let plain = GenerateOptions::new().tokens(20);
    let pieces = text_of(&mut session, &plain);
    let text = pieces.concat();
    assert!(pieces.len() > 12 && text.is_ascii());

    let (before, after) = (&pieces[11], &pieces[12]);
    let over = format!("{}{}", &before[before.len() - 1..], &after[..3]);
    let place = text.find(&over).unwrap();
    assert_eq!(place, pieces[..12].concat().len() - 1);
    let found = text_of(&mut session, &plain.clone().stop([&over[..]]));
    assert_eq!(found.concat(), text[..place]);
    assert!(found.iter().all(|piece| !piece.is_empty()));
    let prompt = model.tokenize(PROMPT, TokenizeOptions::new()).unwrap();
    assert_eq!(session.position() as usize, prompt.len() + 12); // the token that ended it was not run

    for (length, step) in [(1, 5), (4, 9), (15, 9)] {
        for start in (0..text.len() - length).step_by(step) {
            let stop = &text[start..start + length];
            let options = plain
                .clone()
                .stop(vec!["not in it".to_string(), stop.to_string()]);
            let mut seen = String::new();
            for piece in text_of(&mut session, &options) {
                seen += &piece;
                assert!(!seen.contains(stop) && text.starts_with(&seen), "{}", stop);
            }
            assert_eq!(seen, text[..text.find(stop).unwrap()]);
        }
    }
    // what was held back comes after all, and a prompt may hold a stop, echoed or not
    let late = plain.clone().stop([format!("{}?", text)]);
    assert_eq!(text_of(&mut session, &late).concat(), text);
    let echoed = plain.clone().echo(true).stop([&over[..], "little girl"]);
    let expected = format!("{}{}", PROMPT, &text[..place]);
    assert_eq!(text_of(&mut session, &echoed).concat(), expected);

    session.rewind(0).unwrap();
    for echo in [false, true] {
        let empty = plain.clone().echo(echo).stop(["a", ""]);
        let error = failed(session.generate(PROMPT, &empty));
        assert_eq!(error.code(), ErrorCode::InvalidArgument);
        assert_eq!(session.position(), 0); // found before the prompt is run
    }
}

#[test]
fn a_decoder_stops() {
    let model = open();
    let how = TokenizeOptions::new().bos(false);
    let tokens = model.tokenize("A cat sat. A dog sat\0down", how).unwrap();
    let mut decoder = model.decoder().unwrap();
    let mut run = |stops: &[&str]| {
        decoder.set_stops(stops).unwrap();
        assert_eq!(decoder.stopped(), None);
        let mut text = String::new();
        for token in &tokens {
            text += decoder.push(*token).unwrap();
        }
        text += decoder.finish().unwrap();
        (text, decoder.stopped())
    };
    let whole = "A cat sat. A dog sat\0down";
    assert_eq!(
        run(&["mouse", "dog"]),
        ("A cat sat. A ".to_string(), Some(1))
    );
    assert_eq!(run(&["t\0d"]), ("A cat sat. A dog sa".to_string(), Some(0)));
    assert_eq!(run(&["mouse", "down."]), (whole.to_string(), None));
    assert_eq!(run(&[]), (whole.to_string(), None));
    let error = failed(decoder.set_stops(&[""]));
    assert_eq!(error.code(), ErrorCode::InvalidArgument);
}

#[test]
fn a_bias_of_minus_infinity_is_never_chosen() {
    let logits = [1.0, 5.0, 4.0, 3.0];
    let never = f32::NEG_INFINITY;
    let draws = |options: SamplerOptions| {
        let mut sampler = Sampler::new(&options.temperature(5.0).seed(3), 4).unwrap();
        let mut seen = [0; 4];
        for _ in 0..500 {
            seen[usize::try_from(sampler.sample(&logits).unwrap()).unwrap()] += 1;
        }
        seen
    };
    let biased = draws(SamplerOptions::new().logit_biases([(1, never), (2, never)]));
    assert!(biased[0] > 0 && biased[1] == 0 && biased[2] == 0 && biased[3] > 0);
    assert!(draws(SamplerOptions::new()).iter().all(|count| *count > 0));
    let list = vec![(3, 2.5)];
    for options in [
        SamplerOptions::new().logit_biases(&list[..]),
        SamplerOptions::new().logit_biases(list.clone()),
    ] {
        let mut sampler = Sampler::new(&options.clone(), 4).unwrap();
        assert_eq!(sampler.sample(&logits).unwrap(), 3);
    }
    for (wrong, words) in [
        (vec![(4, 1.0)], "token 4"),
        (vec![(-1, 1.0)], "token -1"),
        (vec![(1, f32::NAN)], "bias"),
        (vec![(1, 1.0), (1, 2.0)], "second one for token 1"),
    ] {
        let error = failed(Sampler::new(&SamplerOptions::new().logit_biases(wrong), 4));
        assert!(error.text().contains(words), "{}", error);
    }

    let model = open();
    let mut session = model.session().unwrap();
    let plain = GenerateOptions::new().tokens(1);
    let first = text_of(&mut session, &plain).concat();
    session.rewind(0).unwrap();
    session
        .eval(&model.tokenize(PROMPT, TokenizeOptions::new()).unwrap())
        .unwrap();
    let top = session.logprobs(&[], 2).unwrap();
    assert_eq!(model.detokenize(&[top[0].token]).unwrap(), first.as_bytes());
    let sampling = SamplerOptions::new().logit_biases([(top[0].token, never)]);
    let second = text_of(&mut session, &plain.sampling(sampling)).concat();
    assert_eq!(
        model.detokenize(&[top[1].token]).unwrap(),
        second.as_bytes()
    );
}

fn draws(sampler: &mut Sampler) -> Vec<i32> {
    let logits: Vec<f32> = (0_u8..64)
        .map(|token| f32::from(token % 13 * 7 % 13) / 10.0)
        .collect();
    (0..40).map(|_| sampler.sample(&logits).unwrap()).collect()
}

#[test]
fn a_saved_sampler_goes_on_with_the_same_draws() {
    let options = SamplerOptions::new()
        .temperature(0.9)
        .top_k(40)
        .seed(7)
        .repetition_penalty(1.2)
        .repetition_tokens(16);
    let mut sampler = Sampler::new(&options, 64).unwrap();
    let begun = draws(&mut sampler);
    let state = sampler.save_state().unwrap();
    assert!(state.len() > 4 * 16);
    let mut copy = sampler.copy().unwrap();
    let following = draws(&mut sampler);
    assert_ne!(following, begun);
    drop(sampler);
    assert_eq!(draws(&mut copy), following);

    let mut other = Sampler::new(&options, 64).unwrap();
    assert_eq!(draws(&mut other), begun);
    for _ in 0..2 {
        other.load_state(&state).unwrap();
        assert_eq!(draws(&mut other), following);
    }
    let before = other.save_state().unwrap();
    let mut spoilt = state.clone();
    spoilt[0] ^= 1;
    for wrong in [&[], &state[1..], &spoilt[..]] {
        assert_eq!(failed(other.load_state(wrong)).code(), ErrorCode::State);
        assert_eq!(other.save_state().unwrap(), before);
    }
    let mut smaller = Sampler::new(&options, 63).unwrap();
    assert_eq!(failed(smaller.load_state(&state)).code(), ErrorCode::State);
}

#[test]
fn logprobs_are_the_log_softmax() {
    let model = open();
    let mut session = model.session().unwrap();
    let none = failed(session.logprobs(&[], 1));
    assert_eq!(none.code(), ErrorCode::InvalidArgument);
    let tokens = model.tokenize(PROMPT, TokenizeOptions::new()).unwrap();
    session.eval(&tokens).unwrap();
    let logits: Vec<f64> = session
        .logits()
        .unwrap()
        .iter()
        .map(|one| f64::from(*one))
        .collect();
    let most = logits.iter().cloned().fold(f64::MIN, f64::max);
    let sum: f64 = logits.iter().map(|logit| (logit - most).exp()).sum();

    let every = session.logprobs(&[], logits.len()).unwrap();
    assert_eq!(every.len(), logits.len());
    let total: f64 = every.iter().map(|one| f64::from(one.logprob).exp()).sum();
    assert!((total - 1.0).abs() < 1e-5, "{}", total);
    for one in &every {
        let expected = logits[usize::try_from(one.token).unwrap()] - most - sum.ln();
        assert!((f64::from(one.logprob) - expected).abs() < 1e-5);
    }
    assert!(every.windows(2).all(|two| two[0].logprob >= two[1].logprob));

    let found = session.logprobs(&[300, 5], 3).unwrap();
    assert_eq!([found[0].token, found[1].token], [300, 5]);
    assert_eq!(found[2..], every[..3]);
    assert!(every.contains(&found[0]) && every.contains(&found[1]));
    assert!(session.logprobs(&[], 0).unwrap().is_empty());
    assert_eq!(failed(session.logprobs(&[-1], 0)).code(), ErrorCode::Token);
    for top in [logits.len() + 1, usize::MAX] {
        let error = failed(session.logprobs(&[], top));
        assert!(error.text().contains(&top.to_string()), "{}", error);
    }
}
