//! What the documents show is run.

#![allow(clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking")]

use std::process::Command;

use hotcell_tests::{Folders, fixture, root};

#[test]
fn the_embedding_example_runs() {
    let folders = Folders::new();
    let output = Command::new(fixture::programs().join("examples/embed"))
        .arg(folders.join("embed"))
        .current_dir(root())
        .output()
        .expect("the example is built");
    let out = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{out}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(out.contains("Hello, Ada!"), "{out}");
}
