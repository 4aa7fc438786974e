//! Streams over granted files, without helper threads.
//!
//! wasmtime-wasi moves the non-blocking half of its file streams to a thread pool. A worker has no second thread, so its
//! three functions that make such a stream are replaced: a regular file is always ready, and its operations are done at
//! once. Permissions are checked as there; Landlock stands behind them.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;
use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, Resource};
use wasmtime_wasi::filesystem::Descriptor;
use wasmtime_wasi::p2::bindings::filesystem::types::ErrorCode;
use wasmtime_wasi::p2::{
    DynInputStream, DynOutputStream, InputStream, OutputStream, Pollable, StreamError, StreamResult,
};

use crate::guest::Guest;
use wasmtime_wasi::WasiView;

/// The interface as wasmtime-wasi defines it; the linker serves every 0.2 version by it.
const TYPES: &str = "wasi:filesystem/types@0.2.12";

/// Bytes of one read or write.
const PIECE: usize = 64 * 1024;

/// What a function of WASI that can fail returns.
type Answer<T> = (Result<Resource<T>, ErrorCode>,);

struct Reader {
    file: Arc<File>,
    position: u64,
}

struct Writer {
    file: Arc<File>,
    /// `None` appends.
    position: Option<u64>,
}

/// Replaces the three functions. The linker must allow shadowing.
pub(crate) fn replace(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    let mut types = linker.instance(TYPES)?;
    types.func_wrap("[method]descriptor.read-via-stream", read_via_stream)?;
    types.func_wrap("[method]descriptor.write-via-stream", write_via_stream)?;
    types.func_wrap("[method]descriptor.append-via-stream", append_via_stream)?;
    Ok(())
}

fn read_via_stream(
    mut store: StoreContextMut<'_, Guest>,
    (descriptor, position): (Resource<Descriptor>, u64),
) -> wasmtime::Result<Answer<DynInputStream>> {
    let table = store.data_mut().ctx().table;
    let file = match table.get(&descriptor)? {
        Descriptor::File(file) => file.file.clone(),
        Descriptor::Dir(_) => return Ok((Err(ErrorCode::IsDirectory),)),
    };
    let stream: DynInputStream = Box::new(Reader { file, position });
    Ok((Ok(table.push(stream)?),))
}

fn write_via_stream(
    store: StoreContextMut<'_, Guest>,
    (descriptor, position): (Resource<Descriptor>, u64),
) -> wasmtime::Result<Answer<DynOutputStream>> {
    writer(store, &descriptor, Some(position))
}

fn append_via_stream(
    store: StoreContextMut<'_, Guest>,
    (descriptor,): (Resource<Descriptor>,),
) -> wasmtime::Result<Answer<DynOutputStream>> {
    writer(store, &descriptor, None)
}

fn writer(
    mut store: StoreContextMut<'_, Guest>,
    descriptor: &Resource<Descriptor>,
    position: Option<u64>,
) -> wasmtime::Result<Answer<DynOutputStream>> {
    let table = store.data_mut().ctx().table;
    let file = match table.get(descriptor)? {
        Descriptor::File(file) if file.perms.write_not_permitted() => {
            return Ok((Err(ErrorCode::NotPermitted),));
        }
        Descriptor::File(file) => file.file.clone(),
        Descriptor::Dir(_) => return Ok((Err(ErrorCode::BadDescriptor),)),
    };
    let stream: DynOutputStream = Box::new(Writer { file, position });
    Ok((Ok(table.push(stream)?),))
}

#[wasmtime_wasi::async_trait]
impl Pollable for Reader {
    async fn ready(&mut self) {}
}

impl InputStream for Reader {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        let mut buffer = vec![0; size.min(PIECE)];
        let length = self.file.read_at(&mut buffer, self.position).map_err(failed)?;
        if length == 0 && size > 0 {
            return Err(StreamError::Closed);
        }
        buffer.truncate(length);
        self.position += length as u64;
        Ok(buffer.into())
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for Writer {
    async fn ready(&mut self) {}
}

impl OutputStream for Writer {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        match &mut self.position {
            Some(position) => {
                self.file.write_all_at(&bytes, *position).map_err(failed)?;
                *position += bytes.len() as u64;
            }
            None => append(&self.file, &bytes).map_err(failed)?,
        }
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(PIECE)
    }
}

/// Moves the shared offset to the end and writes there; no other thread can come between.
fn append(mut file: &File, bytes: &[u8]) -> std::io::Result<()> {
    std::io::Seek::seek(&mut file, std::io::SeekFrom::End(0))?;
    file.write_all(bytes)
}

fn failed(error: std::io::Error) -> StreamError {
    StreamError::LastOperationFailed(error.into())
}
