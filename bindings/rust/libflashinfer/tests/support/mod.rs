//! What the tests share: the bundled model, packed once.

use libflashinfer::{pack, Model, Options, PackOptions};
use std::path::{Path, PathBuf};
use std::sync::Once;

static PACKED: Once = Once::new();

/// FLASHINFER_TEST_MODEL, or the bundled checkpoint packed into the target folder.
pub fn model_path() -> PathBuf {
    if let Some(path) = std::env::var_os("FLASHINFER_TEST_MODEL") {
        return path.into();
    }
    let checkpoint =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../examples/models/fable-14m");
    let name = format!("fable-14m-{}.gguf", env!("CARGO_CRATE_NAME"));
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    PACKED.call_once(|| pack(checkpoint, &path, &PackOptions::new(), None).unwrap());
    path
}

/// Small and quick: one thread, a short context.
pub fn options() -> Options {
    Options::new().threads(1).context_tokens(64)
}

#[allow(dead_code)] // not every test file opens models this way
pub fn open() -> Model {
    Model::open(model_path(), &options()).unwrap()
}
