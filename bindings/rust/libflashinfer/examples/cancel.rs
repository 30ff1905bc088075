//! Stop a running call from another thread, and go on from where it stood.
//!
//! The lesson: take a cancel handle before the session is busy; a cancelled session stays usable.

use libflashinfer::{ErrorCode, Model, Options, TokenizeOptions};
use std::thread;
use std::time::Duration;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).ok_or("usage: cancel MODEL.gguf")?;
    let model = Model::open(path, &Options::new())?;
    let mut session = model.session()?;
    let context = usize::try_from(model.info().context_tokens)?;
    let mut prompt = model.tokenize(
        "Once upon a time there was a little girl. ".repeat(context),
        TokenizeOptions::new().bos(false),
    )?;
    prompt.truncate(context);

    let handle = session.cancel_handle();
    let impatient = thread::spawn(move || {
        thread::sleep(Duration::from_millis(5));
        handle.cancel();
    });
    let mut result = session.eval(&prompt);
    impatient.join().expect("the other thread");
    if result.is_ok() {
        // the prompt was faster: the cancel waits for the next call
        println!("{} tokens took less than 5 ms", session.position());
        session.rewind(0)?;
        result = session.eval(&prompt);
    }
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
