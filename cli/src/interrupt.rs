//! Control-C.

use signal_hook::consts::SIGINT;
use signal_hook::low_level::pipe;
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;

/// Completes when the user interrupts the command; from the first use on, nothing else comes of it. Safe to cancel.
///
/// Not by tokio's own signals: a worker is linked with the tokio that this workspace asks for, and its event loop would
/// have to make the sockets that they need.
pub(crate) async fn control_c() {
    let listening = UnixStream::pair().and_then(|(near, far)| {
        pipe::register(SIGINT, far.into_std()?)?;
        Ok(near)
    });
    match listening {
        Ok(mut told) => _ = told.read_u8().await,
        // Without a descriptor for it, the command ends as any process does.
        Err(_) => std::future::pending().await,
    }
}
