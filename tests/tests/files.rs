//! Files of native plugins: what is granted can be reached, one step outside nothing can, and the bounds of files hold.

#![allow(clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};

use hotcell::{CallError, Class, ExitCause, Host, Limit, LoadOptions, Mechanism, Plugin};
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

/// A native plugin is not told where its folders are: it needs no more than relative paths.
#[tokio::test]
async fn relative_paths_are_in_the_folder_that_the_manifest_names() {
    let folders = Folders::new();
    let profile = common::native_files(&folders, "1 MiB");
    let host = fixture::host(&folders).profile(profile).build().await.expect("a host starts");
    let path = common::filer(&folders);
    let manifest = std::fs::read_to_string(path.join("manifest.json")).expect("readable");
    let rooted = manifest.replace("\"create_files\":true", "\"create_files\":true,\"root\":\"${data}\"");
    assert_ne!(rooted, manifest);
    let note = format!("{} -100 s:note {O_CREATE} 0x180\n{} $1 x:6869 2", libc::SYS_openat, libc::SYS_write);
    let up = format!("{} -100 s:../../uids 0x80000", libc::SYS_openat);
    for (manifest, written, said) in [(rooted, "2 0", true), (manifest, "-1 9", false)] {
        std::fs::write(path.join("manifest.json"), manifest).expect("writable");
        let plugin = host.load(&path).await.unwrap_or_else(|error| panic!("{error}"));
        let reply = plugin.call_raw("try_syscall", note.clone().into_bytes()).await.expect("a reply");
        let reply = String::from_utf8(reply).expect("text");
        assert_eq!(reply.lines().nth(1), Some(written), "{reply}");
        let kept = folders.join("state").join("data").join("dev.hotcell.test.filer").join("note");
        assert_eq!(std::fs::read(&kept).ok(), said.then(|| b"hi".to_vec()));
        let outside = plugin.call_raw("try_syscall", up.clone().into_bytes()).await.expect("a reply");
        assert!(outside.starts_with(b"-1 "), "{outside:?}");
        plugin.unload().await;
        // It is the control's that none is there.
        let _ = std::fs::remove_file(kept);
    }
    host.shutdown().await;
}

/// What newfstatat(2) says of a path in a worker of the lab: `0`, or the errno.
async fn stat(plugin: &Plugin, path: &Path) -> String {
    let line = format!("{} -100 s:{} z:144 0", libc::SYS_newfstatat, path.display());
    let said = plugin.call_raw("try_syscall", line.into_bytes()).await.expect("a reply");
    let said = String::from_utf8(said).expect("text");
    let (result, errno) = said.trim().split_once(' ').expect("a result and an errno");
    if result == "0" { "0".to_owned() } else { errno.to_owned() }
}

#[tokio::test]
async fn in_a_file_tree_of_its_own_a_native_plugin_finds_what_is_granted_and_nothing_else() {
    let absent = libc::ENOENT.to_string();
    // Landlock alone says nothing of metadata: the control.
    let open = Filer::new("1 MiB").await;
    for path in ["/etc/passwd".into(), open.folders.join("beside/text"), open.folders.join("beside")] {
        assert_eq!(stat(&open.plugin, &path).await, "0", "{}", path.display());
    }
    open.finish().await;

    let folders = Folders::new();
    let single = folders.join("single");
    std::fs::write(&single, "single").expect("writable");
    let text = common::native_files(&folders, "1 MiB").text().to_owned();
    let text = text.replacen("\"network\", \"uts\"]", "\"network\", \"uts\", \"mount\"]", 1);
    let grant =
        format!("\n[[file]]\npath = \"{}\"\naccess = \"read\"\nwhy = \"One file.\"\n", single.display());
    let hidden = hotcell::policy::Profile::parse("native-files.toml", &(text + &grant)).expect("a profile");
    let host = fixture::host(&folders).profile(hidden).build().await.expect("a host starts");
    let path = common::filer(&folders);
    let manifest = std::fs::read_to_string(path.join("manifest.json")).expect("readable");
    let granted = folders.join("granted").display().to_string();
    let both =
        manifest.replace(&format!("\"{granted}\""), &format!("\"{granted}\", \"{}\"", single.display()));
    assert_ne!(both, manifest, "it asks for the single file, too");
    std::fs::write(path.join("manifest.json"), both).expect("writable");
    let plugin = host.load(&path).await.unwrap_or_else(|error| panic!("{error}"));
    let filer = Filer { host, folders, plugin };

    for path in
        [filer.folders.join("granted"), filer.folders.join("granted/text"), single.clone(), filer.data()]
    {
        assert_eq!(stat(&filer.plugin, &path).await, "0", "{}", path.display());
    }
    assert_eq!(filer.read(&filer.folders.join("granted/text")).await.expect("it is granted"), b"granted");
    assert_eq!(filer.read(&single).await.expect("it is granted"), b"single");
    assert_eq!(filer.write("file", 8).await.expect("it is granted"), "8 0");
    assert_eq!(std::fs::read(filer.data().join("file")).expect("the host may read it"), [0; 8]);
    let others = ["/etc/passwd", "/usr", "/proc/self/status", "/proc/1", "/dev/null", "/sys"];
    let beside = ["beside", "beside/text", "filer/manifest.json"].map(|name| filer.folders.join(name));
    for path in others.iter().map(PathBuf::from).chain(beside) {
        assert!(path.exists(), "{}", path.display());
        assert_eq!(stat(&filer.plugin, &path).await, absent, "{}", path.display());
    }
    // What is granted for reading is mounted so, and Landlock refuses it, too.
    let line = format!("{} -100 s:{granted}/new {O_CREATE} 0x180", libc::SYS_openat);
    let said = filer.plugin.call_raw("try_syscall", line.into_bytes()).await.expect("a reply");
    let said = String::from_utf8(said).expect("text");
    assert!([libc::EACCES, libc::EROFS].iter().any(|errno| said.trim() == format!("-1 {errno}")), "{said}");
    assert!(!filer.folders.join("granted/new").exists());
    filer.finish().await;
}

/// A folder that may be read, with the plugin's own in it, which may be written: whichever is granted first.
#[tokio::test]
async fn in_a_file_tree_of_its_own_a_granted_folder_may_lie_in_another() {
    let folders = Folders::new();
    let all = folders.join("").display().to_string().trim_end_matches('/').to_owned();
    let grant = format!("\n[[file]]\npath = \"{all}\"\naccess = \"read\"\nwhy = \"All of the test's.\"\n");
    let text = common::native_files(&folders, "1 MiB").text().to_owned();
    let text = text.replacen("\"network\", \"uts\"]", "\"network\", \"uts\", \"mount\"]", 1);
    let nested = hotcell::policy::Profile::parse("native-files.toml", &(text + &grant)).expect("a profile");
    let host = fixture::host(&folders).profile(nested).build().await.expect("a host starts");
    let path = common::filer(&folders);
    let manifest = std::fs::read_to_string(path.join("manifest.json")).expect("readable");
    std::fs::write(path.join("manifest.json"), manifest.replace("/granted\"", "\"")).expect("writable");
    let plugin = host.load(&path).await.unwrap_or_else(|error| panic!("{error}"));
    let filer = Filer { host, folders, plugin };
    assert_eq!(filer.read(&filer.folders.join("beside/text")).await.expect("it is granted"), b"beside");
    assert_eq!(filer.write("file", 8).await.expect("it is granted"), "8 0");
    assert_eq!(std::fs::read(filer.data().join("file")).expect("the host may read it"), [0; 8]);
    filer.finish().await;
}

#[tokio::test]
async fn a_command_runs_in_a_file_tree_of_its_own() {
    let folders = Folders::new();
    std::fs::create_dir(folders.join("text")).expect("the folder is new");
    let text = folders.join("text").join("words");
    std::fs::write(&text, "one two three\n").expect("writable");
    let folder = folders.join("text").display().to_string();
    let grant = format!("\n[[file]]\npath = \"{folder}\"\naccess = \"read\"\nwhy = \"The test's words.\"\n");
    let namespaces = [("landlock = 3", "landlock = 3\nnamespaces = [\"mount\"]")];
    let profile = common::profile("wasi-command", "hidden", &namespaces, &grant);
    let host = fixture::host(&folders).profile(profile).build().await.expect("a host starts");
    let path = folders.join("counts");
    std::fs::create_dir(&path).expect("the folder is new");
    std::fs::copy(package("wordcount/wordcount.wasm"), path.join("plugin.wasm")).expect("it is built");
    let manifest = json!({
        "schema": 1, "id": "dev.hotcell.test.counts", "name": "counts", "version": "0.1.0",
        "plugin_type": "wasm", "wasm_path": "plugin.wasm", "runtime": "command",
        "permissions": { "filesystem": { "read_paths": [folder] } },
        "security_policy": { "profile": "hidden" },
    });
    std::fs::write(path.join("manifest.json"), manifest.to_string()).expect("writable");
    let plugin =
        host.load_with(&path, LoadOptions::command()).await.unwrap_or_else(|error| panic!("{error}"));
    let run = |file: &Path| plugin.command().arguments([file.display().to_string()]).run();
    assert_eq!(run(&text).await.expect("it ends"), 0);
    assert_ne!(run(&folders.join("counts/manifest.json")).await.expect("it ends"), 0, "not granted");
    host.shutdown().await;
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
