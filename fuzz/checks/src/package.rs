//! Packages: the archive, the signatures in it, and the trust store.

use std::collections::BTreeMap;
use std::io::Write;

use flate2::{Compression, GzBuilder};
use hotcell_package::{Bounds, Contents, PackageError, Signatures, TrustStore, read, write};
use hotcell_policy::PackagePath;

use crate::written::is_shown;

/// Small enough that no input takes long.
const BOUNDS: Bounds = Bounds { entries: 64, file: 1 << 20, total: 4 << 20, ratio: 200, depth: 8 };

/// An archive as it comes, or, behind a first byte `t`, a tar file that is compressed here: a fuzzer makes no valid deflate
/// stream by chance. What is read is within its bounds, and is what hotcell would have written: written again, it is the same
/// archive.
pub fn package(data: &[u8]) {
    let packed = match data.split_first() {
        Some((b't', tar)) => compressed(tar),
        _ => data.to_vec(),
    };
    let mut files: BTreeMap<PackagePath, Vec<u8>> = BTreeMap::new();
    let mut total = 0;
    let contents = read(packed.as_slice(), &BOUNDS, &mut |path, piece| {
        total += piece.len() as u64;
        let known = files.insert(path.clone(), Vec::new()).unwrap_or_default();
        assert!(!piece.is_empty() || known.is_empty(), "a file begins once");
        files.insert(path.clone(), [&known, piece].concat());
        Ok(())
    });
    assert!(total <= BOUNDS.total && files.len() <= BOUNDS.entries);
    match contents {
        Err(error) => assert!(!matches!(error, PackageError::Io(..)), "{error}"),
        Ok(contents) => {
            same_again(&contents, &files);
            if let Ok(Some(signatures)) = contents.signatures() {
                assert!(!signatures.signers().is_empty());
            }
        }
    }
}

fn compressed(tar: &[u8]) -> Vec<u8> {
    let mut out = GzBuilder::new().operating_system(255).write(Vec::new(), Compression::best());
    out.write_all(tar).and_then(|()| out.finish()).expect("memory takes all")
}

fn same_again(contents: &Contents, files: &BTreeMap<PackagePath, Vec<u8>>) {
    let mut packed = Vec::new();
    let all = files.iter().map(|(path, bytes)| (path.clone(), bytes.len() as u64, bytes.as_slice()));
    write(&mut packed, all, &BOUNDS).expect("what was read can be written");
    let mut again = BTreeMap::new();
    let read = read(packed.as_slice(), &BOUNDS, &mut |path, piece| {
        again.entry(path.clone()).or_insert_with(Vec::new).extend_from_slice(piece);
        Ok(())
    });
    assert_eq!(&read.expect("what was written can be read"), contents);
    assert_eq!(&again, files);
    assert!(files.keys().all(|path| is_shown(path.as_str())));
}

/// Documents of signatures and trust stores: refused, or written as they were read.
pub fn signatures(data: &[u8]) {
    if let Ok(signatures) = Signatures::parse(data) {
        let text = signatures.to_string();
        assert_eq!(Signatures::parse(text.as_bytes()).as_ref(), Ok(&signatures));
        for signer in signatures.signers() {
            assert_eq!(signer.key.to_string().parse().as_ref(), Ok(&signer.key));
            let mut other = signatures.clone();
            // Nobody has found a signature over anything by chance.
            assert!(other.attach(signer.key.clone(), None, [0; 64]).is_err());
        }
    }
    if let Ok(store) = TrustStore::parse(data) {
        assert_eq!(TrustStore::parse(store.to_string().as_bytes()).as_ref(), Ok(&store));
    }
}
