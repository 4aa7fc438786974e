//! The plugin ABI, version 1, as plain data: what `hotcell_plugin.h` says, in Rust.
//!
//! The worker and the SDK both use this module, so that neither can drift from the other. It defines no symbol
//! and calls nothing. It protects nothing either: a hostile plugin need not use it and may break every sentence
//! of it, so the worker checks whatever comes back. `docs/abi.md` is the text for people.

/// The version that this module describes, and the only one that exists.
pub const ABI_VERSION: u32 = 1;

/// Name of the entry symbol, called once after load and before anything else.
pub const ENTRY: &str = "hotcell_plugin_v1";

/// What every exported function's symbol starts with; the rest is the export's name.
pub const EXPORT_PREFIX: &str = "hotcell_export_";

/// Wasm only: the export that returns a guest buffer for the input of a call.
pub const ALLOC: &str = "hotcell_alloc";

/// Optional export: replies with the plugin's state as bytes.
pub const STATE_SAVE: &str = "hotcell_state_save";

/// Optional export: takes over state that an earlier version saved.
pub const STATE_LOAD: &str = "hotcell_state_load";

/// Optional export: says whether the plugin can still serve.
pub const HEALTH: &str = "hotcell_health";

/// Optional export: takes the plugin's configuration as JSON.
pub const CONFIGURE: &str = "hotcell_configure";

/// Wasm only: the import module that holds [`REPLY`], [`HOST_CALL`] and [`HOST_TAKE`].
pub const IMPORT_MODULE: &str = "hotcell";

/// Wasm import: hands the reply of the running call to the worker.
pub const REPLY: &str = "reply";

/// Wasm import: calls the host.
pub const HOST_CALL: &str = "host_call";

/// Wasm import: copies the answer of the last host call.
pub const HOST_TAKE: &str = "host_take";

/// Optional export, by the Rust SDK's feature `contract`: replies with what the typed exports take and return, a JSON array of
/// `{"name", "params", "result"}` with JSON Schemas. `hotcell plugin build` writes it into the manifest.
pub const CONTRACT: &str = "hotcell_contract";

/// Longest export name in bytes: it has to fit a symbol, a log line and a metric label.
pub const EXPORT_NAME_MAX: usize = 64;

/// What the entry symbol returns to accept the load. Anything else refuses it.
pub const ENTRY_ACCEPTED: u32 = 0;

/// What an export returns when its reply is a result. Anything else makes its reply an error text.
pub const STATUS_OK: i32 = 0;

/// What the SDK's exports return when the plugin failed.
pub const STATUS_ERROR: i32 = 1;

/// Type of an exported function and of `hotcell_configure`: input bytes, their count, status.
///
/// The input lives until the function returns. With a count of zero the pointer may be anything, null included.
pub type ExportFn = unsafe extern "C" fn(*const u8, usize) -> i32;

/// Type of the native entry symbol. (The wasm one takes no argument: host functions are imports there.)
pub type EntryFn = unsafe extern "C" fn(*const HostTable) -> u32;

/// Type of `hotcell_state_save` and `hotcell_health`: status.
pub type HookFn = unsafe extern "C" fn() -> i32;

/// Type of `hotcell_state_load`: version that saved the state, state bytes, their count, status.
pub type StateLoadFn = unsafe extern "C" fn(u32, *const u8, usize) -> i32;

/// Type of `reply`: bytes and their count. The worker copies them; the last reply of a call wins.
pub type ReplyFn = unsafe extern "C" fn(*const u8, usize);

/// Type of `host_call`: name, its length in bytes, input, its length in bytes; see [`HostCallStatus`] for the result.
pub type HostCallFn = unsafe extern "C" fn(*const u8, usize, *const u8, usize) -> i64;

/// Type of `host_take`: destination, its capacity in bytes; returns how many bytes were copied.
pub type HostTakeFn = unsafe extern "C" fn(*mut u8, usize) -> usize;

/// `struct hotcell_host`: the functions that the worker offers to a native plugin.
///
/// Valid for the life of the process. Fields are only ever added at the end, and `size` says how many there are.
/// The functions may be called from the thread that runs the call, while it runs, and from no other.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct HostTable {
    /// [`ABI_VERSION`].
    pub abi_version: u32,
    /// Size of the table in bytes, as the worker knows it.
    pub size: u32,
    /// Hands over the reply of the running call.
    pub reply: ReplyFn,
    /// Calls the host and waits for its answer.
    pub host_call: HostCallFn,
    /// Copies the answer, or the error text, of the last host call.
    pub host_take: HostTakeFn,
}

/// `sizeof(struct hotcell_host)` of this version, in bytes.
#[expect(clippy::cast_possible_truncation, reason = "five fields: the size is under 64 bytes")]
pub const HOST_TABLE_SIZE: u32 = size_of::<HostTable>() as u32;

/// [`HostCallStatus::Refused`] as a number.
const REFUSED: i64 = -1;
/// [`HostCallStatus::Failed`] without a text, as a number.
const FAILED: i64 = -2;
/// Distance of [`HostCallStatus::FailedWithText`] from zero; the numbers between it and [`FAILED`] are reserved.
const FAILED_TEXT_BASE: i64 = 16;

/// The 64-bit result of `host_call`, decoded.
///
/// | number | means |
/// |---|---|
/// | `n >= 0` | answered; the answer has `n` bytes |
/// | `-1` | refused |
/// | `-2`, and the reserved `-3` to `-15` | failed without a text |
/// | `n <= -16` | failed; the error text has `-16 - n` bytes |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostCallStatus {
    /// The handler answered with this many bytes, to be fetched with `host_take`.
    Answered(u64),
    /// No such host call for this plugin: not declared, not granted, or unknown. The plugin cannot tell which.
    Refused,
    /// The handler failed and says nothing.
    Failed,
    /// The handler failed; the error text has this many bytes, to be fetched with `host_take`.
    FailedWithText(u64),
}

impl HostCallStatus {
    /// The number that crosses the boundary. Lengths that do not fit are clamped; no real one comes near.
    #[must_use]
    pub fn encode(self) -> i64 {
        match self {
            Self::Answered(length) => i64::try_from(length).unwrap_or(i64::MAX),
            Self::Refused => REFUSED,
            Self::Failed => FAILED,
            Self::FailedWithText(length) => {
                i64::try_from(length).unwrap_or(i64::MAX).saturating_neg().saturating_sub(FAILED_TEXT_BASE)
            }
        }
    }

    /// What a number means. Every number means something.
    #[must_use]
    pub fn decode(number: i64) -> Self {
        if number >= 0 {
            Self::Answered(number.unsigned_abs())
        } else if number == REFUSED {
            Self::Refused
        } else if number > -FAILED_TEXT_BASE {
            Self::Failed
        } else {
            Self::FailedWithText((number + FAILED_TEXT_BASE).unsigned_abs())
        }
    }
}

/// Whether `name` may name an export: 1 to [`EXPORT_NAME_MAX`] letters, digits or underscores, ASCII only.
#[must_use]
pub const fn is_export_name(name: &str) -> bool {
    let mut rest = name.as_bytes();
    if rest.is_empty() || rest.len() > EXPORT_NAME_MAX {
        return false;
    }
    while let [first, others @ ..] = rest {
        if !first.is_ascii_alphanumeric() && *first != b'_' {
            return false;
        }
        rest = others;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_survives_the_boundary() {
        for status in [
            HostCallStatus::Answered(0),
            HostCallStatus::Answered(1 << 40),
            HostCallStatus::Refused,
            HostCallStatus::Failed,
            HostCallStatus::FailedWithText(0),
            HostCallStatus::FailedWithText(5),
        ] {
            assert_eq!(HostCallStatus::decode(status.encode()), status);
        }
    }

    #[test]
    fn the_numbers_are_those_of_the_document() {
        assert_eq!(HostCallStatus::Refused.encode(), -1);
        assert_eq!(HostCallStatus::Failed.encode(), -2);
        assert_eq!(HostCallStatus::FailedWithText(0).encode(), -16);
        assert_eq!(HostCallStatus::FailedWithText(5).encode(), -21);
        assert_eq!(HostCallStatus::decode(-3), HostCallStatus::Failed);
        assert_eq!(HostCallStatus::decode(-15), HostCallStatus::Failed);
    }

    #[test]
    fn extreme_numbers_neither_panic_nor_wrap() {
        assert_eq!(HostCallStatus::Answered(u64::MAX).encode(), i64::MAX);
        assert_eq!(HostCallStatus::FailedWithText(u64::MAX).encode(), i64::MIN);
        assert_eq!(HostCallStatus::decode(i64::MIN), HostCallStatus::FailedWithText((1 << 63) - 16));
    }

    #[test]
    fn export_names_are_short_plain_words() {
        assert!(is_export_name("greet"));
        assert!(is_export_name("_2"));
        assert!(is_export_name(&"a".repeat(EXPORT_NAME_MAX)));
        for bad in ["", "a-b", "a b", "é", "a\0", "../x", &"a".repeat(EXPORT_NAME_MAX + 1)] {
            assert!(!is_export_name(bad), "{bad:?}");
        }
    }

    #[test]
    fn the_host_table_has_the_layout_of_the_header() {
        assert_eq!(core::mem::offset_of!(HostTable, abi_version), 0);
        assert_eq!(core::mem::offset_of!(HostTable, size), 4);
        assert_eq!(core::mem::offset_of!(HostTable, reply), 8);
        assert_eq!(core::mem::offset_of!(HostTable, host_call), 8 + size_of::<usize>());
        assert_eq!(core::mem::offset_of!(HostTable, host_take), 8 + 2 * size_of::<usize>());
        assert_eq!(HOST_TABLE_SIZE as usize, 8 + 3 * size_of::<usize>());
    }
}
