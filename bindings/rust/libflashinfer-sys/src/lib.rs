//! Declarations of libflashinfer's C interface: every function, struct and constant of `flashinfer.h` and
//! `flashinfer_backend.h` under its C name. The crate `libflashinfer` is the safe layer above them.
//!
//! The documentation of an item is the header's, word for word. Constants have the type of the fields and arguments
//! that take them: `u32`, or `c_int` for error codes and log levels.
//!
//! # Where the library comes from
//!
//! `build.rs` takes the first of these that is there:
//!
//! 1. the folder that `FLASHINFER_LIB_DIR` names, such as a build folder or `/opt/flashinfer/lib`;
//! 2. what `pkg-config flashinfer` finds (not with the feature `vendored`);
//! 3. a build of the source tree this crate lies in, with meson and ninja, linked statically.
//!
//! `FLASHINFER_STATIC=1` or the feature `static` links `libflashinfer.a` in the first two cases too. A program that
//! links the shared library from a folder the loader does not know needs `LD_LIBRARY_PATH` or an rpath: crates that
//! depend on this one find the folder in `DEP_FLASHINFER_LIB_DIR` in their build script.
#![allow(non_camel_case_types)]

#[rustfmt::skip]
mod declarations;

pub use declarations::*;
