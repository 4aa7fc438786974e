//! What is no package is refused, each time beside what differs in one thing and is one. Rows PK-01 to PK-12 of the attacks.

#![allow(clippy::expect_used, clippy::indexing_slicing, reason = "a panic is how a test fails")]

use std::io::Write;

use flate2::{Compression, GzBuilder};
use hotcell_package::{Bounds, Contents, PackageError, read, write};
use tar::{EntryType, Header};

const MANIFEST: &[u8] = b"{}";

/// What hotcell writes of these files.
fn packed(files: &[(&str, &[u8])]) -> Result<Vec<u8>, PackageError> {
    let mut out = Vec::new();
    let files = files.iter().map(|(path, bytes)| (path.parse().expect("a path"), bytes.len() as u64, *bytes));
    write(&mut out, files, &Bounds::STANDARD).map(|()| out)
}

fn opened(bytes: &[u8]) -> Result<Contents, PackageError> {
    read(bytes, &Bounds::STANDARD, &mut |_, _| Ok(()))
}

/// A header with any name, as an attacker writes it: with the right checksum.
fn entry(name: &[u8], kind: EntryType, size: u64) -> Header {
    let mut header = Header::new_ustar();
    header.as_old_mut().name[..name.len()].copy_from_slice(name);
    header.set_entry_type(kind);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    header.set_cksum();
    header
}

fn compressed(tar: &[u8]) -> Vec<u8> {
    let mut out = GzBuilder::new().operating_system(255).write(Vec::new(), Compression::best());
    out.write_all(tar).expect("compresses");
    out.finish().expect("compresses")
}

/// A tar file of blocks, with the end mark.
fn tar(entries: &[(Header, &[u8])]) -> Vec<u8> {
    let mut out = Vec::new();
    for (header, contents) in entries {
        out.extend_from_slice(header.as_bytes());
        out.extend_from_slice(contents);
        out.resize(out.len().next_multiple_of(512), 0);
    }
    out.resize(out.len() + 1024, 0);
    out
}

fn manifest() -> (Header, &'static [u8]) {
    (entry(b"manifest.json", EntryType::Regular, 2), MANIFEST)
}

/// A package of a manifest and one more entry.
fn with(header: Header, contents: &[u8]) -> Result<Contents, PackageError> {
    opened(&compressed(&tar(&[manifest(), (header, contents)])))
}

#[test]
fn what_is_written_is_read_and_its_bytes_are_the_same_each_time() {
    let files: [(&str, &[u8]); 5] = [
        ("signatures.json", b"s"),
        ("res/b", &[7; 1000]),
        ("manifest.json", MANIFEST),
        ("plugin.wasm", &[0; 512]),
        ("res/a", b""),
    ];
    let first = packed(&files).expect("packs");
    let mut turned = files;
    turned.reverse();
    assert_eq!(packed(&turned).expect("packs"), first);
    let mut seen = Vec::new();
    let contents = read(first.as_slice(), &Bounds::STANDARD, &mut |path, piece| {
        seen.push((path.to_string(), piece.len()));
        Ok(())
    })
    .expect("reads");
    let names: Vec<_> =
        seen.iter().filter(|(_, length)| *length == 0).map(|(path, _)| path.as_str()).collect();
    assert_eq!(names, ["manifest.json", "signatures.json", "plugin.wasm", "res/a", "res/b"]);
    assert_eq!(contents.manifest, MANIFEST);
    assert_eq!(contents.signatures.as_deref(), Some(&b"s"[..]));
    let listed: Vec<_> = contents.listing.iter().map(|(path, _, size)| (path.as_str(), size)).collect();
    assert_eq!(listed, [("manifest.json", 2), ("plugin.wasm", 512), ("res/a", 0), ("res/b", 1000)]);
}

#[test]
fn a_header_written_by_hand_is_accepted_where_it_is_the_canonical_one() {
    let contents = with(entry(b"a", EntryType::Regular, 3), b"abc").expect("control of all that follow");
    assert_eq!(contents.listing.iter().count(), 2);
}

#[test]
fn names_that_lead_elsewhere_or_mislead_are_refused() {
    let names: [&[u8]; 12] = [
        b"../../etc/cron.d/x",
        b"/etc/x",
        b"C:\\x",
        b"a//b",
        b"./a",
        b"a/",
        b"a\nb",
        b"\x1b[2J",
        "a\u{202e}b".as_bytes(),
        b"\xff",
        b"*",
        b"~",
    ];
    for name in names {
        let refused = with(entry(name, EntryType::Regular, 0), b"");
        assert!(matches!(refused, Err(PackageError::BadPath { .. })), "{name:?}: {refused:?}");
    }
    // What follows a NUL is no part of a name; a header with it is not the canonical one.
    let refused = with(entry(b"a\0b", EntryType::Regular, 0), b"");
    assert!(matches!(refused, Err(PackageError::NotCanonical(_))), "{refused:?}");
}

#[test]
fn what_is_no_regular_file_is_refused() {
    for kind in [
        EntryType::Symlink,
        EntryType::Link,
        EntryType::Directory,
        EntryType::Char,
        EntryType::Block,
        EntryType::Fifo,
    ] {
        let mut header = entry(b"d", kind, 0);
        header.set_link_name("/").expect("fits");
        header.set_cksum();
        let refused = with(header, b"");
        assert!(matches!(refused, Err(PackageError::LinkNotAllowed { .. })), "{kind:?}: {refused:?}");
    }
    for kind in [EntryType::XHeader, EntryType::XGlobalHeader, EntryType::GNULongName, EntryType::GNUSparse] {
        let refused = with(entry(b"d", kind, 0), b"");
        assert!(matches!(refused, Err(PackageError::NotCanonical(_))), "{kind:?}: {refused:?}");
    }
}

#[test]
fn any_other_bit_of_a_header_is_refused() {
    let good = tar(&[manifest(), (entry(b"a", EntryType::Regular, 3), b"abc")]);
    for at in 1024..1536 {
        for bit in [1, 0x20, 0x80] {
            let mut tar = good.clone();
            tar[at] ^= bit;
            // The checksum is part of what is compared; an attacker makes it right.
            let sum: u32 = (1024..1536)
                .map(
                    |place| {
                        if (1024 + 148..1024 + 156).contains(&place) { 32 } else { u32::from(tar[place]) }
                    },
                )
                .sum();
            if !(1024 + 148..1024 + 156).contains(&at) {
                tar[1024 + 148..1024 + 156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
            }
            let read = opened(&compressed(&tar));
            // The name is the one thing that may be another one; the size leads to other contents.
            let is_name = (1024..1124).contains(&at) && read.is_ok();
            assert!(read.is_err() || is_name, "byte {at}, bit {bit}: {read:?}");
        }
    }
}

#[test]
fn names_come_once_and_in_order() {
    let duplicate = [manifest(), manifest()];
    assert!(matches!(opened(&compressed(&tar(&duplicate))), Err(PackageError::Duplicate { .. })));
    let file = |name: &[u8]| (entry(name, EntryType::Regular, 0), &b""[..]);
    let read = |files: &[&[u8]]| {
        let all: Vec<_> = std::iter::once(manifest()).chain(files.iter().map(|name| file(name))).collect();
        opened(&compressed(&tar(&all)))
    };
    read(&[b"A", b"b"]).expect("control");
    assert!(matches!(read(&[b"b", b"a"]), Err(PackageError::NotCanonical(_))));
    assert!(matches!(read(&[b"Manifest.json"]), Err(PackageError::Duplicate { .. })));
    assert!(matches!(
        read(&["e\u{301}".as_bytes(), "\u{e9}".as_bytes()]),
        Err(PackageError::Duplicate { .. })
    ));
    let late = opened(&compressed(&tar(&[file(b"a"), manifest()])));
    assert!(matches!(late, Err(PackageError::NotCanonical(_))));
    assert!(matches!(opened(&compressed(&tar(&[]))), Err(PackageError::NotCanonical(_))), "no manifest");
}

#[test]
fn a_bomb_ends_at_its_bound_while_it_is_read() {
    let bounds = Bounds { total: 1 << 30, ratio: 1 << 40, ..Bounds::STANDARD };
    let zeros = vec![0; 64 << 20];
    let mut bomb = Vec::new();
    let files = [("manifest.json", MANIFEST), ("zeros", &zeros)];
    let files = files.map(|(path, bytes)| (path.parse().expect("a path"), bytes.len() as u64, bytes));
    write(&mut bomb, files, &bounds).expect("packs");
    read(bomb.as_slice(), &bounds, &mut |_, _| Ok(())).expect("control: within wider bounds it is read");
    let mut taken = 0;
    let refused = read(bomb.as_slice(), &Bounds::STANDARD, &mut |_, piece| {
        taken += piece.len();
        Ok(())
    });
    assert!(matches!(refused, Err(PackageError::TooLarge { .. })), "{refused:?}");
    assert!(taken < 32 << 20, "{taken} bytes were unpacked of a bomb of {} bytes", bomb.len());
    let small = Bounds { file: 1 << 20, ..bounds };
    let refused = read(bomb.as_slice(), &small, &mut |_, piece| match piece.len() {
        0..=2 => Ok(()),
        _ => Err(std::io::Error::other("a byte of what is too large was unpacked")),
    });
    assert!(matches!(refused, Err(PackageError::TooLarge { .. })), "{refused:?}");
    let few = Bounds { total: 60 << 20, ..bounds };
    let refused = read(bomb.as_slice(), &few, &mut |_, _| Ok(()));
    assert!(matches!(refused, Err(PackageError::TooLarge { .. })), "{refused:?}");
}

#[test]
fn sizes_that_do_not_fit_are_refused() {
    let mut header = entry(b"a", EntryType::Regular, 0);
    header.as_old_mut().size = *b"\x80\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff";
    header.set_cksum();
    assert!(matches!(with(header, b""), Err(PackageError::NotCanonical(_))), "binary sizes");
    let large = with(entry(b"a", EntryType::Regular, 0o77_777_777_777), b"");
    assert!(matches!(large, Err(PackageError::TooLarge { .. })), "{large:?}");
    let short = with(entry(b"a", EntryType::Regular, 1 << 20), b"abc");
    assert!(matches!(short, Err(PackageError::Malformed(_))), "{short:?}");
}

#[test]
fn a_million_entries_end_at_the_bound() {
    let file = |number: usize| (entry(format!("f{number:07}").as_bytes(), EntryType::Regular, 0), &b""[..]);
    let count = |files: usize| {
        let all: Vec<_> = std::iter::once(manifest()).chain((1..files).map(file)).collect();
        // Empty files compress well; the bound of the ratio would come first.
        read(
            compressed(&tar(&all)).as_slice(),
            &Bounds { ratio: 1 << 40, ..Bounds::STANDARD },
            &mut |_, _| Ok(()),
        )
    };
    count(4096).expect("control: as many as are allowed");
    assert!(matches!(count(4097), Err(PackageError::TooManyEntries(4096))));
    assert!(matches!(count(100_000), Err(PackageError::TooManyEntries(4096))));
}

#[test]
fn a_manifest_over_its_bound_is_refused_before_it_is_read() {
    let huge = vec![b'['; (1 << 20) + 1];
    let header = entry(b"manifest.json", EntryType::Regular, huge.len() as u64);
    let mut taken = 0;
    let refused =
        read(compressed(&tar(&[(header, &huge)])).as_slice(), &Bounds::STANDARD, &mut |_, piece| {
            taken += piece.len();
            Ok(())
        });
    assert!(matches!(refused, Err(PackageError::TooLarge { .. })), "{refused:?}");
    assert_eq!(taken, 0);
}

#[test]
fn nothing_follows_and_nothing_is_missing() {
    let good = packed(&[("manifest.json", MANIFEST), ("a", b"abc")]).expect("packs");
    opened(&good).expect("control");
    let longer = [&good[..], b"x"].concat();
    assert!(matches!(opened(&longer), Err(PackageError::NotCanonical(_))), "a byte after it");
    let twice = [&good[..], &good[..]].concat();
    assert!(matches!(opened(&twice), Err(PackageError::NotCanonical(_))), "a second member");
    for length in 0..good.len() {
        let refused = opened(&good[..length]);
        assert!(matches!(refused, Err(PackageError::Malformed(_))), "{length} bytes: {refused:?}");
    }
    let mut tar = tar(&[manifest()]);
    tar.resize(tar.len() + 512, 0);
    assert!(
        matches!(opened(&compressed(&tar)), Err(PackageError::NotCanonical(_))),
        "a third block of zeros"
    );
    tar.truncate(1024 + 512);
    assert!(matches!(opened(&compressed(&tar)), Err(PackageError::Malformed(_))), "half an end mark");
    let mut dirty = tar_with_dirty_padding();
    assert!(
        matches!(opened(&compressed(&dirty)), Err(PackageError::NotCanonical(_))),
        "what fills up is not zero"
    );
    dirty[512 + 2] = 0;
    opened(&compressed(&dirty)).expect("control: with zeros it is read");
}

fn tar_with_dirty_padding() -> Vec<u8> {
    let mut tar = tar(&[manifest()]);
    tar[512 + 2] = 1;
    tar
}

#[test]
fn what_is_no_archive_is_refused() {
    let zip = b"PK\x03\x04\x14\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    assert!(matches!(opened(zip), Err(PackageError::Malformed(_))));
    assert!(matches!(opened(b""), Err(PackageError::Malformed(_))));
    let plain = tar(&[manifest()]);
    assert!(matches!(opened(&plain), Err(PackageError::Malformed(_))), "not compressed");
    let mut named = GzBuilder::new().filename("x").write(Vec::new(), Compression::best());
    named.write_all(&plain).expect("compresses");
    let named = named.finish().expect("compresses");
    assert!(matches!(opened(&named), Err(PackageError::NotCanonical(_))), "gzip with a name");
    let good = compressed(&plain);
    opened(&good).expect("control");
    for at in 10..good.len() {
        let mut damaged = good.clone();
        damaged[at] ^= 1;
        opened(&damaged).expect_err("its checksum is another one");
    }
}

#[test]
fn the_writer_refuses_what_the_reader_would() {
    assert!(matches!(packed(&[("a", b"")]), Err(PackageError::NotCanonical(_))), "no manifest");
    let manifest = ("manifest.json", MANIFEST);
    assert!(matches!(packed(&[manifest, ("a", b""), ("A", b"")]), Err(PackageError::Duplicate { .. })));
    let long = "x".repeat(101);
    assert!(matches!(packed(&[manifest, (&long, b"")]), Err(PackageError::BadPath { .. })));
    packed(&[manifest, (&long[1..], b"")]).expect("control: a hundred bytes");
    let grown = [("manifest.json".parse().expect("a path"), 1, MANIFEST)];
    assert!(matches!(write(Vec::new(), grown, &Bounds::STANDARD), Err(PackageError::Io(..))), "it grew");
}
