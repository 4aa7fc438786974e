//! Bytes to messages and back: the only file that knows bincode.
//!
//! bincode 2.0.1 is unmaintained (RUSTSEC-2025-0141); it is used here within three rules that its known faults ask
//! for: a decode limit, `consumed == length`, and message types without recursion or sequences of zero-size elements.

use bincode::config::{self, Configuration, Limit, LittleEndian, Varint};
use serde::{Serialize, de::DeserializeOwned};

/// Largest decoded size of one message, in bytes. A packet is at most 64 KiB, and no field expands.
const DECODE_LIMIT: usize = 256 * 1024;

/// Why bytes are not a message.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// The bytes do not decode to the expected type within the limit.
    #[error("failed to decode a message: {0}")]
    Decode(#[from] bincode::error::DecodeError),
    /// The value does not encode within the limit.
    #[error("failed to encode a message: {0}")]
    Encode(#[from] bincode::error::EncodeError),
    /// The message was followed by more bytes.
    #[error("a message of {consumed} bytes in {length}")]
    Length {
        /// Bytes that the message itself took.
        consumed: usize,
        /// Bytes that there were.
        length: usize,
    },
}

const fn config() -> Configuration<LittleEndian, Varint, Limit<DECODE_LIMIT>> {
    config::standard().with_limit::<DECODE_LIMIT>()
}

/// Encodes a message.
pub fn encode<M: Serialize>(message: &M) -> Result<Vec<u8>, CodecError> {
    Ok(bincode::serde::encode_to_vec(message, config())?)
}

/// Encodes a message for as long as `then` uses its bytes. Most messages are short, and cost no allocation.
pub fn encoded<M: Serialize, T>(message: &M, then: impl FnOnce(&[u8]) -> T) -> Result<T, CodecError> {
    let mut short = [0; 256];
    if let Ok(len) = bincode::serde::encode_into_slice(message, &mut short, config()) {
        return Ok(then(short.get(..len).unwrap_or_default()));
    }
    encode(message).map(|long| then(&long))
}

/// Decodes a message that fills `bytes` exactly.
pub fn decode<M: DeserializeOwned>(bytes: &[u8]) -> Result<M, CodecError> {
    let (message, consumed) = bincode::serde::decode_from_slice(bytes, config())?;
    if consumed != bytes.len() {
        return Err(CodecError::Length { consumed, length: bytes.len() });
    }
    Ok(message)
}

#[cfg(test)]
mod tests {
    use super::{CodecError, decode, encode, encoded};

    #[test]
    fn trailing_bytes_are_refused() {
        let mut bytes = encode(&("call", 7_u32)).expect("encodes");
        assert_eq!(decode::<(String, u32)>(&bytes).expect("decodes"), ("call".to_owned(), 7));
        bytes.push(0);
        assert!(matches!(decode::<(String, u32)>(&bytes), Err(CodecError::Length { .. })));
    }

    #[test]
    fn messages_of_every_length_are_encoded_alike() {
        for len in 0..600 {
            let message = "m".repeat(len);
            let bytes = encoded(&message, <[u8]>::to_vec).expect("encodes");
            assert_eq!(bytes, encode(&message).expect("encodes"), "{len}");
        }
    }

    #[test]
    fn a_declared_length_allocates_nothing_beyond_the_limit() {
        // Varint marker 0xfd: a u64 follows. The string claims 2^46 bytes.
        let mut bytes = vec![0xfd];
        bytes.extend_from_slice(&(1_u64 << 46).to_le_bytes());
        assert!(matches!(decode::<String>(&bytes), Err(CodecError::Decode(_))));
        assert!(matches!(decode::<Vec<u64>>(&bytes), Err(CodecError::Decode(_))));
    }

    #[test]
    fn every_truncation_is_an_error() {
        let bytes = encode(&("a name", vec![1_u32, 2, 3])).expect("encodes");
        for end in 0..bytes.len() {
            assert!(decode::<(String, Vec<u32>)>(bytes.get(..end).expect("in range")).is_err());
        }
    }

    /// Decodes as every type that crosses a border.
    fn decode_all(bytes: &[u8]) {
        use crate::{
            CompileFailure, CompileRequest, Description, Envelope, FromLauncher, FromWorker, ToLauncher,
            ToWorker,
        };
        let _ = decode::<FromWorker>(bytes);
        let _ = decode::<ToWorker>(bytes);
        let _ = decode::<Envelope<FromWorker>>(bytes);
        let _ = decode::<Envelope<ToWorker>>(bytes);
        let _ = decode::<FromLauncher>(bytes);
        let _ = decode::<ToLauncher>(bytes);
        let _ = decode::<Description>(bytes);
        let _ = decode::<CompileFailure>(bytes);
        let _ = decode::<CompileRequest>(bytes);
    }

    #[test]
    fn whatever_bytes_come_decoding_ends_within_its_limit() {
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        for round in 0..200_000_u64 {
            // Every message type begins with a small number; lengths are most often small, or huge.
            let mut bytes = vec![u8::try_from(round % 9).expect("small")];
            for _ in 0..next() % 40 {
                match next() % 4 {
                    0 => bytes.push(u8::try_from(next() % 4).expect("small")),
                    1 => bytes.push(251 + u8::try_from(next() % 5).expect("small")),
                    _ => bytes.extend(
                        next().to_le_bytes().iter().take(usize::try_from(next() % 8).expect("small")),
                    ),
                }
            }
            decode_all(&bytes);
        }
    }
}
