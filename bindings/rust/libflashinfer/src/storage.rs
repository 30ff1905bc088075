//! Storage of the host: reads answered by Rust code.

use crate::callbacks::Payload;
use crate::numbers::size_of;
use crate::sys;
use std::fmt;
use std::io;
use std::os::raw::{c_int, c_void};
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::slice;
use std::sync::Mutex;

const EIO: i32 = 5; // on every system with errno

/// Where a model's bytes come from, when it is not a file the library can open: a container, an archive, an encrypted
/// store.
///
/// Reads come from several threads of the library at once (`Options::io_lanes`), which have stacks of 256 KiB. A read
/// that panics counts as failed; the panic goes on where the call on the model was made. For an asynchronous queue of
/// your own see [`Model::open_storage_ops`](crate::Model::open_storage_ops).
pub trait Storage: Send + Sync {
    /// Bytes of the model. Asked once, when it is opened.
    fn length(&self) -> u64;

    /// Offsets, lengths and addresses of reads are multiples of this power of two up to 4096, except that the last
    /// read may reach past the end. Asked once, when the model is opened.
    fn alignment(&self) -> u32 {
        1
    }

    /// Fill `data` from byte `offset` on and tell how much that was: less than asked for only at the end.
    fn read(&self, offset: u64, data: &mut [u8]) -> io::Result<usize>;
}

/// A storage with what its reads left behind. Stays where it is as long as the model is open.
pub(crate) struct Host {
    storage: Box<dyn Storage>,
    length: u64,
    alignment: u32,
    panic: Mutex<Option<Payload>>,
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Host({} bytes)", self.length)
    }
}

impl Host {
    pub fn new(storage: Box<dyn Storage>) -> Box<Host> {
        Box::new(Host {
            length: storage.length(),
            alignment: storage.alignment(),
            storage,
            panic: Mutex::new(None),
        })
    }

    pub fn length(&self) -> u64 {
        self.length
    }

    pub fn ops(&self) -> sys::flashinfer_storage_ops {
        sys::flashinfer_storage_ops {
            size: size_of::<sys::flashinfer_storage_ops>(),
            reserved: 0,
            user: self as *const Host as *mut c_void,
            caps: Some(on_caps),
            submit: None,
            wait: None,
            read: Some(on_read),
            close: None, // dropped after the model
        }
    }

    /// The first panic of a read since the last time, if any.
    pub fn take_panic(&self) -> Option<Payload> {
        self.panic.lock().map_or(None, |mut panic| panic.take())
    }
}

// SAFETY of both: user is the Host that the model was opened with.

unsafe extern "C" fn on_caps(user: *mut c_void, caps: *mut sys::flashinfer_storage_caps) -> c_int {
    let host = &*(user as *const Host);
    (*caps).alignment = host.alignment;
    (*caps).depth = 1;
    (*caps).segments_max = 1;
    (*caps).length_bytes = host.length;
    0
}

unsafe extern "C" fn on_read(
    user: *mut c_void,
    offset: u64,
    data: *mut c_void,
    bytes: usize,
) -> i64 {
    let host = &*(user as *const Host);
    let data = slice::from_raw_parts_mut(data as *mut u8, bytes);
    match catch_unwind(AssertUnwindSafe(|| host.storage.read(offset, data))) {
        // more than was asked for is no answer
        Ok(Ok(count)) if count <= bytes => i64::try_from(count).unwrap_or(-i64::from(EIO)),
        Ok(Ok(_)) => -i64::from(EIO),
        Ok(Err(problem)) => -i64::from(problem.raw_os_error().filter(|n| *n > 0).unwrap_or(EIO)),
        Err(payload) => {
            if let Ok(mut panic) = host.panic.lock() {
                panic.get_or_insert(payload);
            }
            -i64::from(EIO)
        }
    }
}
