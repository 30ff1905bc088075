//! Continue a text with a model that is larger than the memory it is given.
//!
//! The lesson: open with a budget, create a session, iterate over pieces of text.

use libflashinfer::{Budget, GenerateOptions, Model, Options, SamplerOptions, TokenizeOptions};
use std::io::Write;
use std::process::exit;

const USAGE: &str = "usage: generate MODEL.gguf --prompt TEXT [--tokens N] [--budget 50%|BYTES] \
                     [--temperature T] [--top-k K] [--seed S]";

struct Arguments {
    model: String,
    prompt: String,
    tokens: u32,
    budget: Budget,
    sampling: SamplerOptions,
}

fn wrong(what: &str) -> ! {
    eprintln!("{}\n{}", what, USAGE);
    exit(2);
}

fn number<T: std::str::FromStr>(name: &str, text: &str) -> T {
    text.parse()
        .unwrap_or_else(|_| wrong(&format!("{} takes a number, not \"{}\"", name, text)))
}

fn arguments() -> Arguments {
    let mut words = std::env::args().skip(1);
    let (mut model, mut prompt, mut tokens) = (None, None, 64);
    let mut budget = Budget::Percent(50.0);
    let mut sampling = SamplerOptions::new();
    while let Some(word) = words.next() {
        if !word.starts_with("--") {
            model = Some(word);
            continue;
        }
        let value = words
            .next()
            .unwrap_or_else(|| wrong(&format!("{}: a value is missing", word)));
        match word.as_str() {
            "--prompt" => prompt = Some(value),
            "--tokens" => tokens = number(&word, &value),
            "--budget" => {
                budget = value
                    .parse()
                    .unwrap_or_else(|error| wrong(&format!("{}", error)))
            }
            "--temperature" => sampling = sampling.temperature(number(&word, &value)),
            "--top-k" => sampling = sampling.top_k(number(&word, &value)),
            "--seed" => sampling = sampling.seed(number(&word, &value)),
            _ => wrong(&format!("{}: unexpected argument", word)),
        }
    }
    match (model, prompt) {
        (Some(model), Some(prompt)) => Arguments {
            model,
            prompt,
            tokens,
            budget,
            sampling,
        },
        _ => wrong("model and --prompt are needed"),
    }
}

fn run(arguments: &Arguments) -> Result<(), Box<dyn std::error::Error>> {
    // how long the prompt is decides the context to plan for
    let names = Model::open(&arguments.model, &Options::new().metadata_only(true))?;
    let prompt = names.tokenize(&arguments.prompt, TokenizeOptions::new())?;
    let options = Options::new()
        .memory_budget(arguments.budget)
        .context_tokens(u32::try_from(prompt.len())?.saturating_add(arguments.tokens));
    let model = Model::open(&arguments.model, &options)?;

    let mut session = model.session()?;
    let generate = GenerateOptions::new()
        .tokens(usize::try_from(arguments.tokens)?)
        .sampling(arguments.sampling.clone())
        .echo(true);
    let mut out = std::io::stdout();
    for piece in session.generate_from(prompt, &generate)? {
        out.write_all(piece?.as_bytes())?;
        out.flush()?;
    }
    writeln!(out)?;
    Ok(())
}

fn main() {
    if let Err(problem) = run(&arguments()) {
        eprintln!("{}", problem);
        exit(1);
    }
}
