//! Why bytes are no package, and why a package is not trusted.

use hotcell_policy::NameError;

/// Why bytes are no package, or why files do not make one. What names come from an archive are escaped.
#[derive(Debug, thiserror::Error)]
pub enum PackageError {
    /// A name that no file of a package can have.
    #[error("{path:?}: {why}")]
    BadPath {
        /// The name, as far as it is text.
        path: String,
        /// What is wrong with it.
        why: NameError,
    },
    /// An entry that is no regular file: a link, a folder, a device.
    #[error("{path:?} is a {kind}; a package holds regular files only, and folders are made for them")]
    LinkNotAllowed {
        /// Its name.
        path: String,
        /// What it is.
        kind: &'static str,
    },
    /// Two names that are one where case or the form of Unicode does not count, or a file that is also a folder.
    #[error("{path:?} and {other:?} are one name on some systems, or one is a folder of the other")]
    Duplicate {
        /// The later one.
        path: String,
        /// The earlier one.
        other: String,
    },
    /// Too many entries.
    #[error("more than {0} files")]
    TooManyEntries(usize),
    /// Something is over its bound.
    #[error("{what} is over the {most} allowed")]
    TooLarge {
        /// What.
        what: String,
        /// The bound, in words.
        most: String,
    },
    /// An archive that can be read, and that hotcell would have written differently.
    #[error("not a canonical package: {0}; make packages with `hotcell plugin package`")]
    NotCanonical(String),
    /// No archive at all, or a damaged one.
    #[error("not a package: {0}")]
    Malformed(String),
    /// Reading or writing failed.
    #[error("failed to {0}: {1}")]
    Io(&'static str, std::io::Error),
}

/// Why a package's signatures are not what they must be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// There is none, and one is required.
    #[error("it is not signed, and {0}")]
    Missing(&'static str),
    /// The document is none.
    #[error("its signatures cannot be read: {0}")]
    Malformed(String),
    /// An algorithm other than ed25519.
    #[error("its signature has the algorithm {0:?}; hotcell knows `ed25519` only")]
    Algorithm(String),
    /// A file that no signature covers.
    #[error("the file {0:?} is not among those that were signed")]
    UnlistedFile(String),
    /// A file that was signed and is not there.
    #[error("the file {0:?} was signed and is not in the package")]
    MissingFile(String),
    /// A file that was changed after it was signed.
    #[error("the file {0:?} is not the one that was signed")]
    DigestMismatch(String),
    /// The signature is not one of this key over these files.
    #[error("the signature of the key {0} is not one of this package")]
    Invalid(String),
    /// All that is well, and no key that signed counts here.
    #[error(transparent)]
    Untrusted(#[from] TrustError),
}

/// Why a signature that is right does not count.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TrustError {
    /// No key that signed is known.
    #[error(
        "it is signed by {0}, which is not trusted here; if it is the author's: hotcell trust add {0} --name NAME --for {1}"
    )]
    Unknown(String, String),
    /// The key may not sign plugins of this id.
    #[error("the key {key} ({name}) is trusted, but not for the plugin {id}")]
    WrongKeyForId {
        /// The key.
        key: String,
        /// Whose it is, as the trust store says.
        name: String,
        /// The plugin's id.
        id: String,
    },
    /// The key may not sign plugins that ask for this.
    #[error("the key {key} ({name}) may not sign what asks for `{ask}`")]
    Asks {
        /// The key.
        key: String,
        /// Whose it is.
        name: String,
        /// The permission.
        ask: &'static str,
    },
    /// The signature is too old.
    #[error("the signature of the key {0} expired at {1}; its author has to sign again")]
    Expired(String, String),
    /// The key does not count any more.
    #[error("the key {0} was revoked: {1}")]
    RevokedKey(String, String),
    /// This package does not count any more.
    #[error("this package was revoked: {0}")]
    RevokedPackage(String),
}
