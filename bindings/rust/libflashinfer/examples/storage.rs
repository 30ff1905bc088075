//! A model inside a container of the host's own, read by the host.
//!
//! The lesson: implement `Storage`; its reads come from several threads at once. Here the container is a file with the
//! model behind a header, and what was read is counted.

use libflashinfer::{GenerateOptions, Model, Options, Storage};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;

const HEADER: [u8; 100] = [0; 100]; // no multiple of anything: the host's reads need no alignment
const HEADER_BYTES: u64 = 100;

#[derive(Default)]
struct Counts {
    reads: AtomicU64,
    bytes: AtomicU64,
}

struct Container {
    file: File,
    length: u64,
    counts: Arc<Counts>,
}

impl Storage for Container {
    fn length(&self) -> u64 {
        self.length
    }

    fn read(&self, offset: u64, data: &mut [u8]) -> io::Result<usize> {
        let (mut done, mut at) = (0, HEADER_BYTES + offset);
        while done < data.len() {
            match self.file.read_at(&mut data[done..], at)? {
                0 => break,
                count => {
                    done += count;
                    at += count_of(count);
                }
            }
        }
        self.counts.reads.fetch_add(1, Ordering::Relaxed);
        let bytes = at - HEADER_BYTES - offset;
        self.counts.bytes.fetch_add(bytes, Ordering::Relaxed);
        Ok(done)
    }
}

/// usize is no wider than u64 on any system there is.
fn count_of(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

/// The container this example reads, made of a model file.
fn make_container(model: &str, container: &std::path::Path) -> io::Result<u64> {
    let mut out = File::create(container)?;
    io::copy(&mut &HEADER[..], &mut out)?;
    io::copy(&mut File::open(model)?, &mut out)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).ok_or("usage: storage MODEL.gguf")?;
    let place = std::env::temp_dir().join(format!("container-{}", std::process::id()));
    let length = make_container(&path, &place)?;
    let file = File::open(&place)?;
    std::fs::remove_file(&place)?; // open, so its bytes stay until the model is closed

    let counts = Arc::new(Counts::default());
    let storage = Container {
        file,
        length,
        counts: counts.clone(),
    };
    let options = Options::new().memory_budget(length / 2).context_tokens(64);
    let model = Model::open_storage(storage, &options)?;
    let mut session = model.session()?;
    print!("Once upon a time");
    for piece in session.generate("Once upon a time", &GenerateOptions::new().tokens(24))? {
        print!("{}", piece?);
    }
    println!(
        "\n\n{} reads of the host, {} bytes",
        counts.reads.load(Ordering::Relaxed),
        counts.bytes.load(Ordering::Relaxed)
    );
    Ok(())
}
