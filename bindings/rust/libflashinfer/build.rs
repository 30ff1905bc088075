//! Tests and examples find the shared library where the build found it, without LD_LIBRARY_PATH.

use std::env;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if let Some(folder) = env::var_os("DEP_FLASHINFER_LIB_DIR") {
        let folder = folder.to_string_lossy();
        println!("cargo:rustc-link-arg-tests=-Wl,-rpath,{}", folder);
        println!("cargo:rustc-link-arg-examples=-Wl,-rpath,{}", folder);
    }
}
