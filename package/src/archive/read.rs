//! Reads archives, as a stream: nothing is kept but the manifest and the signatures, and nothing is believed.

use std::io::{BufRead, BufReader, Chain, Cursor, Read};

use flate2::bufread::GzDecoder;
use hotcell_policy::{Manifest, PackagePath};
use sha2::Digest as _;
use tar::{EntryType, Header};

use super::names::Names;
use super::write::{check_size, rank};
use super::{BLOCK, Bounds, GZIP, header, padding};
use crate::contents::{Contents, MANIFEST, SIGNATURES};
use crate::error::PackageError;
use crate::signatures::Signatures;

/// Bytes taken at once.
const PIECE: usize = 64 << 10;

/// Bytes that compress as well as they like.
const RATIO_FREE: u64 = 1 << 20;

/// Who gets the bytes of the files: the name, and a piece of its contents; an empty piece first.
type Take<'t> = dyn FnMut(&PackagePath, &[u8]) -> std::io::Result<()> + 't;

/// Reads an archive to its end, and gives each file's bytes to `take`: once with no bytes when it begins, then in pieces.
///
/// What `take` gets is not known to be signed, nor that the archive is whole: read it once for [`Contents`], decide, and read
/// it again to unpack.
///
/// # Errors
/// The archive is not what [`write`](super::write) makes, something is over a bound, or reading or `take` fails. Bounds hold
/// for what was read so far: an archive is never read further than them.
pub fn read(packed: impl Read, bounds: &Bounds, take: &mut Take<'_>) -> Result<Contents, PackageError> {
    let mut reader = Reader::new(packed, *bounds)?;
    let (mut names, mut contents, mut total) = (Names::default(), Contents::default(), 0);
    let mut before: Option<PackagePath> = None;
    while let Some((path, size)) = reader.entry()? {
        names.enter(&path, bounds)?;
        total += size;
        check_size(&path, size, total, bounds)?;
        check_order(before.as_ref(), &path)?;
        let kept = match path.as_str() {
            MANIFEST => Some((Manifest::MAX_BYTES, &mut contents.manifest)),
            SIGNATURES => Some((Signatures::MAX_BYTES, contents.signatures.insert(Vec::new()))),
            _ => None,
        };
        let digest = reader.contents(&path, size, kept, take)?;
        if path.as_str() != SIGNATURES {
            contents.listing.insert(path.clone(), digest, size);
        }
        before = Some(path);
    }
    match before {
        None => Err(PackageError::NotCanonical(format!("there is no {MANIFEST}"))),
        Some(_) => reader.end().map(|()| contents),
    }
}

fn check_order(before: Option<&PackagePath>, path: &PackagePath) -> Result<(), PackageError> {
    match before {
        None if path.as_str() == MANIFEST => Ok(()),
        None => Err(PackageError::NotCanonical(format!("{MANIFEST} is not its first file"))),
        Some(before) if rank(before) < rank(path) => Ok(()),
        Some(before) => Err(PackageError::NotCanonical(format!("{path:?} comes after {before:?}"))),
    }
}

/// The decompressed bytes, counted.
struct Reader<R: Read> {
    bytes: GzDecoder<Chain<Cursor<[u8; GZIP.len()]>, Counted<R>>>,
    bounds: Bounds,
    unpacked: u64,
}

/// The compressed bytes, counted.
struct Counted<R> {
    inner: BufReader<R>,
    taken: u64,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let read = self.inner.read(into)?;
        self.taken += read as u64;
        Ok(read)
    }
}

impl<R: Read> BufRead for Counted<R> {
    fn fill_buf(&mut self) -> std::io::Result<&[u8]> {
        self.inner.fill_buf()
    }

    fn consume(&mut self, amount: usize) {
        self.taken += amount as u64;
        self.inner.consume(amount);
    }
}

impl<R: Read> Reader<R> {
    fn new(packed: R, bounds: Bounds) -> Result<Reader<R>, PackageError> {
        let mut packed = Counted { inner: BufReader::with_capacity(PIECE, packed), taken: 0 };
        let mut start = [0; GZIP.len()];
        packed.read_exact(&mut start).map_err(damaged)?;
        if start != GZIP {
            let magic = start.starts_with(&[0x1f, 0x8b]);
            let what = "it is compressed in another way than packages are";
            return Err(match magic {
                true => PackageError::NotCanonical(what.to_owned()),
                false => PackageError::Malformed("it does not begin as one".to_owned()),
            });
        }
        Ok(Reader { bytes: GzDecoder::new(Cursor::new(start).chain(packed)), bounds, unpacked: 0 })
    }

    /// Fills all of `into`, or none of it where the stream ends before the first byte: `false`.
    fn fill(&mut self, into: &mut [u8]) -> Result<bool, PackageError> {
        let mut filled = 0;
        while let Some(rest) = into.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.bytes.read(rest) {
                Ok(0) if filled == 0 => return Ok(false),
                Ok(0) => return Err(PackageError::Malformed("it ends too early".to_owned())),
                Ok(read) => filled += read,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(damaged(error)),
            }
        }
        self.unpacked += filled as u64;
        let allowed = RATIO_FREE + self.bytes.get_ref().get_ref().1.taken.saturating_mul(self.bounds.ratio);
        match self.unpacked > allowed {
            true => Err(PackageError::TooLarge {
                what: "what it unpacks to".to_owned(),
                most: format!("{} bytes for each of its own", self.bounds.ratio),
            }),
            false => Ok(true),
        }
    }

    fn block(&mut self) -> Result<[u8; BLOCK], PackageError> {
        let mut block = [0; BLOCK];
        match self.fill(&mut block)? {
            true => Ok(block),
            false => Err(PackageError::Malformed("it ends too early".to_owned())),
        }
    }

    /// The next file's name and size; `None` at the end mark.
    fn entry(&mut self) -> Result<Option<(PackagePath, u64)>, PackageError> {
        let block = self.block()?;
        if block == [0; BLOCK] {
            return match self.block()? == [0; BLOCK] {
                true => Ok(None),
                false => Err(PackageError::NotCanonical("its end mark is followed by more".to_owned())),
            };
        }
        entry_of(&block).map(Some)
    }

    /// Reads the contents of a file, fills `kept`, and returns their digest.
    fn contents(
        &mut self,
        path: &PackagePath,
        size: u64,
        mut kept: Option<(usize, &mut Vec<u8>)>,
        take: &mut Take<'_>,
    ) -> Result<crate::listing::Digest, PackageError> {
        if let Some((most, _)) = kept.as_ref().filter(|(most, _)| size > *most as u64) {
            return Err(PackageError::TooLarge {
                what: format!("{path} with {size} bytes"),
                most: format!("{most} bytes"),
            });
        }
        let failed = |error| PackageError::Io("take a file of a package", error);
        take(path, &[]).map_err(failed)?;
        let (mut digest, mut piece, mut left) = (sha2::Sha256::new(), vec![0; PIECE], size);
        while left > 0 {
            let length = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
            let piece = piece.get_mut(..length).unwrap_or_default();
            if !self.fill(piece)? {
                return Err(PackageError::Malformed("it ends too early".to_owned()));
            }
            digest.update(&*piece);
            if let Some((_, kept)) = &mut kept {
                kept.extend_from_slice(piece);
            }
            take(path, piece).map_err(failed)?;
            left -= length as u64;
        }
        let mut rest = [0; BLOCK];
        let rest = rest.get_mut(..padding(size)).unwrap_or_default();
        if !rest.is_empty() && (!self.fill(rest)? || rest.iter().any(|byte| *byte != 0)) {
            return Err(PackageError::NotCanonical(format!("{path:?} is not followed by zeros")));
        }
        Ok(digest.finalize().into())
    }

    /// Checks that nothing follows, compressed or not.
    fn end(mut self) -> Result<(), PackageError> {
        if self.fill(&mut [0])? {
            return Err(PackageError::NotCanonical("something follows its end mark".to_owned()));
        }
        let (_, mut packed) = self.bytes.into_inner().into_inner();
        match packed.fill_buf().map_err(damaged)?.is_empty() {
            true => Ok(()),
            false => Err(PackageError::NotCanonical("something follows the archive".to_owned())),
        }
    }
}

/// A header is accepted when it is, byte for byte, the one that a file of its name and size has.
fn entry_of(block: &[u8; BLOCK]) -> Result<(PackagePath, u64), PackageError> {
    let found = Header::from_byte_slice(block);
    let name = found.path_bytes();
    let text = String::from_utf8_lossy(&name).into_owned();
    let kind = match found.entry_type() {
        EntryType::Link => Some("hard link"),
        EntryType::Symlink => Some("symbolic link"),
        EntryType::Directory => Some("folder"),
        EntryType::Char | EntryType::Block => Some("device"),
        EntryType::Fifo => Some("pipe"),
        _ => None,
    };
    // A folder's name ends with a slash, which no file's does.
    if let Some(kind) = kind {
        return Err(PackageError::LinkNotAllowed { path: text, kind });
    }
    let path = match std::str::from_utf8(&name) {
        Ok(name) => name.parse(),
        Err(_) => Err(hotcell_policy::NameError::new("a name is UTF-8")),
    };
    let path: PackagePath = path.map_err(|why| PackageError::BadPath { path: text, why })?;
    let strange =
        || PackageError::NotCanonical(format!("the header of {path:?} is not as hotcell writes it"));
    let size = found.entry_size().map_err(|_| strange())?;
    // The field holds no more digits, and the header is not written for what does not fit.
    if size >= 1 << 33 {
        return Err(strange());
    }
    match header(&path, size)?.as_bytes() == block {
        true => Ok((path, size)),
        false => Err(strange()),
    }
}

/// A stream that cannot be decompressed.
fn damaged(error: std::io::Error) -> PackageError {
    use std::io::ErrorKind::{InvalidData, InvalidInput, UnexpectedEof};
    match error.kind() {
        UnexpectedEof => PackageError::Malformed("it ends too early".to_owned()),
        InvalidData | InvalidInput => PackageError::Malformed(format!("it is damaged: {error}")),
        _ => PackageError::Io("read a package", error),
    }
}
