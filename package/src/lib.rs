//! A plugin as it is shipped: one archive (`.lbplugin`), the signatures in it, and whose signatures count.
//!
//! Everything here reads hostile bytes. An archive is accepted only if hotcell itself would have written each of its headers,
//! so there is nothing that two readers could understand differently: no link, no device, no second entry of a name, no
//! extension. A signature covers the digest of every file; a [`TrustStore`] says which key may sign what.
//!
//! What this crate does *not* do: it opens no file, reads no clock and unpacks nothing. It does not say that a signed plugin
//! is harmless, only who says that it is theirs.

#![forbid(unsafe_code)]

mod archive;
mod contents;
mod error;
mod hex;
mod listing;
mod signatures;
mod statement;
mod trust;

pub use archive::{Bounds, read, write};
pub use contents::{Contents, MANIFEST, SIGNATURES};
pub use error::{PackageError, SignatureError, TrustError};
pub use hex::{hex, unhex};
pub use listing::{Digest, Listing};
pub use signatures::{KeyId, Signature, Signatures};
pub use statement::Statement;
pub use trust::{Ask, IdPattern, RevokedPackage, Standing, TrustStore, TrustedKey, asks};
