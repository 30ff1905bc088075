//! No number changes its type by `as`, which cuts what does not fit: From, TryFrom, or one of src/numbers.rs.

use std::fs;
use std::path::{Path, PathBuf};

const NUMBERS: &str = "u8 u16 u32 u64 u128 usize i8 i16 i32 i64 i128 isize f32 f64 c_int";

/// Lines that cast a number, comments left out.
fn casts(text: &str) -> Vec<&str> {
    let cast = |line: &&str| {
        let code = line.split("//").next().unwrap_or("");
        code.match_indices(" as ").any(|(at, _)| {
            let after = &code[at + 4..];
            let end = after.find(|c: char| !c.is_alphanumeric() && c != '_');
            NUMBERS
                .split(' ')
                .any(|name| name == &after[..end.unwrap_or(after.len())])
        })
    };
    text.lines().filter(cast).collect()
}

#[test]
fn casts_are_found() {
    for line in [
        "a = count as u64;",
        "f(n as usize)",
        "x as f32",
        "(1 << 3) as c_int + 1",
    ] {
        assert_eq!(casts(line), [line]);
    }
    for line in [
        "p as *const u8",
        "use a as u64_of;",
        "// count as u64",
        "self as _",
        "was u32",
    ] {
        assert!(casts(line).is_empty(), "{}", line);
    }
}

#[test]
fn no_number_is_cast() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files: Vec<PathBuf> = Vec::new();
    for folder in ["src", "examples"] {
        for entry in fs::read_dir(root.join(folder)).unwrap() {
            files.push(entry.unwrap().path());
        }
    }
    assert!(files.len() > 20);
    let mut allowed = 0;
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let found = casts(&text);
        if file.ends_with("src/numbers.rs") {
            allowed = found.len();
        } else {
            assert!(found.is_empty(), "{}: {:?}", file.display(), found);
        }
    }
    assert_eq!(allowed, 3);
}
