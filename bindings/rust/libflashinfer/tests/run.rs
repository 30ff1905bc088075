//! Models and sessions: opening, errors, text, logits, state, budgets, memory that stays flat.

mod support;

use libflashinfer::{
    plan_file, Activation, Budget, CachePolicy, Decoder, Error, ErrorCode, GenerateOptions, Model,
    Options, Part, PredictorKind, Sampler, SamplerOptions, Session, StorageKind, TokenizeOptions,
};
use std::error::Error as _;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use support::{model_path, open, options};

const PROMPT: &str = "Once upon a time there was a little girl";

fn failed<T: std::fmt::Debug>(result: Result<T, Error>) -> Error {
    result.expect_err("this should have failed")
}

#[test]
fn what_crosses_threads() {
    fn send<T: Send>() {}
    fn sync<T: Sync>() {}
    send::<Model>();
    sync::<Model>();
    send::<Session>();
    sync::<Session>();
    send::<Decoder>();
    send::<Sampler>();
    send::<Error>();
    sync::<Error>();
    send::<libflashinfer::CancelHandle>();
    sync::<libflashinfer::CancelHandle>();
    send::<Options>();
    sync::<Options>();
    send::<libflashinfer::Generate<'static>>();
    send::<libflashinfer::PredictorMaker>();
    send::<libflashinfer::Order>();
}

#[test]
fn a_model_tells_about_itself() {
    let model = open();
    let info = model.info();
    assert_eq!(info.architecture, "opt");
    assert_eq!(info.eos_token, Some(2));
    assert!(info.predictors.contains("sketch") && !info.ordered);
    assert_eq!(info.ffn_activation, Activation::Relu);
    assert!(info.ffn_sparse && !info.ffn_gated && info.ffn_threshold == 0.0);
    assert_eq!(info.kv_head_count, info.head_count);
    assert_eq!(info.head_length * info.head_count, info.embedding_length);
    let tensors = model.tensors();
    assert_eq!(tensors.len(), info.tensor_count as usize);
    assert!(tensors
        .iter()
        .any(|tensor| tensor.name == "blk.0.ffn_bundle.weight"));
    let metadata = model.metadata();
    assert_eq!(metadata.len(), info.metadata_count as usize);
    assert!(metadata.contains(&("general.architecture".to_string(), "opt".to_string())));
    assert_eq!(libflashinfer::version(), "0.1.0");
    model.verify().unwrap();

    let rows = model.ffn_rows(0, Part::Up, 3, 2).unwrap();
    assert_eq!(rows.len(), 2 * info.embedding_length as usize);
    assert!(rows.iter().any(|weight| *weight != 0.0));
    assert_eq!(model.ffn_bias(0).unwrap().len(), info.ffn_length as usize);
    let gate = failed(model.ffn_rows(0, Part::Gate, 0, 1));
    assert!(gate.to_string().contains("FLASHINFER_PART_GATE"));
    assert_eq!(
        failed(model.ffn_bias(99)).code(),
        ErrorCode::InvalidArgument
    );
}

#[test]
fn errors_say_what_and_where() {
    let error = failed(Model::open("/nonexistent/model.gguf", &Options::new()));
    assert_eq!(error.code(), ErrorCode::Io);
    assert_eq!(error.errno(), Some(2));
    let source = error
        .source()
        .and_then(|source| source.downcast_ref::<io::Error>());
    assert_eq!(source.unwrap().kind(), io::ErrorKind::NotFound);
    assert!(error.to_string().contains("/nonexistent/model.gguf"));

    let error = failed(Model::open("a\0b", &Options::new()));
    assert_eq!(error.code(), ErrorCode::InvalidArgument);

    let minimum = plan_file(model_path(), &options()).unwrap().minimum_bytes;
    let error = failed(Model::open(
        model_path(),
        &options().memory_budget(minimum / 2),
    ));
    assert_eq!(error.code(), ErrorCode::Budget);
    assert!(error.source().is_none() && error.layer().is_none());
    assert!(error.text().contains(&minimum.to_string()), "{}", error);

    let model = open();
    let mut session = model.session().unwrap();
    assert_eq!(failed(model.session()).code(), ErrorCode::Sessions); // one place only
    assert_eq!(failed(session.step(-1)).code(), ErrorCode::Token);
    assert_eq!(failed(session.eval(&[5; 65])).code(), ErrorCode::Context);
    assert_eq!(failed(session.rewind(1)).code(), ErrorCode::InvalidArgument);
    assert_eq!(
        failed(session.load_state(b"nothing")).code(),
        ErrorCode::State
    );
    let mut decoder = model.decoder().unwrap();
    assert_eq!(failed(decoder.push(-1)).code(), ErrorCode::InvalidArgument);
}

/// A flipped byte in a bundle: the error names layer, neuron and offset.
#[test]
fn corruption_has_a_place() {
    let model = open();
    let info = model.info();
    let tensors = model.tensors();
    let bundles = tensors
        .iter()
        .find(|tensor| tensor.name == "blk.1.ffn_bundle.weight")
        .unwrap();
    let neuron = 7;
    let offset = bundles.offset + neuron * u64::from(info.bundle_stride_bytes);
    let copy = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("corrupt.gguf");
    std::fs::copy(model_path(), &copy).unwrap();
    let file = File::options().read(true).write(true).open(&copy).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ 1], offset).unwrap();

    let damaged = Model::open(&copy, &options()).and_then(|model| model.verify());
    let error = failed(damaged);
    assert_eq!(error.code(), ErrorCode::Corrupt);
    assert_eq!(error.layer(), Some(1));
    assert_eq!(error.neuron(), Some(neuron));
    assert!(error.offset().is_some());
    std::fs::remove_file(copy).unwrap();
}

#[test]
fn text_to_tokens_and_back() {
    let model = open();
    let tokens = model.tokenize(PROMPT, TokenizeOptions::new()).unwrap();
    assert_eq!(Some(tokens[0]), model.info().bos_token);
    let middle = TokenizeOptions::new().bos(false);
    assert_eq!(tokens[1..], model.tokenize(PROMPT, middle).unwrap());
    assert_eq!(model.detokenize(&tokens).unwrap(), PROMPT.as_bytes());
    let long = "caf\u{e9} \u{1f600} ".repeat(50);
    let tokens = model.tokenize(&long, middle).unwrap();
    assert_eq!(model.detokenize(&tokens).unwrap(), long.as_bytes());
    assert!(model.tokenize("", middle).unwrap().is_empty());
    let eos = model.tokenize("</s>", middle.special(true)).unwrap();
    assert_eq!(eos, [model.info().eos_token.unwrap()]);

    let mut decoder = model.decoder().unwrap();
    let mut text = String::new();
    for token in &tokens {
        text += decoder.push(*token).unwrap();
    }
    text += decoder.finish().unwrap();
    assert_eq!(text, long);
}

#[test]
fn steps_give_logits() {
    let model = open();
    let mut session = model.session().unwrap();
    assert!(session.logits().is_none());
    let tokens = model.tokenize(PROMPT, TokenizeOptions::new()).unwrap();
    session.eval(&tokens).unwrap();
    assert_eq!(session.position() as usize, tokens.len());
    let logits = session.logits().unwrap().to_vec();
    assert_eq!(logits.len(), model.info().vocab_count as usize);
    assert!(logits.iter().all(|logit| logit.is_finite()));

    // the same token by token, and again after a rewind
    session.rewind(0).unwrap();
    assert!(session.logits().is_none());
    for token in &tokens {
        session.step(*token).unwrap();
    }
    assert_eq!(session.logits().unwrap(), &logits[..]);

    // greedy is the lowest id of the largest logit
    let most = logits.iter().cloned().fold(f32::MIN, f32::max);
    let first = logits.iter().position(|logit| *logit == most).unwrap();
    let mut sampler = Sampler::new(&SamplerOptions::new(), logits.len()).unwrap();
    assert_eq!(sampler.sample(&logits).unwrap(), first as i32);
    let stats = model.stats();
    assert_eq!(stats.tokens as usize, 2 * tokens.len());
    model.reset_stats().unwrap();
    assert_eq!(model.stats().tokens, 0);
}

#[test]
fn generate_is_an_iterator() {
    let model = open();
    let mut session = model.session().unwrap();
    let pieces: Result<Vec<String>, Error> = session
        .generate(PROMPT, &GenerateOptions::new().tokens(12))
        .unwrap()
        .collect();
    let pieces = pieces.unwrap();
    assert!(pieces.len() > 4 && pieces.iter().all(|piece| !piece.is_empty()));
    let text = pieces.concat();

    session.rewind(0).unwrap();
    let mut generate = session
        .generate(PROMPT, &GenerateOptions::new().tokens(12).echo(true))
        .unwrap();
    let mut echoed = String::new();
    for piece in &mut generate {
        echoed += &piece.unwrap();
    }
    assert_eq!(generate.tokens().len(), 12);
    assert_eq!(
        generate.session().position() as usize,
        generate
            .session()
            .model()
            .tokenize(PROMPT, TokenizeOptions::new())
            .unwrap()
            .len()
            + 11
    );
    assert!(generate.next().is_none());
    assert_eq!(echoed, format!("{}{}", PROMPT, text));

    // a seed gives the same text twice; without a number of tokens it ends when the context is full
    let sampling = SamplerOptions::new().temperature(0.8).top_k(40).seed(7);
    let options = GenerateOptions::new().sampling(sampling);
    let mut run = || {
        session.rewind(0).unwrap();
        let text: Result<String, Error> = session.generate(PROMPT, &options).unwrap().collect();
        (text.unwrap(), session.position())
    };
    let first = run();
    assert_eq!(first.1, 64);
    assert_eq!(run(), first);
}

#[test]
fn state_goes_to_another_session() {
    let model = open();
    let mut session = model.session().unwrap();
    session.eval(&[2, 300, 400]).unwrap();
    let state = session.save_state().unwrap();
    session.step(500).unwrap();
    let after = session.logits().unwrap().to_vec();
    drop(session);

    let mut session = model.session().unwrap();
    session.load_state(&state).unwrap();
    assert_eq!(session.position(), 3);
    session.step(500).unwrap();
    assert_eq!(session.logits().unwrap(), &after[..]);
    let mut spoilt = state;
    let middle = spoilt.len() / 2;
    spoilt[middle] ^= 1;
    assert_eq!(failed(session.load_state(&spoilt)).code(), ErrorCode::State);
}

#[test]
fn a_budget_changes_while_running() {
    let plan = plan_file(model_path(), &options()).unwrap();
    let model = Model::open(model_path(), &options().memory_budget(plan.maximum_bytes)).unwrap();
    let mut session = model.session().unwrap();
    session.eval(&[2, 300, 400]).unwrap();
    let least = model.plan().unwrap().minimum_bytes;
    model.set_budget(least).unwrap();
    assert_eq!(model.plan().unwrap().budget_bytes, least);
    session.step(500).unwrap();
    let small = session.logits().unwrap().to_vec();
    assert_eq!(
        failed(model.set_budget(least / 2)).code(),
        ErrorCode::Budget
    );
    model.set_budget(0).unwrap();
    session.rewind(3).unwrap();
    session.step(500).unwrap();
    assert_eq!(session.logits().unwrap(), &small[..]);
}

/// A share of whatever the model is: a file, a part of one.
#[test]
fn a_budget_is_a_share() {
    let bytes = std::fs::metadata(model_path()).unwrap().len();
    let share = options().memory_budget(Budget::Percent(75.0));
    let plan = plan_file(model_path(), &share).unwrap();
    assert_eq!(plan.budget_bytes, bytes * 3 / 4);
    let model = Model::open(model_path(), &share).unwrap();
    assert_eq!(model.plan().unwrap().budget_bytes, bytes * 3 / 4);
    model.set_budget("80%".parse::<Budget>().unwrap()).unwrap();
    assert_eq!(model.plan().unwrap().budget_bytes, bytes * 4 / 5);
    let small = failed(model.set_budget(Budget::Percent(1.0)));
    assert_eq!(small.code(), ErrorCode::Budget);
    let none = failed(model.set_budget(Budget::Percent(0.0)));
    assert_eq!(none.code(), ErrorCode::InvalidArgument);
    assert_eq!(model.plan().unwrap().budget_bytes, bytes * 4 / 5);

    let larger = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("larger");
    let mut content = vec![0; 4096];
    content.extend(std::fs::read(model_path()).unwrap());
    content.extend([0; 100_000]);
    std::fs::write(&larger, content).unwrap();
    let part = Model::open_fd(File::open(&larger).unwrap(), 4096, Some(bytes), &share).unwrap();
    assert_eq!(part.plan().unwrap().budget_bytes, bytes * 3 / 4);
    std::fs::remove_file(larger).unwrap();
    let missing = failed(Model::open("/nonexistent/model.gguf", &share));
    assert_eq!(missing.errno(), Some(2));
}

/// What the interface was called before. bos is off in the old flags, so that old programs get what they got.
#[test]
#[allow(deprecated)]
fn old_names_still_work() {
    use libflashinfer::{Predictor, TokenizeFlags};
    let model = Model::open(model_path(), &options().predictor(Predictor::Exact)).unwrap();
    assert_eq!(model.plan().unwrap().predictor, PredictorKind::Exact);
    let plain = model.tokenize(PROMPT, TokenizeFlags::default()).unwrap();
    let new = TokenizeOptions::new();
    assert_eq!(plain, model.tokenize(PROMPT, new.bos(false)).unwrap());
    let (bos, special) = (true, false);
    let flags = TokenizeFlags { bos, special };
    let tokens = model.tokenize(PROMPT, flags).unwrap();
    assert_eq!(tokens, model.tokenize(PROMPT, new).unwrap());
}

#[test]
fn options_reach_the_library() {
    let options = options()
        .predictor(PredictorKind::Exact)
        .storage(StorageKind::Buffered)
        .cache_policy(CachePolicy::Window)
        .session_count(2);
    let model = Model::open(model_path(), &options).unwrap();
    let plan = model.plan().unwrap();
    assert_eq!(plan.predictor, PredictorKind::Exact);
    assert_eq!(plan.cache_policy, CachePolicy::Window);
    let both = (model.session().unwrap(), model.session().unwrap());
    drop(both);
    let error = failed(Model::open(
        model_path(),
        &options.clone().predictor(PredictorKind::Other(99)),
    ));
    assert_eq!(error.code(), ErrorCode::InvalidArgument);

    let names = Model::open(model_path(), &Options::new().metadata_only(true)).unwrap();
    assert_eq!(failed(names.session()).code(), ErrorCode::InvalidArgument);
    assert_eq!(failed(names.plan()).code(), ErrorCode::InvalidArgument);
}

/// A session, a decoder and an open file need no model beside them.
#[test]
fn handles_hold_their_model() {
    let file = File::open(model_path()).unwrap();
    let model = Model::open_fd(&file, 0, None, &options()).unwrap();
    drop(file);
    let (mut session, mut decoder) = (model.session().unwrap(), model.decoder().unwrap());
    drop(model);
    session.step(300).unwrap();
    assert!(!decoder.push(300).unwrap().is_empty());
    let thread = std::thread::spawn(move || {
        session.step(400).unwrap();
        session.position()
    });
    assert_eq!(thread.join().unwrap(), 2);
    assert_eq!(decoder.finish().unwrap(), "");
}

/// Two sessions of one model in two threads, its budget changing in a third: everyone gets what one alone gets.
#[test]
fn threads_share_a_model() {
    let run = |session: &mut Session, first: i32| {
        for token in first..first + 12 {
            session.step(token).unwrap();
        }
        session.logits().unwrap().to_vec()
    };
    let model = Model::open(model_path(), &options().session_count(2)).unwrap();
    let mut alone = model.session().unwrap();
    let expected: Vec<_> = [300, 400]
        .iter()
        .map(|first| {
            alone.rewind(0).unwrap();
            run(&mut alone, *first)
        })
        .collect();
    drop(alone);

    let plan = model.plan().unwrap();
    let sessions: Vec<_> = [300, 400]
        .iter()
        .map(|first| {
            let mut session = model.session().unwrap();
            std::thread::spawn(move || run(&mut session, *first))
        })
        .collect();
    for round in 0..6 {
        let budget = [plan.minimum_bytes, plan.maximum_bytes][round % 2];
        model.set_budget(budget).unwrap();
        assert_eq!(model.plan().unwrap().budget_bytes, budget);
    }
    let found: Vec<_> = sessions
        .into_iter()
        .map(|session| session.join().unwrap())
        .collect();
    assert!(found == expected);
}

/// Linux only: elsewhere there is no /proc.
fn resident_kib() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = text
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// 100 rounds of open, run and close; the first ones fill the allocator's own lists. Run in a process of its own: other
/// tests beside it would count.
#[test]
#[cfg_attr(not(target_os = "linux"), ignore)]
fn a_hundred_rounds_keep_memory_flat() {
    if std::env::var_os("FLASHINFER_TEST_ROUNDS").is_none() {
        let program = std::env::current_exe().unwrap();
        let out = std::process::Command::new(program)
            .args([
                "--exact",
                "a_hundred_rounds_keep_memory_flat",
                "--nocapture",
            ])
            .env("FLASHINFER_TEST_ROUNDS", "1")
            .output()
            .unwrap();
        print!("{}", String::from_utf8_lossy(&out.stdout));
        assert!(
            out.status.success(),
            "{}",
            String::from_utf8_lossy(&out.stderr)
        );
        return;
    }
    let path = model_path();
    let mut after_ten = 0;
    for round in 1..=100 {
        let callbacks = options().on_log(|_, _| {}).on_trace(|_| {});
        let model = Model::open(&path, &callbacks).unwrap();
        let mut session = model.session().unwrap();
        let text: Result<String, _> = session
            .generate("Once", &GenerateOptions::new().tokens(2))
            .unwrap()
            .collect();
        assert!(!text.unwrap().is_empty());
        drop(failed(model.session()));
        drop((session, model));
        if round == 10 {
            after_ten = resident_kib();
        }
    }
    let grown = resident_kib().saturating_sub(after_ten);
    println!(
        "{} KiB resident after 10 rounds, {} more after 100",
        after_ten, grown
    );
    assert!(grown < 512, "90 rounds took {} KiB", grown);
}
