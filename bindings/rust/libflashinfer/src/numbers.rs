//! Numbers that change their type: the only file with `as` for them. Elsewhere a conversion is From, which loses nothing, or
//! TryFrom, which refuses; tests/casts.rs looks.

/// Bytes of a struct, as its `size` field wants them.
pub(crate) const fn size_of<T>() -> u32 {
    let bytes = std::mem::size_of::<T>();
    assert!(bytes <= u32::MAX as usize);
    bytes as u32
}

/// An index of C's in Rust. No system with smaller ones of its own runs the library.
pub(crate) const fn index(count: u32) -> usize {
    count as usize
}

const _: () = assert!(usize::BITS >= u32::BITS);
