//! Write a Hugging Face checkpoint as a model file.
//!
//! The lesson: a progress closure, and what an error has to tell.

use libflashinfer::{pack, Error, Model, Options, PackOptions};
use std::error::Error as _;
use std::ops::ControlFlow;
use std::process::exit;

fn run(checkpoint: &str, path: &str) -> Result<(), Error> {
    let options = PackOptions::new().on_progress(|at| {
        eprint!("\r{} {} of {} bytes", at.stage, at.done, at.total);
        ControlFlow::Continue(()) // Break would cancel
    });
    let packed = pack(checkpoint, path, &options, None);
    eprintln!();
    packed?;
    let info = Model::open(path, &Options::new().metadata_only(true))?.info();
    println!(
        "{}: {} layers, {} parameters, {} bytes, predictors {}",
        path, info.layer_count, info.parameter_count, info.file_bytes, info.predictors
    );
    Ok(())
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (checkpoint, path) = match &arguments[..] {
        [checkpoint, path] => (checkpoint, path),
        _ => {
            eprintln!("usage: pack CHECKPOINT MODEL.gguf");
            exit(2);
        }
    };
    if let Err(problem) = run(checkpoint, path) {
        eprintln!("{:?}: {}", problem.code(), problem);
        if let Some(system) = problem.source() {
            eprintln!("because of: {}", system);
        }
        exit(1);
    }
}
