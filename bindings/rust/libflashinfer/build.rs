//! Tests and examples find the shared library where the build found it, without LD_LIBRARY_PATH.

use std::env;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if let Some(folder) = env::var_os("DEP_FLASHINFER_LIB_DIR") {
        // -tests would leave out those inside src; of other packages' programs none gets this
        println!("cargo:rustc-link-arg=-Wl,-rpath,{}", folder.to_string_lossy());
    }
}
