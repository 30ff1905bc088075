//! What went wrong: the library's error record as a Rust error.

use crate::sys;
use std::ffi::CStr;
use std::fmt;
use std::io;
use std::os::raw::c_int;

/// A result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

numbers! {
    /// What kind of failure it is.
    ErrorCode: c_int {
        /// An argument is missing or out of range.
        InvalidArgument = FLASHINFER_EINVAL,
        /// The system gave no memory.
        NoMemory = FLASHINFER_ENOMEM,
        /// Reading or writing storage failed.
        Io = FLASHINFER_EIO,
        /// The file is not a valid model file.
        Format = FLASHINFER_EFORMAT,
        /// Stored bytes do not match their checksum.
        Corrupt = FLASHINFER_ECORRUPT,
        /// The file or request needs something this build does not have.
        Unsupported = FLASHINFER_EUNSUPPORTED,
        /// The memory budget cannot hold what was asked for.
        Budget = FLASHINFER_EBUDGET,
        /// A token id is outside the vocabulary.
        Token = FLASHINFER_ETOKEN,
        /// The session's context is full.
        Context = FLASHINFER_ECONTEXT,
        /// The call was cancelled.
        Canceled = FLASHINFER_ECANCELED,
        /// Storage did not answer in time.
        TimedOut = FLASHINFER_ETIMEDOUT,
        /// The checkpoint cannot be packed.
        Checkpoint = FLASHINFER_ECHECKPOINT,
        /// The caller's buffer is too small.
        Buffer = FLASHINFER_EBUFFER,
        /// The saved state does not belong to this model or is damaged.
        State = FLASHINFER_ESTATE,
        /// The system gave no thread.
        Thread = FLASHINFER_ETHREAD,
        /// The handle is still in use, or the call came from a callback of the same model.
        Busy = FLASHINFER_EBUSY,
        /// All sessions that the model was opened for exist: `session_count` of its options.
        Sessions = FLASHINFER_ESESSIONS,
    }
}

/// Says what failed, where, and what to do. Where a system call failed, [`source`](std::error::Error::source) is its
/// [`io::Error`].
#[derive(Debug)]
pub struct Error {
    code: ErrorCode,
    layer: Option<u32>,
    neuron: Option<u64>,
    offset: Option<u64>,
    system: Option<io::Error>,
    text: String,
}

impl Error {
    /// What kind of failure it is.
    pub fn code(&self) -> ErrorCode {
        self.code
    }

    /// Layer the failure belongs to.
    pub fn layer(&self) -> Option<u32> {
        self.layer
    }

    /// FFN neuron the failure belongs to.
    pub fn neuron(&self) -> Option<u64> {
        self.neuron
    }

    /// Byte offset in the file.
    pub fn offset(&self) -> Option<u64> {
        self.offset
    }

    /// `errno` of the failing system call.
    pub fn errno(&self) -> Option<i32> {
        self.system.as_ref()?.raw_os_error()
    }

    /// One line for people, the library's own words.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// A failure that this crate found itself.
    pub(crate) fn invalid(text: impl Into<String>) -> Error {
        Error {
            code: ErrorCode::InvalidArgument,
            layer: None,
            neuron: None,
            offset: None,
            system: None,
            text: text.into(),
        }
    }

    /// An empty record for a call to fill.
    pub(crate) fn record() -> sys::flashinfer_error {
        // SAFETY: numbers and text, for which zero is a value; init() sees the size of what it is given
        unsafe {
            let mut record: sys::flashinfer_error = std::mem::zeroed();
            sys::flashinfer_error_init(&mut record, std::mem::size_of_val(&record));
            record
        }
    }

    /// code: what the call returned; calls without a record leave it empty, and the code's description serves.
    pub(crate) fn from_record(code: c_int, record: &sys::flashinfer_error) -> Error {
        // SAFETY: the record's text is zero-terminated, descriptions are static strings
        let text = unsafe {
            if record.code == 0 {
                CStr::from_ptr(sys::flashinfer_error_describe(code))
            } else {
                CStr::from_ptr(record.text.as_ptr())
            }
        };
        let system = match record.sys_errno {
            0 => None,
            number => Some(io::Error::from_raw_os_error(number)),
        };
        Error {
            code: ErrorCode::from(code),
            layer: u32::try_from(record.layer).ok(),
            neuron: u64::try_from(record.neuron).ok(),
            offset: u64::try_from(record.offset).ok(),
            system,
            text: text.to_string_lossy().into_owned(),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.system.as_ref().map(|system| system as _)
    }
}
