//! Finds libflashinfer and tells cargo how to link it. Needs nothing but the standard library.
//!
//! The order (src/lib.rs tells it to users): FLASHINFER_LIB_DIR, pkg-config, a build of the source tree around us.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{exit, Command};

const PACKAGE: &str = "flashinfer";
const VERSION_LEAST: &str = "0.1";

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    for name in &[
        "DOCS_RS",
        "FLASHINFER_LIB_DIR",
        "FLASHINFER_STATIC",
        "PKG_CONFIG",
        "PKG_CONFIG_PATH",
    ] {
        println!("cargo:rerun-if-env-changed={}", name);
    }
    if env::var_os("DOCS_RS").is_some() {
        return; // documentation links nothing
    }
    let vendored = env::var_os("CARGO_FEATURE_VENDORED").is_some();
    if let Some(folder) = env::var_os("FLASHINFER_LIB_DIR") {
        link_folder(Path::new(&folder), wants_static());
    } else if vendored || !link_by_pkg_config(wants_static()) {
        link_folder(&build_vendored(), true);
    }
}

fn wants_static() -> bool {
    let asked = env::var("FLASHINFER_STATIC").unwrap_or_default();
    env::var_os("CARGO_FEATURE_STATIC").is_some() || !(asked.is_empty() || asked == "0")
}

fn give_up(text: &str) -> ! {
    eprintln!("libflashinfer-sys: {}", text);
    exit(1);
}

/// Run a program; its output if it succeeded.
fn output(command: &mut Command) -> Option<String> {
    let out = command.output().ok()?;
    if out.status.success() {
        String::from_utf8(out.stdout).ok()
    } else {
        None
    }
}

// ------------------------------------------------------------------------------------------ linking

/// Tell cargo to link the library in this folder, and dependent crates where it lies. A folder with
/// an archive only is linked statically, asked or not.
fn link_folder(folder: &Path, wants_archive: bool) {
    let folder = fs::canonicalize(folder)
        .unwrap_or_else(|problem| give_up(&format!("{}: {}", folder.display(), problem)));
    let archive = folder.join("libflashinfer.a");
    let shared = ["libflashinfer.so", "libflashinfer.dylib"]
        .iter()
        .map(|name| folder.join(name))
        .find(|path| path.exists());
    let statically = wants_archive || shared.is_none();
    if statically && !archive.exists() {
        give_up(&format!(
            "there is no libflashinfer to link in {}",
            folder.display()
        ));
    }
    let library = shared.filter(|_| !statically).unwrap_or(archive);
    println!("cargo:rerun-if-changed={}", library.display());
    println!("cargo:rustc-link-search=native={}", folder.display());
    if statically {
        println!("cargo:rustc-link-lib=static=flashinfer");
        link_private(&private_libraries(&folder));
    } else {
        println!("cargo:rustc-link-lib=dylib=flashinfer");
        link_rpath(&folder);
    }
}

/// For this package's own tests; and for dependent build scripts as DEP_FLASHINFER_LIB_DIR.
fn link_rpath(folder: &Path) {
    println!("cargo:rustc-link-arg-tests=-Wl,-rpath,{}", folder.display());
    println!("cargo:lib_dir={}", folder.display());
}

/// What a static library needs besides: Libs.private of the pkg-config file that lies with it.
fn private_libraries(folder: &Path) -> String {
    for place in &["pkgconfig/flashinfer.pc", "meson-private/flashinfer.pc"] {
        if let Ok(text) = fs::read_to_string(folder.join(place)) {
            let line = text.lines().find(|line| line.starts_with("Libs.private:"));
            return line.map_or(String::new(), |line| {
                line["Libs.private:".len()..].to_string()
            });
        }
    }
    give_up(&format!(
        "{}: libflashinfer.a has no pkgconfig/flashinfer.pc beside it, which says what it needs",
        folder.display()
    ))
}

fn link_private(flags: &str) {
    for flag in flags.split_whitespace() {
        if let Some(folder) = flag.strip_prefix("-L") {
            println!("cargo:rustc-link-search=native={}", folder);
        } else if let Some(name) = flag.strip_prefix("-l") {
            if name != PACKAGE {
                println!("cargo:rustc-link-lib=dylib={}", name);
            }
        } else if flag == "-pthread" {
            println!("cargo:rustc-link-lib=dylib=pthread");
        }
    }
}

// --------------------------------------------------------------------------------------- pkg-config

fn pkg_config(arguments: &[&str]) -> Option<String> {
    let program = env::var_os("PKG_CONFIG").unwrap_or_else(|| "pkg-config".into());
    output(Command::new(program).args(arguments).arg(PACKAGE))
}

/// False if pkg-config is not there, does not know the library, or knows an older one only.
fn link_by_pkg_config(statically: bool) -> bool {
    if env::var("HOST") != env::var("TARGET") && env::var_os("PKG_CONFIG").is_none() {
        return false; // it would answer for this machine, not for the other one
    }
    if pkg_config(&["--atleast-version", VERSION_LEAST]).is_none() {
        return false;
    }
    let flags = if statically {
        pkg_config(&["--static", "--libs"])
    } else {
        pkg_config(&["--libs"])
    };
    let flags = flags.unwrap_or_default();
    if statically {
        // rustc looks for archives itself, and in no folder it was not told
        let folder = pkg_config(&["--variable=libdir"]).unwrap_or_default();
        println!("cargo:rustc-link-search=native={}", folder.trim());
        println!("cargo:rustc-link-lib=static=flashinfer");
        link_private(&flags);
        return true;
    }
    println!("cargo:rustc-link-lib=dylib=flashinfer");
    for folder in flags
        .split_whitespace()
        .filter_map(|flag| flag.strip_prefix("-L"))
    {
        // one that the system's loader does not look into: pkg-config leaves the others out
        println!("cargo:rustc-link-search=native={}", folder);
        link_rpath(Path::new(folder));
    }
    true
}

// ------------------------------------------------------------------------------------ the source tree

/// Build libflashinfer.a in OUT_DIR and return its folder.
fn build_vendored() -> PathBuf {
    let crate_folder = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap());
    let source = crate_folder.join("../../..");
    let build = PathBuf::from(env::var_os("OUT_DIR").unwrap()).join("flashinfer");
    if !source.join("lib/flashinfer.map").exists() {
        give_up(
            "libflashinfer was not found. Install it (pkg-config must know `flashinfer`), set FLASHINFER_LIB_DIR to \
             the folder it lies in, or take this crate with the source tree around it",
        );
    }
    if env::var("HOST") != env::var("TARGET") {
        give_up("for another machine than this one, build libflashinfer with meson and set FLASHINFER_LIB_DIR");
    }
    for part in &["include", "lib", "meson.build", "meson_options.txt"] {
        println!("cargo:rerun-if-changed={}", source.join(part).display());
    }
    if !build.join("build.ninja").exists() {
        run(Command::new("meson")
            .args(["setup", "--buildtype=release", "-Ddefault_library=static"])
            .arg(&build)
            .arg(&source));
    }
    run(Command::new("ninja")
        .arg("-C")
        .arg(&build)
        .arg("libflashinfer.a"));
    build
}

fn run(command: &mut Command) {
    match command.output() {
        Ok(out) if out.status.success() => {}
        Ok(out) => give_up(&format!(
            "{:?} failed:\n{}{}",
            command,
            String::from_utf8_lossy(&out.stdout),
            String::from_utf8_lossy(&out.stderr)
        )),
        Err(problem) => give_up(&format!(
            "building libflashinfer needs meson and ninja; {:?}: {}",
            command, problem
        )),
    }
}
