//! What is made: packed models, orders, predictor files, probes.

mod support;

use libflashinfer::{
    pack, probe, Dtype, ErrorCode, Model, Options, Order, PackOptions, PredictorKind,
    PredictorMaker, ProbeOptions, ProbeResult,
};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use support::{model_path, open, options};

fn temporary(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)
}

fn checkpoint() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../examples/models/fable-14m")
}

#[test]
fn pack_with_an_order() {
    let info = open().info();
    let order = Arc::new(Mutex::new(
        Order::new(info.layer_count, info.ffn_length).unwrap(),
    ));
    let learning = order.clone();
    let listening = options().on_trace(move |trace| learning.lock().unwrap().add(trace).unwrap());
    let plain = Model::open(model_path(), &listening).unwrap();
    let mut session = plain.session().unwrap();
    session.eval(&[2, 300, 400, 500]).unwrap();

    let path = temporary("ordered.gguf");
    let order = order.lock().unwrap();
    pack(checkpoint(), &path, &PackOptions::new(), Some(&order)).unwrap();
    let ordered = Model::open(&path, &options()).unwrap();
    assert!(ordered.info().ordered);
    let mut other = ordered.session().unwrap();
    other.eval(&[2, 300, 400, 500]).unwrap();
    assert_eq!(session.logits(), other.logits());
    std::fs::remove_file(path).unwrap();
}

#[test]
fn pack_refuses_and_is_cancelled() {
    let path = temporary("never.gguf");
    let error = pack("/nonexistent", &path, &PackOptions::new(), None).unwrap_err();
    assert!(
        matches!(error.code(), ErrorCode::Checkpoint | ErrorCode::Io),
        "{}",
        error
    );
    let options = PackOptions::new()
        .dtype(Dtype::F32)
        .on_progress(|_| ControlFlow::Break(()));
    let error = pack(checkpoint(), &path, &options, None).unwrap_err();
    assert_eq!(error.code(), ErrorCode::Canceled);
    assert!(!path.exists());
}

#[test]
fn predictor_files() {
    let model = open();
    let info = model.info();
    let mut maker = PredictorMaker::copy_of(&model).unwrap();
    let copied = maker.bytes(0);
    assert!(copied > 0);
    maker.set_sketch(0, 1, None).unwrap();
    assert!(maker.bytes(0) < copied);
    let width = info.embedding_length as usize;
    let scores = maker.scores(0, &vec![0.5; width]).unwrap();
    assert!(scores.iter().any(|score| *score != 0.0));
    assert_eq!(
        maker.scores(0, &[0.5]).unwrap_err().code(),
        ErrorCode::InvalidArgument
    );

    let bias = vec![1.0; info.ffn_length as usize];
    let (down, up) = (vec![0.0; 2 * width], vec![0.0; 2 * bias.len()]);
    assert!(maker.set_lowrank(1, false, &down[1..], &up, &bias).is_err());
    maker.set_lowrank(1, false, &down, &up, &bias).unwrap();
    assert_eq!(maker.bias(1).unwrap(), bias);
    let path = temporary("predictor.gguf");
    maker.save(&path).unwrap();
    drop((maker, model));
    let model = Model::open(model_path(), &options().predictor_path(&path)).unwrap();
    assert_eq!(model.plan().unwrap().predictor, PredictorKind::Mixed);
    let fresh = PredictorMaker::new(&model).unwrap();
    assert_eq!(fresh.bytes(0), 0);
    assert_eq!(
        fresh.save(&path).unwrap_err().code(),
        ErrorCode::InvalidArgument
    );
}

#[test]
fn probes() {
    let measured = probe(model_path(), &ProbeOptions::new().time_ms(100).threads(1)).unwrap();
    assert!(measured.read_bytes_per_s() > 0 && measured.raw().io_depth > 0);
    let path = temporary("machine.probe");
    measured.save(&path).unwrap();
    let loaded = ProbeResult::load(&path).unwrap();
    assert_eq!(loaded.raw().file_bytes, measured.raw().file_bytes);
    assert_eq!(loaded.storage(), measured.storage());
    Model::open(model_path(), &options().probe(loaded)).unwrap();
    std::fs::write(&path, "nothing").unwrap();
    assert_eq!(
        ProbeResult::load(&path).unwrap_err().code(),
        ErrorCode::Format
    );
    let missing = Model::open(model_path(), &Options::new().predictor_path("/nonexistent"));
    assert_eq!(missing.unwrap_err().errno(), Some(2));
}
