//! Files of native plugins: what is granted can be reached, one step outside nothing can, and the bounds of files hold.

#![allow(clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};

use hotcell::{CallError, Class, ExitCause, Host, Limit, Mechanism, Plugin};
use hotcell_tests::{Folders, fixture, package};
use serde_json::json;

mod common;

const O_CREATE: u32 = 0x80042;

struct Filer {
    host: Host,
    folders: Folders,
    plugin: Plugin,
}

impl Filer {
    async fn new(disk: &str) -> Filer {
        let folders = Folders::new();
        let profile = common::native_files(&folders, disk);
        let host = fixture::host(&folders).profile(profile).build().await.expect("a host starts");
        let path = common::filer(&folders);
        let plugin = host.load(path).await.unwrap_or_else(|error| panic!("{error}"));
        Filer { host, folders, plugin }
    }

    async fn read(&self, path: &Path) -> Result<Vec<u8>, CallError> {
        self.plugin.call_raw("read_file", path.display().to_string().into_bytes()).await
    }

    fn data(&self) -> PathBuf {
        self.folders.join("state").join("data").join("dev.hotcell.test.filer")
    }

    /// Makes a file of some bytes, in the plugin; what write(2) said.
    async fn write(&self, name: &str, bytes: usize) -> Result<String, CallError> {
        let path = self.data().join(name);
        let lines = [
            format!("{} -100 s:{} {O_CREATE} 0x180", libc::SYS_openat, path.display()),
            format!("{} $1 z:{bytes} {bytes}", libc::SYS_write),
            format!("{} $1", libc::SYS_close),
        ];
        let said = self.plugin.call_raw("try_syscall", lines.join("\n").into_bytes()).await?;
        let said = String::from_utf8(said).expect("text");
        Ok(said.lines().nth(1).expect("three lines").to_owned())
    }

    /// Makes files until the plugin is ended for it, which must come.
    async fn fill(&self, bytes: usize) -> CallError {
        for number in 0_u32.. {
            match self.write(&number.to_string(), bytes).await {
                Ok(said) => assert_eq!(said, format!("{bytes} 0")),
                Err(error) => return error,
            }
        }
        unreachable!("the numbers do not end")
    }

    async fn finish(self) {
        self.host.shutdown().await;
    }
}

/// That a worker was ended for what its files take, in a call, or between calls, which the next one sees.
fn must_be_full(error: &CallError) {
    let text = error.to_string();
    assert!(text.contains("of `disk` (disk limit)"), "{text}");
    assert_eq!(error.class(), Class::Resource, "{text}");
    if let CallError::Crashed(exit) = error {
        assert!(matches!(exit.cause, ExitCause::DiskFull(_)), "{text}");
        assert_eq!((exit.limit, exit.mechanism), (Some(Limit::Disk), Some(Mechanism::Host)), "{text}");
    }
}

#[tokio::test]
async fn a_granted_path_is_read_and_the_one_beside_it_is_not() {
    let filer = Filer::new("1 MiB").await;
    let granted = filer.read(&filer.folders.join("granted/text")).await;
    assert_eq!(granted.expect("it is granted"), b"granted");
    for outside in ["beside/text", "granted/../beside/text"] {
        let path = filer.folders.join(outside);
        assert!(std::fs::read(&path).is_ok(), "everybody else may read it");
        match filer.read(&path).await {
            Err(CallError::Plugin(text)) => assert_eq!(text, "open: EACCES", "{outside}"),
            other => panic!("{outside}: {other:?}"),
        }
    }
    assert_eq!(filer.write("file", 8).await.expect("it is granted"), "8 0");
    assert_eq!(std::fs::read(filer.data().join("file")).expect("the host may read it"), [0; 8]);
    filer.finish().await;
}

#[tokio::test]
async fn large_files_end_a_worker_that_holds_more_than_its_disk() {
    let filer = Filer::new("2 MiB").await;
    must_be_full(&filer.fill(32 * 1024).await);
    // It is still full: whoever starts next is ended, too, until somebody makes room.
    must_be_full(&filer.fill(0).await);
    for file in std::fs::read_dir(filer.data()).expect("the host may list it").flatten() {
        std::fs::remove_file(file.path()).expect("the host may remove it");
    }
    // After starts that failed, the next one waits a moment.
    let written = loop {
        match filer.write("file", 8).await {
            Err(CallError::Down { .. }) => tokio::task::yield_now().await,
            written => break written,
        }
    };
    assert_eq!(written.expect("there is room"), "8 0");
    filer.finish().await;
}

#[tokio::test]
async fn many_empty_files_are_bounded_by_the_disk_too() {
    let filer = Filer::new("256 KiB").await;
    must_be_full(&filer.fill(0).await);
    filer.finish().await;
}

#[tokio::test]
async fn a_file_ends_at_its_largest_size() {
    let filer = Filer::new("8 MiB").await;
    let path = filer.data().join("file");
    let script = |at: u64| {
        let open = format!("{} -100 s:{} {O_CREATE} 0x180", libc::SYS_openat, path.display());
        format!("{open}\n{} $1 x:00 1 {at}", libc::SYS_pwrite64).into_bytes()
    };
    let within = filer.plugin.call_raw("try_syscall", script((1 << 20) - 1)).await.expect("within");
    assert!(within.ends_with(b"\n1 0\n"), "{within:?}");
    // The kernel sends SIGXFSZ; who ignores that gets EFBIG.
    match filer.plugin.call_raw("try_syscall", script(1 << 20)).await {
        Err(CallError::Crashed(exit)) => assert_eq!(exit.limit, Some(Limit::FileSize), "{exit}"),
        other => panic!("{other:?}"),
    }
    filer.finish().await;
}

/// What a call of the notebook's `read_file` says, in words.
async fn said(plugin: &Plugin, path: &Path) -> Result<String, String> {
    let read = plugin.call_raw("read_file", path.display().to_string().into_bytes()).await;
    read.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).map_err(|error| error.to_string())
}

#[tokio::test]
async fn test_plugin_sandbox_isolation() {
    const SECRET: &str = "/etc/passwd";
    let secret = std::fs::read_to_string(SECRET).expect("everybody else may read it");
    let folders = Folders::new();
    let reads = common::profile(
        "native-strict",
        "native-reads",
        &[("\"native-load\"]", "\"native-load\", \"files-read\"]"), ("landlock = 1", "landlock = 3")],
        "\n[[file]]\npath = \"${plugin}\"\naccess = \"read\"\nwhy = \"The test's.\"\n",
    );
    let lends = common::profile(
        "pure-compute",
        "lends-files",
        &[],
        "\n[[host-call]]\nname = \"file.read\"\nwhy = \"The test's.\"\n",
    );
    let builder =
        fixture::host(&folders).profile(reads).profile(lends).host_call("file.read", async |_, path| {
            let path = String::from_utf8(path).map_err(|error| error.to_string())?;
            std::fs::read(path).map_err(|error| error.to_string())
        });
    let host = builder.build().await.expect("a host starts");

    // Native: it reads its own package, where the kernel is asked for the path, and nothing else.
    let more = json!({
        "security_policy": { "profile": "native-reads" },
        "permissions": { "filesystem": { "read_paths": ["${plugin}"] } },
    });
    let path = common::native(&folders, "reader", "notebook/native/notebook.so", more);
    let native = host.load(&path).await.unwrap_or_else(|error| panic!("{error}"));
    let denied = said(&native, Path::new(SECRET)).await.expect_err("nobody granted it");
    assert!(denied.contains("Permission denied"), "{denied}");
    let own = said(&native, &path.join("manifest.json")).await.expect("control: what is granted is read");
    assert!(own.contains("dev.hotcell.test.reader"), "{own}");

    // Wasm: it has no system to ask, and the host lends nothing that was not granted.
    let wasm = |name: &str, more: serde_json::Value| {
        let folder = folders.join(name);
        std::fs::create_dir(&folder).expect("the folder is new");
        std::fs::copy(package("notebook/core/notebook.wasm"), folder.join("plugin.wasm"))
            .expect("it is built");
        let mut manifest = json!({
            "schema": 1, "id": format!("dev.hotcell.test.{name}"), "name": name, "version": "0.1.0",
            "plugin_type": "wasm", "wasm_path": "plugin.wasm", "runtime": "core",
        });
        for (key, value) in more.as_object().expect("a table") {
            manifest[key] = value.clone();
        }
        std::fs::write(folder.join("manifest.json"), manifest.to_string()).expect("writable");
        folder
    };
    let minimal = host.load(wasm("minimal", json!({}))).await.unwrap_or_else(|error| panic!("{error}"));
    let denied = said(&minimal, Path::new(SECRET)).await.expect_err("nobody granted it");
    assert!(denied.contains("Permission denied"), "{denied}");
    let granted = json!({
        "permissions": { "host_calls": ["file.read"] },
        "security_policy": { "profile": "lends-files" },
    });
    let lent = host.load(wasm("lent", granted)).await.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(said(&lent, Path::new(SECRET)).await, Ok(secret), "control: with the grant");
    host.shutdown().await;
}
