//! Shapes that repeat: enums of the interface's numbers, copies of its records, options that are set one by one.
//!
//! All of them fail to compile when the C struct behind them grows: a field is either passed on or named as left out.

/// An enum for numbers of the interface. `Other` keeps what a newer library may say.
macro_rules! numbers {
    ($(#[$about:meta])* $name:ident: $number:ty { $($(#[$note:meta])* $variant:ident = $constant:ident,)* }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum $name {
            $($(#[$note])* $variant,)*
            /// A number this version of the crate has no name for.
            Other($number),
        }

        impl $name {
            /// The number that the C interface uses.
            pub fn number(self) -> $number {
                match self {
                    $($name::$variant => libflashinfer_sys::$constant,)*
                    $name::Other(number) => number,
                }
            }
        }

        impl From<$number> for $name {
            fn from(number: $number) -> Self {
                match number {
                    $(libflashinfer_sys::$constant => $name::$variant,)*
                    other => $name::Other(other),
                }
            }
        }
    };
}

/// A struct with the fields of a C record, less those named after `without`.
macro_rules! record {
    ($(#[$about:meta])* $name:ident of $raw:ident { $($(#[$note:meta])* $field:ident: $kind:ty,)* } without { $($left:ident,)* }) => {
        $(#[$about])*
        #[derive(Clone, Debug, PartialEq)]
        #[non_exhaustive]
        pub struct $name {
            $($(#[$note])* pub $field: $kind,)*
        }

        impl $name {
            pub(crate) fn empty() -> libflashinfer_sys::$raw {
                // SAFETY: numbers and pointers, for which zero is a value
                let mut raw: libflashinfer_sys::$raw = unsafe { std::mem::zeroed() };
                raw.size = crate::numbers::size_of::<libflashinfer_sys::$raw>();
                raw
            }

            /// Strings in raw must still be there.
            pub(crate) unsafe fn of(raw: &libflashinfer_sys::$raw) -> Self {
                let libflashinfer_sys::$raw { $($field,)* $($left: _,)* } = *raw;
                $name { $($field: crate::records::Read::read($field),)* }
            }
        }
    };
}

/// Methods that set a field and give the options back.
macro_rules! setters {
    ($($(#[$note:meta])* $field:ident: $kind:ty,)*) => {
        $(
            $(#[$note])*
            #[must_use]
            pub fn $field(mut self, $field: $kind) -> Self {
                self.$field = $field;
                self
            }
        )*
    };
}
