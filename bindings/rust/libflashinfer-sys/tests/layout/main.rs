//! The declarations are those of the C headers: a C program prints sizes, offsets and numbers as a C compiler sees
//! them, and every one is compared with Rust's. A second test reads the headers for names that the table lacks.
//!
//! After a change of the headers: run bindings/rust/make_declarations.py.

use libflashinfer_sys as sys;
use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const REMEDY: &str = "run bindings/rust/make_declarations.py, and look at what it changes";

/// One line for each fact, as the C program prints it.
type Facts = Vec<String>;

struct Struct {
    name: &'static str,
    fields: &'static [&'static str],
    facts: fn(&mut Facts),
}

macro_rules! structs {
    ($($name:ident { $($field:ident,)* })*) => {
        const STRUCTS: &[Struct] = &[$(Struct {
            name: stringify!($name),
            fields: &[$(stringify!($field)),*],
            facts: |facts| {
                let place = std::mem::MaybeUninit::<sys::$name>::uninit();
                let base = place.as_ptr();
                facts.push(format!("{} {}", stringify!($name), std::mem::size_of::<sys::$name>()));
                $({
                    // SAFETY: addresses only; nothing is read
                    let field = unsafe { std::ptr::addr_of!((*base).$field) };
                    facts.push(format!(
                        "{}.{} at {} of {}", stringify!($name), bare(stringify!($field)),
                        field as usize - base as usize, size_behind(field)
                    ));
                })*
            },
        }),*];
    };
}

macro_rules! constants {
    ($($name:ident,)*) => {
        const CONSTANTS: &[(&str, i64)] = &[$((stringify!($name), sys::$name as i64)),*];
    };
}

macro_rules! functions {
    ($($name:ident,)*) => {
        /// Their addresses, so that the linker must find every one.
        fn functions() -> Vec<(&'static str, *const ())> {
            vec![$((stringify!($name), sys::$name as *const ())),*]
        }
    };
}

include!("table.rs");

fn bare(field: &str) -> &str {
    field.strip_prefix("r#").unwrap_or(field)
}

fn size_behind<T>(_: *const T) -> usize {
    std::mem::size_of::<T>()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../..")
}

/// The headers without comments.
fn headers() -> String {
    let mut text = String::new();
    for name in &["include/flashinfer.h", "include/flashinfer_backend.h"] {
        text += &read(&root().join(name));
    }
    let mut bare = String::new();
    for part in text.split("/*") {
        bare += part.split_once("*/").map_or(part, |(_, rest)| rest);
    }
    bare
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|problem| panic!("{}: {}", path.display(), problem))
}

fn c_program() -> String {
    let mut text = String::from(
        "#include <stddef.h>\n#include <stdio.h>\n#include \"flashinfer_backend.h\"\nint main(void)\n{\n",
    );
    for one in STRUCTS {
        let kind = format!("struct {}", one.name);
        text += &format!("printf(\"{} %zu\\n\", sizeof({}));\n", one.name, kind);
        for field in one.fields {
            let field = bare(field);
            text += &format!(
                "printf(\"{}.{} at %zu of %zu\\n\", offsetof({}, {}), sizeof((({} *)0)->{}));\n",
                one.name, field, kind, field, kind, field
            );
        }
    }
    for (name, _) in CONSTANTS {
        text += &format!("printf(\"{} %lld\\n\", (long long){});\n", name, name);
    }
    text + "return 0;\n}\n"
}

#[test]
fn layout_is_the_c_compilers() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let (source, program) = (folder.join("layout.c"), folder.join("layout"));
    fs::write(&source, c_program()).unwrap();
    let built = Command::new(env::var_os("CC").unwrap_or_else(|| "cc".into()))
        .arg("-I")
        .arg(root().join("include"))
        .args([&source, Path::new("-o"), &program])
        .output()
        .expect("a C compiler");
    assert!(
        built.status.success(),
        "the headers lack something that is declared in Rust: {}\n{}",
        REMEDY,
        String::from_utf8_lossy(&built.stderr)
    );
    let printed = Command::new(&program).output().unwrap().stdout;
    let printed = String::from_utf8(printed).unwrap();

    let mut facts = Facts::new();
    STRUCTS.iter().for_each(|one| (one.facts)(&mut facts));
    for (name, number) in CONSTANTS {
        facts.push(format!("{} {}", name, number));
    }
    let differences: Vec<_> = printed
        .lines()
        .zip(&facts)
        .filter(|(c, rust)| c != rust)
        .map(|(c, rust)| format!("C: {}   Rust: {}", c, rust))
        .collect();
    assert_eq!(printed.lines().count(), facts.len());
    assert!(facts.len() > 250, "the table is empty");
    assert!(differences.is_empty(), "{:#?}\n{}", differences, REMEDY);
}

fn identifiers(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
        .filter(|word| word.to_ascii_lowercase().starts_with("flashinfer_"))
}

fn assert_same(what: &str, headers: BTreeSet<&str>, rust: BTreeSet<&str>) {
    let missing: Vec<_> = headers.difference(&rust).collect();
    let surplus: Vec<_> = rust.difference(&headers).collect();
    assert!(
        missing.is_empty() && surplus.is_empty(),
        "{}: not declared in Rust: {:?}; in Rust only: {:?}; {}",
        what,
        missing,
        surplus,
        REMEDY
    );
}

#[test]
fn every_function_is_declared() {
    let text = headers();
    let declared = text
        .split("FLASHINFER_API ")
        .skip(1)
        .filter_map(|rest| rest.split_once('('))
        .filter_map(|(head, _)| identifiers(head).last())
        .filter(|name| *name != "FLASHINFER_API");
    let map = read(&root().join("lib/flashinfer.map"));
    let scripted = map
        .lines()
        .filter(|line| line.trim().ends_with(';'))
        .flat_map(identifiers)
        .collect();
    let functions = functions();
    let rust: BTreeSet<_> = functions.iter().map(|(name, _)| *name).collect();
    assert!(functions.iter().all(|(_, address)| !address.is_null()));
    assert_same("functions", declared.collect(), rust.clone());
    assert_same("the version script", scripted, rust);
}

#[test]
fn every_struct_and_constant_is_declared() {
    let text = headers();
    let structs = text
        .split("struct flashinfer_")
        .skip(1)
        .filter(|rest| rest.split_whitespace().nth(1) == Some("{"))
        .map(|rest| rest.split_whitespace().next().unwrap());
    let rust = STRUCTS
        .iter()
        .map(|one| one.name.strip_prefix("flashinfer_").unwrap());
    assert_same("structs", structs.collect(), rust.collect());

    // numbers of enums and of the error macro; sizes and versions are macros of their own, compared by value above
    let mut constants = BTreeSet::new();
    for body in text
        .split("enum {")
        .skip(1)
        .filter(|body| !body.contains("FLASHINFER_ERRORS("))
    {
        let body = body.split_once('}').unwrap().0;
        for entry in body.split(',').filter_map(|entry| entry.split_once('=')) {
            constants.extend(identifiers(entry.0));
        }
    }
    let errors: Vec<String> = text
        .split(" X(")
        .skip(1)
        .map(|rest| format!("FLASHINFER_{}", rest.split(',').next().unwrap()))
        .collect();
    constants.extend(errors.iter().map(String::as_str));
    let kept = CONSTANTS.iter().map(|(name, _)| *name).filter(|name| {
        !["ERROR_", "VERSION_", "PROBE_"]
            .iter()
            .any(|kind| name["FLASHINFER_".len()..].starts_with(kind))
    });
    assert_same("constants", constants, kept.collect());
}

/// Types and documentation too, where there is Python to say what would be written.
#[test]
fn declarations_are_up_to_date() {
    let script = root().join("bindings/rust/make_declarations.py");
    match Command::new("python3").arg(script).arg("--check").output() {
        Ok(out) => assert!(
            out.status.success(),
            "{}",
            String::from_utf8_lossy(&out.stderr)
        ),
        Err(problem) => println!("not checked, no python3: {}", problem),
    }
}
