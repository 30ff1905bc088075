//! Closures under C: what they hear, cancelling, panics, storage of the host, calls and drops inside a callback.

mod support;

use libflashinfer::{sys, Budget, ErrorCode, Model, PredictorKind, Session, Storage};
use std::fs::File;
use std::io;
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use support::{model_path, options};

/// What a panic said.
fn panic_of(run: impl FnOnce()) -> String {
    let payload = catch_unwind(AssertUnwindSafe(run)).expect_err("no panic came through");
    payload
        .downcast_ref::<&str>()
        .map_or_else(String::new, |text| text.to_string())
}

#[test]
fn closures_hear_what_happens() {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let (log, progress, trace, input, audit) = (
        heard.clone(),
        heard.clone(),
        heard.clone(),
        heard.clone(),
        heard.clone(),
    );
    let options = options()
        .audit_interval(1)
        .on_log(move |_, text| log.lock().unwrap().push(format!("log {}", text)))
        .on_progress(move |at| {
            progress
                .lock()
                .unwrap()
                .push(format!("progress {} {}/{}", at.stage, at.done, at.total));
            ControlFlow::Continue(())
        })
        .on_trace(move |at| {
            assert!(at.ids().windows(2).all(|pair| pair[0] < pair[1]));
            trace
                .lock()
                .unwrap()
                .push(format!("trace {} of {}", at.layer(), at.layer_count()));
        })
        .on_ffn_input(move |at| {
            input
                .lock()
                .unwrap()
                .push(format!("input {} wide {}", at.layer, at.x.len()));
        })
        .on_audit(move |at| {
            assert!(at.missed <= at.active && at.missed_norm <= at.output_norm);
            audit
                .lock()
                .unwrap()
                .push(format!("audit of {}", at.ffn_length));
        });
    let model = Model::open(model_path(), &options).unwrap();
    let info = model.info();
    model.session().unwrap().eval(&[2, 300]).unwrap();
    let heard = heard.lock().unwrap();
    let count = |what: &str| heard.iter().filter(|line| line.starts_with(what)).count();
    let layers = info.layer_count as usize;
    assert!(count("log opt: ") == 1 && count("progress open") > 0);
    assert_eq!(count("progress eval"), 2);
    assert_eq!(count("trace 0 of"), 2);
    assert_eq!(count("trace "), 2 * layers);
    assert_eq!(count(&format!("input 0 wide {}", info.embedding_length)), 2);
    assert_eq!(count(&format!("audit of {}", info.ffn_length)), 2);
}

#[test]
fn progress_and_handles_cancel() {
    let stop = Arc::new(AtomicBool::new(true));
    let asked = stop.clone();
    let options = options().on_progress(move |at| {
        if at.stage == "eval" && at.done == 2 && asked.load(Ordering::Relaxed) {
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    });
    let model = Model::open(model_path(), &options).unwrap();
    let mut session = model.session().unwrap();
    let tokens = [2, 300, 400, 500];
    assert_eq!(
        session.eval(&tokens).unwrap_err().code(),
        ErrorCode::Canceled
    );
    assert_eq!(session.position(), 2);
    stop.store(false, Ordering::Relaxed);
    session.eval(&tokens[2..]).unwrap();

    // too late: no call runs
    let handle = session.cancel_handle();
    std::thread::spawn(move || handle.cancel()).join().unwrap();
    session.step(600).unwrap();

    // a handle that outlives its session stops nobody else
    let handle = session.cancel_handle();
    drop(session);
    let mut next = model.session().unwrap();
    handle.cancel();
    next.step(600).unwrap();
}

/// Cancelled from another thread in the middle of a call: the call ends, the session goes on.
#[test]
fn another_thread_cancels_a_running_call() {
    let entered = Arc::new(AtomicBool::new(false));
    let seen = entered.clone();
    let options = options().on_trace(move |_| {
        seen.store(true, Ordering::SeqCst);
        std::thread::sleep(std::time::Duration::from_millis(1));
    });
    let model = Model::open(model_path(), &options).unwrap();
    let mut session = model.session().unwrap();
    let handle = session.cancel_handle();
    let other = std::thread::spawn(move || {
        while !entered.load(Ordering::SeqCst) {
            std::thread::yield_now();
        }
        handle.cancel();
    });
    assert_eq!(
        session.eval(&[300; 60]).unwrap_err().code(),
        ErrorCode::Canceled
    );
    other.join().unwrap();
    assert!(session.position() < 60);
    session.step(300).unwrap();
}

/// A panic in any callback comes out of the call that was made, and the session stays usable.
#[test]
fn panics_come_through() {
    let armed = Arc::new(Mutex::new(""));
    let fuse = move |armed: &Arc<Mutex<&'static str>>, name: &str| {
        if *armed.lock().unwrap() == name {
            std::panic::resume_unwind(Box::new("a fuse blew"));
        }
    };
    let all = [armed.clone(), armed.clone(), armed.clone(), armed.clone()];
    let [progress, trace, input, audit] = all;
    let options = options()
        .audit_interval(1)
        .audit_layers(64)
        .on_progress(move |at| {
            if at.stage == "eval" {
                fuse(&progress, "progress");
            }
            ControlFlow::Continue(())
        })
        .on_trace(move |_| fuse(&trace, "trace"))
        .on_ffn_input(move |_| fuse(&input, "input"))
        .on_audit(move |at| {
            if at.layer + 1 == at.layer_count {
                fuse(&audit, "audit");
            }
        });
    let model = Model::open(model_path(), &options).unwrap();
    let mut session = model.session().unwrap();
    session.eval(&[2, 300]).unwrap();
    for name in ["progress", "trace", "input", "audit"] {
        *armed.lock().unwrap() = name;
        let before = session.position();
        // the audit of the last layer of the last token: nothing is left that could be cancelled
        let tokens: &[i32] = if name == "audit" { &[400] } else { &[400, 500] };
        let said = panic_of(|| drop(session.eval(tokens)));
        assert_eq!(said, "a fuse blew", "{}", name);
        let done = session.position();
        assert!(done <= before + 1, "{} ran on to {}", name, done);
        *armed.lock().unwrap() = "";
        session
            .eval(&[600])
            .unwrap_or_else(|error| panic!("after {}: {}", name, error));
        assert_eq!(session.position(), done + 1);
    }
    let options =
        support::options().on_log(|_, _| std::panic::resume_unwind(Box::new("the log is full")));
    assert_eq!(
        panic_of(|| drop(Model::open(model_path(), &options))),
        "the log is full"
    );
}

/// What a closure gets only after the model it belongs to is open.
type Slot = Arc<Mutex<Option<(Model, Option<Session>)>>>;

/// In a callback the model may be asked, not run; a session dropped there is destroyed when the call is over.
#[test]
fn inside_a_callback() {
    let slot: Slot = Arc::default();
    let said = Arc::new(Mutex::new(Vec::new()));
    let (inside, say) = (slot.clone(), said.clone());
    let options = options().session_count(2).on_trace(move |_| {
        if let Some((model, session)) = inside.lock().unwrap().as_mut() {
            let mut say = say.lock().unwrap();
            assert!(model.plan().is_ok());
            say.push(model.stats().tokens as i32);
            if let Some(mut session) = session.take() {
                say.push(session.step(300).unwrap_err().code().number());
            }
        }
    });
    let model = Model::open(model_path(), &options).unwrap();
    let mut session = model.session().unwrap();
    let other = model.session().unwrap();
    *slot.lock().unwrap() = Some((model.clone(), Some(other)));
    session.step(300).unwrap();
    *slot.lock().unwrap() = None;
    assert_eq!(said.lock().unwrap()[..2], [0, ErrorCode::Busy.number()]);
    drop(model.session().unwrap()); // its place is free again
    assert!(model.session().is_ok());
}

#[derive(Default)]
struct Counts {
    reads: AtomicU64,
    fail_from: AtomicU64, // reads from this number on; 0: none
    panics: AtomicBool,
    dropped: AtomicBool,
}

struct HostFile {
    file: File,
    counts: Arc<Counts>,
}

impl HostFile {
    fn new(counts: &Arc<Counts>) -> HostFile {
        HostFile {
            file: File::open(model_path()).unwrap(),
            counts: counts.clone(),
        }
    }
}

impl Drop for HostFile {
    fn drop(&mut self) {
        self.counts.dropped.store(true, Ordering::SeqCst);
    }
}

impl Storage for HostFile {
    fn length(&self) -> u64 {
        self.file.metadata().unwrap().len()
    }

    fn read(&self, offset: u64, data: &mut [u8]) -> io::Result<usize> {
        let number = 1 + self.counts.reads.fetch_add(1, Ordering::SeqCst);
        let fail_from = self.counts.fail_from.load(Ordering::SeqCst);
        if fail_from != 0 && number >= fail_from {
            if self.counts.panics.load(Ordering::SeqCst) {
                std::panic::resume_unwind(Box::new("the host lost its file"));
            }
            return Err(io::Error::from_raw_os_error(6));
        }
        self.file.read_at(data, offset)
    }
}

#[test]
fn storage_of_the_host() {
    let counts = Arc::new(Counts::default());
    let small = options().predictor(PredictorKind::All); // every bundle is read for every token
    let model = Model::open_storage(HostFile::new(&counts), &small).unwrap();
    let mut session = model.session().unwrap();
    session.eval(&[2, 300]).unwrap();
    let theirs = session.logits().unwrap().to_vec();

    // a failing read names its errno; a panicking one comes through; afterwards all is well
    let now = counts.reads.load(Ordering::SeqCst);
    counts.fail_from.store(now + 1, Ordering::SeqCst);
    let error = session.step(400).unwrap_err();
    assert_eq!((error.code(), error.errno()), (ErrorCode::Io, Some(6)));
    counts.panics.store(true, Ordering::SeqCst);
    assert_eq!(
        panic_of(|| drop(session.step(400))),
        "the host lost its file"
    );
    counts.fail_from.store(0, Ordering::SeqCst);
    session.step(400).unwrap();
    assert_eq!(session.position(), 3);
    drop(session);
    assert!(!counts.dropped.load(Ordering::SeqCst));
    drop(model);
    assert!(counts.dropped.load(Ordering::SeqCst));

    let own = Model::open(model_path(), &small).unwrap();
    let mut session = own.session().unwrap();
    session.eval(&[2, 300]).unwrap();
    assert_eq!(session.logits().unwrap(), &theirs[..]);
}

#[test]
fn storage_that_fails_to_open_is_dropped() {
    let counts = Arc::new(Counts::default());
    counts.fail_from.store(1, Ordering::SeqCst);
    let error = Model::open_storage(HostFile::new(&counts), &options()).unwrap_err();
    assert_eq!(error.code(), ErrorCode::Io);
    assert!(counts.dropped.load(Ordering::SeqCst));
    counts.panics.store(true, Ordering::SeqCst);
    let open = || drop(Model::open_storage(HostFile::new(&counts), &options()));
    assert_eq!(panic_of(open), "the host lost its file");
}

/// Says of every read that it gave a byte more than was asked for.
struct Boastful(HostFile);

impl Storage for Boastful {
    fn length(&self) -> u64 {
        self.0.length()
    }

    fn read(&self, offset: u64, data: &mut [u8]) -> io::Result<usize> {
        self.0.read(offset, data).map(|_| data.len() + 1)
    }
}

#[test]
fn more_than_was_asked_for_is_no_answer() {
    let storage = Boastful(HostFile::new(&Arc::default()));
    let error = Model::open_storage(storage, &options()).unwrap_err();
    assert_eq!((error.code(), error.errno()), (ErrorCode::Io, Some(5)));
}

#[test]
fn a_budget_is_a_share_of_what_the_host_has() {
    let storage = HostFile::new(&Arc::default());
    let bytes = storage.length();
    let share = options().memory_budget(Budget::Percent(75.0));
    let model = Model::open_storage(storage, &share).unwrap();
    assert_eq!(model.plan().unwrap().budget_bytes, bytes * 3 / 4);
}

unsafe extern "C" fn caps(
    user: *mut std::os::raw::c_void,
    caps: *mut sys::flashinfer_storage_caps,
) -> std::os::raw::c_int {
    (*caps).length_bytes = *(user as *const u64);
    0
}

/// Callbacks in C's terms are asked how long the model is. Opening fails: these cannot read.
#[test]
fn a_budget_is_a_share_of_what_c_callbacks_say() {
    let mut length: u64 = 1;
    // SAFETY: numbers and pointers, for which zero is a value
    let mut ops: sys::flashinfer_storage_ops = unsafe { std::mem::zeroed() };
    ops.user = (&mut length as *mut u64).cast();
    let open = |ops: &sys::flashinfer_storage_ops| {
        let share = options().memory_budget(Budget::Percent(50.0));
        // SAFETY: the callback keeps its contract
        unsafe { Model::open_storage_ops(ops, &share) }.unwrap_err()
    };
    assert!(open(&ops).text().contains("does not say how long"));
    ops.caps = Some(caps);
    assert!(open(&ops).text().contains("\"50%\" is not a byte")); // half a byte
    length = 1 << 30;
    assert!(open(&ops).text().contains("storage")); // the library's own words
    assert_eq!(length, 1 << 30);
}
