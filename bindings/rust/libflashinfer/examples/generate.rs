//! Continue a text with a model that is larger than the memory it is given.
//!
//! The lesson: open with a budget, create a session, iterate over pieces of text.

use libflashinfer::{
    plan_file, Error, GenerateOptions, Model, Options, SamplerOptions, TokenizeFlags,
};
use std::io::Write;
use std::process::exit;

const USAGE: &str = "usage: generate MODEL.gguf --prompt TEXT [--tokens N] [--budget 50%|BYTES] \
                     [--temperature T] [--top-k K] [--seed S]";

struct Arguments {
    model: String,
    prompt: String,
    tokens: u32,
    budget: String,
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
    let (mut model, mut prompt, mut tokens, mut budget) = (None, None, 64, String::from("50%"));
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
            "--budget" => budget = value,
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

/// Bytes, or a share of the model file.
fn budget_bytes(model: &str, budget: &str) -> Result<u64, Error> {
    let percent = match budget.strip_suffix('%') {
        Some(percent) => number::<f64>("--budget", percent),
        None => return Ok(number("--budget", budget)),
    };
    let plan = plan_file(model, &Options::new())?;
    Ok((plan.file_bytes as f64 * percent / 100.0) as u64)
}

fn run(arguments: &Arguments) -> Result<(), Box<dyn std::error::Error>> {
    // how long the prompt is decides the context to plan for
    let flags = TokenizeFlags {
        bos: true,
        special: false,
    };
    let names = Model::open(&arguments.model, &Options::new().metadata_only(true))?;
    let prompt = names.tokenize(&arguments.prompt, flags)?;
    let options = Options::new()
        .memory_budget(budget_bytes(&arguments.model, &arguments.budget)?)
        .context_tokens(prompt.len() as u32 + arguments.tokens);
    let model = Model::open(&arguments.model, &options)?;

    let mut session = model.session()?;
    let generate = GenerateOptions::new()
        .tokens(arguments.tokens as usize)
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
