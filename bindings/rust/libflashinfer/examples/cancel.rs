//! Stop a running call from another thread, and go on from where it stood.
//!
//! The lesson: take a cancel handle before the session is busy; a cancel counts for the running call only, and does
//! nothing if it comes too late; a cancelled session stays usable.

use libflashinfer::{ErrorCode, Model, Options, TokenizeOptions};
use std::ops::ControlFlow;
use std::sync::mpsc;
use std::thread;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).ok_or("usage: cancel MODEL.gguf")?;
    let (begun, has_begun) = mpsc::sync_channel(0); // send() waits for the other thread
    let options = Options::new().on_progress(move |at| {
        if at.stage == "eval" {
            let _ = begun.send(()); // nobody listens the second time
        }
        ControlFlow::Continue(())
    });
    let model = Model::open(path, &options)?;
    let mut session = model.session()?;
    let context = usize::try_from(model.info().context_tokens)?;
    let mut prompt = model.tokenize(
        "Once upon a time there was a little girl. ".repeat(context),
        TokenizeOptions::new().bos(false),
    )?;
    prompt.truncate(context);

    let handle = session.cancel_handle();
    let impatient = thread::spawn(move || {
        if has_begun.recv().is_ok() {
            handle.cancel();
        }
    });
    let result = session.eval(&prompt);
    impatient.join().expect("the other thread");
    match result {
        Err(error) if error.code() == ErrorCode::Canceled => {
            println!("cancelled: {}", error);
        }
        other => return Err(format!("not cancelled: {:?}", other).into()),
    }
    let stood = usize::try_from(session.position())?;
    println!("stands at token {} of {}", stood, prompt.len());

    session.eval(&prompt[stood..])?;
    println!("went on to token {}", session.position());
    Ok(())
}
