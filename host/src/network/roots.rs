//! The certificate authorities that a host's plugins are told to trust.

use std::io::{self, Read as _};
use std::sync::{Arc, OnceLock};

/// Bytes of the system's certificates that are read; bundles have some 250 KB.
const READ_MAX: u64 = 4 << 20;

/// Certificates as PEM (RFC 7468): the application's, or the system's, read when they are first asked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Roots(Arc<OnceLock<Result<Vec<u8>, String>>>);

impl Roots {
    /// These and no others.
    pub(crate) fn given(pem: Vec<u8>) -> Roots {
        Roots(Arc::new(OnceLock::from(Ok(pem))))
    }

    /// The certificates, or why there are none, in words that name no path.
    pub(crate) fn pem(&self) -> Result<Vec<u8>, String> {
        self.0.get_or_init(of_system).clone()
    }
}

/// The bundle that `SSL_CERT_FILE` names, or the one where the system's distribution keeps it.
fn of_system() -> Result<Vec<u8>, String> {
    let none = || "the host's system has no bundle of certificates".to_owned();
    let path = openssl_probe::probe().cert_file.ok_or_else(none)?;
    let read = || -> io::Result<Vec<u8>> {
        let mut pem = Vec::new();
        std::fs::File::open(path)?.take(READ_MAX).read_to_end(&mut pem)?;
        Ok(pem)
    };
    read().map_err(|error| format!("the host cannot read its system's certificates: {}", error.kind()))
}
