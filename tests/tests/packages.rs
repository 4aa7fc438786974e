//! Packages in real hosts: what is signed is what runs, what has to be signed is not loaded otherwise, and nothing goes back.
//!
//! What an archive or a signature may look like is tested in `package/tests`.

#![allow(clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking")]

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use hotcell::packages::{Standing, TrustStore};
use hotcell::{Class, Error, Host, InstallOptions, LoadOptions, ReloadError, ReloadOptions};
use hotcell_tests::command::{Said, command, run};
use hotcell_tests::{Folders, fixture};
use serde_json::json;

mod common;

/// The id of the plugin of these tests.
const ID: &str = "dev.hotcell.test.greet";

/// Folders with an author's key in them.
struct Author {
    folders: Folders,
    public: String,
}

impl Author {
    fn new() -> Author {
        let folders = Folders::new();
        let public = key(&folders, "key.pem");
        Author { folders, public }
    }

    /// Trusts the author's key.
    fn trust(&self, plugins: &str) {
        self.must(&["trust", "add", &self.public, "--name", "author", "--for", plugins]);
    }

    fn hotcell(&self, arguments: &[&str]) -> Said {
        run(command(&self.folders).args(arguments))
    }

    fn must(&self, arguments: &[&str]) -> String {
        let said = self.hotcell(arguments);
        assert_eq!(said.code, Some(0), "{arguments:?}: {}", said.err);
        said.out
    }

    /// The greeting plugin of this version as a folder; `tag` makes its files others.
    fn folder(&self, version: &str, tag: &str) -> PathBuf {
        let name = format!("greet-{version}-{tag}");
        let more = json!({ "id": ID, "version": version, "description": tag,
            "permissions": { "host_calls": ["log"] } });
        common::native(&self.folders, &name, "greet/native/greet.so", more)
    }

    /// The same as a file, signed.
    fn signed(&self, version: &str) -> PathBuf {
        let folder = self.folder(version, "signed");
        self.packed(&folder, &["--key", &self.text("key.pem")])
    }

    fn packed(&self, folder: &Path, more: &[&str]) -> PathBuf {
        let file = PathBuf::from(format!("{}.lbplugin", folder.display()));
        let (folder, to) = (folder.display().to_string(), file.display().to_string());
        self.must(&[&["plugin", "package", &folder, "-o", &to], more].concat());
        file
    }

    fn text(&self, name: &str) -> String {
        self.folders.join(name).display().to_string()
    }

    async fn host(&self) -> Host {
        fixture::host(&self.folders).build().await.expect("a host starts")
    }

    async fn strict(&self) -> Host {
        fixture::host(&self.folders).require_signatures().build().await.expect("a host starts")
    }
}

/// Makes a key, and returns its public half.
fn key(folders: &Folders, name: &str) -> String {
    let path = folders.join(name).display().to_string();
    let said = run(command(folders).args(["key", "new", "--no-passphrase", "--key", &path]));
    assert_eq!(said.code, Some(0), "{}", said.err);
    said.out.trim().to_owned()
}

async fn greets(host: &Host, path: &Path) -> Result<(), Error> {
    let plugin = host.load(path).await?;
    let reply = plugin.call_raw("greet", br#"{"name":"you"}"#.to_vec()).await.expect("it greets");
    assert_eq!(reply, br#"{"greeting":"Hello, you!"}"#);
    Ok(())
}

/// Why it is not loaded. The class is that of something that is not permitted.
async fn refusal(host: &Host, path: &Path) -> String {
    let error = greets(host, path).await.expect_err("it must not load");
    assert_eq!(error.class(), Class::Refused, "{error}");
    error.to_string()
}

#[tokio::test]
async fn a_signed_package_runs_where_signatures_are_required_and_no_other_does() {
    let author = Author::new();
    let (signed, unsigned) = (author.signed("1.0.0"), author.folder("1.0.0", "unsigned"));
    let file = author.packed(&unsigned, &["--unsigned"]);
    let host = author.strict().await;
    let unknown = refusal(&host, &signed).await;
    assert!(unknown.contains("not trusted here") && unknown.contains("hotcell trust add"), "{unknown}");
    author.trust("dev.hotcell.*");
    greets(&host, &signed).await.expect("its key is trusted");
    for path in [&unsigned, &file, &hotcell_tests::package("greet/native")] {
        let why = refusal(&host, path).await;
        assert!(why.contains("it is not signed"), "{why}");
    }
    let bare = hotcell_tests::package("greet/native/greet.so");
    assert!(refusal(&host, &bare).await.contains("it is not signed"), "a bare artifact");
    host.shutdown().await;
    let host = author.host().await;
    greets(&host, &bare).await.expect("control: where they are not required, it runs");
    host.shutdown().await;
}

#[tokio::test]
async fn a_profile_or_a_manifest_can_require_signatures() {
    let author = Author::new();
    let strict = common::profile(
        "native-strict",
        "signed-only",
        &[("schema = 1", "schema = 1\nsignature = \"required\"")],
        "",
    );
    let host = fixture::host(&author.folders).profile(strict).build().await.expect("a host starts");
    let package = |name: &str, policy: serde_json::Value| {
        let more = json!({ "security_policy": policy, "permissions": { "host_calls": ["log"] } });
        common::native(&author.folders, name, "greet/native/greet.so", more)
    };
    let by_profile = package("by-profile", json!({ "profile": "signed-only" }));
    let by_manifest =
        package("by-manifest", json!({ "profile": "native-strict", "require_signature": true }));
    let free = package("free", json!({ "profile": "native-strict", "require_signature": false }));
    assert!(refusal(&host, &by_profile).await.contains("its profile requires that"));
    assert!(refusal(&host, &by_manifest).await.contains("its manifest requires that"));
    greets(&host, &free).await.expect("control");
    author.trust("*");
    let key = author.text("key.pem");
    for path in [by_profile, by_manifest] {
        author.must(&["plugin", "sign", &path.display().to_string(), "--key", &key]);
        greets(&host, &path).await.expect("now it is signed, as a folder");
    }
    host.shutdown().await;
}

#[tokio::test]
async fn once_signed_always_signed_and_never_back() {
    let author = Author::new();
    author.trust(ID);
    let (old, new) = (author.signed("1.0.0"), author.signed("1.1.0"));
    let stripped = author.folder("1.2.0", "stripped");
    let host = author.host().await;
    greets(&host, &stripped).await.expect("control: before a version was seen signed, an unsigned one runs");
    greets(&host, &old).await.expect("the first");
    greets(&host, &new).await.expect("the newer one");
    let back = refusal(&host, &old).await;
    assert!(back.contains("1.1.0 of it was seen here") && back.contains("--allow-downgrade"), "{back}");
    assert!(refusal(&host, &stripped).await.contains("a version of it was"));
    let asked = LoadOptions { may_go_back: true, ..LoadOptions::default() };
    host.load_with(&old, asked).await.expect("control: somebody asked for it");
    host.shutdown().await;
    // What was seen is remembered by the next host.
    let host = author.host().await;
    assert!(refusal(&host, &old).await.contains("1.1.0"));
    // HR-10: neither does a reload go back.
    let plugin = host.load(&new).await.expect("loads");
    let options = ReloadOptions { path: Some(old.clone()), ..ReloadOptions::default() };
    match plugin.reload_with(options.clone()).await {
        Err(ReloadError::Start(error)) => assert!(error.to_string().contains("1.1.0"), "{error}"),
        other => panic!("{other:?}"),
    }
    let newest = author.signed("1.3.0");
    let options = ReloadOptions { path: Some(newest), ..options };
    let reloaded = plugin.reload_with(options).await.expect("control: forward it goes");
    assert_eq!((reloaded.from.as_str(), reloaded.to.as_str()), ("1.1.0", "1.3.0"));
    host.shutdown().await;
    author.must(&["plugin", "remove", "--forget", ID]);
    let host = author.host().await;
    greets(&host, &stripped).await.expect("after it was forgotten");
    host.shutdown().await;
}

#[tokio::test]
async fn a_trusted_key_signs_for_its_plugins_only_until_it_is_revoked() {
    let author = Author::new();
    let signed = author.signed("1.0.0");
    author.trust("org.example.*");
    let host = author.host().await;
    assert!(refusal(&host, &signed).await.contains("but not for the plugin"));
    author.must(&["trust", "add", &author.public, "--name", "a", "--for", "*", "--may", "network"]);
    assert!(refusal(&host, &signed).await.contains("may not sign what asks for `native`"));
    author.must(&["trust", "add", &author.public, "--name", "a", "--for", "*", "--may", "native"]);
    greets(&host, &signed).await.expect("control");
    author.must(&["trust", "revoke", &author.public, "--why", "it was stolen"]);
    assert!(refusal(&host, &signed).await.contains("it was stolen"), "a revocation holds for hosts that run");
    author.must(&["trust", "remove", &author.public]);
    author.trust("*");
    greets(&host, &signed).await.expect("control: trusted again");
    let digest = host.packages().verify(&signed).expect("verifies").digest();
    author.must(&["trust", "revoke", "--package", &hotcell::packages::hex(&digest), "--why", "a hole"]);
    assert!(refusal(&host, &signed).await.contains("a hole"));
    let folder = author.folders.join("greet-1.0.0-signed");
    assert!(refusal(&host, &folder).await.contains("a hole"), "the same files as a folder");
    host.shutdown().await;
}

#[tokio::test]
async fn what_was_changed_after_it_was_signed_is_refused_signed_keys_or_not() {
    let author = Author::new();
    let folder = author.folder("1.0.0", "folder");
    author.must(&["plugin", "sign", &folder.display().to_string(), "--key", &author.text("key.pem")]);
    let host = author.host().await;
    greets(&host, &folder).await.expect("control: signed by a key that nobody knows");
    std::fs::write(folder.join("lib2.so"), "x").expect("writable");
    assert!(refusal(&host, &folder).await.contains("lib2.so"));
    std::fs::remove_file(folder.join("lib2.so")).expect("writable");
    let manifest = folder.join("manifest.json");
    let text = std::fs::read_to_string(&manifest).expect("readable");
    std::fs::write(&manifest, text.replace("1.0.0", "1.0.1")).expect("writable");
    assert!(refusal(&host, &folder).await.contains("manifest.json"));
    std::fs::write(&manifest, text).expect("writable");
    std::fs::write(folder.join("plugin.so"), "\x7fELF").expect("writable");
    assert!(refusal(&host, &folder).await.contains("plugin.so"));
    host.shutdown().await;
}

#[tokio::test]
async fn what_is_installed_is_kept_whole_listed_rolled_back_and_removed() {
    let author = Author::new();
    author.trust(ID);
    let files = ["1.0.0", "1.1.0"].map(|version| author.signed(version));
    let [old, new] = files.each_ref().map(|file| file.display().to_string());
    assert!(author.hotcell(&["plugin", "update", &old]).err.contains("not installed"));
    author.must(&["plugin", "install", &old]);
    let host = author.host().await;
    let installed = PathBuf::from(format!("@{ID}"));
    greets(&host, &installed).await.expect("it is installed");
    let running = host.load(&installed).await.expect("loads");
    author.must(&["plugin", "update", &new]);
    assert_eq!(running.reload().await.expect("the path leads to the new one").to, "1.1.0");
    let again = author.hotcell(&["plugin", "install", &old]);
    assert_eq!(again.code, Some(3), "{}", again.err);
    let listed: serde_json::Value =
        serde_json::from_str(&author.must(&["plugin", "list", "--json"])).expect("JSON");
    assert_eq!(listed[0]["current"]["version"], "1.1.0");
    assert_eq!(listed[0]["before"][0]["version"], "1.0.0");
    assert_eq!(listed[0]["current"]["signers"][0], "author");
    author.must(&["plugin", "rollback", ID]);
    greets(&host, &installed).await.expect("rolled back, it is the older one that somebody asked for");
    assert!(author.hotcell(&["plugin", "rollback", ID]).err.contains("no version to go back to"));
    let other = author.packed(&author.folder("1.1.0", "other files"), &["--key", &author.text("key.pem")]);
    author.must(&["plugin", "install", &new]);
    let same = author.hotcell(&["plugin", "install", &other.display().to_string()]);
    assert!(same.code == Some(3) && same.err.contains("raise `version`"), "{}", same.err);
    author.must(&["plugin", "remove", ID]);
    let gone = greets(&host, &installed).await.expect_err("it was removed").to_string();
    assert!(gone.contains("no plugin of this id is installed"), "{gone}");
    let packages = author.folders.join("state/packages");
    let left: Vec<_> =
        std::fs::read_dir(packages).expect("listable").flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(left, ["lock"], "nothing of it is left");
    assert!(author.hotcell(&["plugin", "list"]).out.is_empty());
    for id in ["..", "../..", "a/b", "/", ""] {
        assert_eq!(author.hotcell(&["plugin", "remove", id]).code, Some(2), "{id:?} is no id");
    }
    host.shutdown().await;
}

#[tokio::test]
async fn a_package_in_the_store_that_is_changed_is_not_loaded() {
    let author = Author::new();
    author.trust(ID);
    let signed = author.signed("1.0.0");
    author.must(&["plugin", "install", &signed.display().to_string()]);
    let host = author.host().await;
    let installed = PathBuf::from(format!("@{ID}"));
    greets(&host, &installed).await.expect("control");
    let digest = host.packages().list().expect("lists")[0].current.digest.clone();
    let folder = author.folders.join("state/packages").join(digest);
    let mode = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("own")
    };
    let file = folder.join("plugin.so");
    for (path, expected) in [(&folder, 0o555), (&file, 0o444)] {
        let facts = std::fs::metadata(path).expect("there");
        assert_eq!(facts.permissions().mode() & 0o777, expected, "{}", path.display());
    }
    let whole = std::fs::read(&file).expect("readable");
    mode(&file, 0o644);
    std::fs::write(&file, "x").expect("writable by its owner");
    let error = greets(&host, &installed).await.expect_err("changed").to_string();
    assert!(error.contains("not those that were verified"), "{error}");
    greets(&host, &signed).await.expect("from the file it is laid down anew");
    greets(&host, &installed).await.expect("and whole again");
    assert_eq!(std::fs::read(&file).expect("readable"), whole);
    let store = author.folders.join("state/packages");
    mode(&store, 0o777);
    let error = greets(&host, &installed).await.expect_err("anybody can write there").to_string();
    assert!(error.contains("nobody but root and this user"), "{error}");
    host.shutdown().await;
}

#[test]
fn a_package_that_is_swapped_while_it_is_installed_is_the_signed_one_or_none() {
    let author = Author::new();
    author.trust(ID);
    let signed = author.signed("1.0.0");
    let forged = author.packed(&author.folder("1.0.0", "forged"), &["--unsigned"]);
    let packages = fixture::host(&author.folders).require_signatures().packages().expect("a home");
    let genuine = packages.verify(&signed).expect("verifies").digest();
    let (place, next) = (author.folders.join("swapped.lbplugin"), author.folders.join("next"));
    let put = |file: &Path| {
        std::fs::copy(file, &next).expect("copies");
        std::fs::rename(&next, &place).expect("renames");
    };
    put(&forged);
    packages.install(&place, InstallOptions::default()).expect_err("control: the forged one is refused");
    let outcomes = std::thread::scope(|scope| {
        let swapping = scope.spawn(|| (0..2000).for_each(|turn| put([&signed, &forged][turn % 2])));
        let mut outcomes = Vec::new();
        while !swapping.is_finished() {
            outcomes.push(packages.install(&place, InstallOptions::default()));
        }
        outcomes
    });
    let (installed, refused): (Vec<_>, Vec<_>) = outcomes.into_iter().partition(Result::is_ok);
    for plugin in installed.iter().flatten() {
        assert_eq!(plugin.current.digest, hotcell::packages::hex(&genuine));
    }
    for error in refused.iter().filter_map(|outcome| outcome.as_ref().err()) {
        assert_eq!(error.class(), Class::Refused, "{error}");
    }
    let (installed, refused) = (installed.len(), refused.len());
    assert!(installed > 0 && refused > 0, "both were met: {installed} were installed, {refused} refused");
}

#[test]
fn the_trust_store_is_believed_only_where_nobody_else_can_write_it() {
    let author = Author::new();
    author.trust(ID);
    let signed = author.signed("1.0.0");
    let packages = fixture::host(&author.folders).packages().expect("a home");
    let standing = packages.verify(&signed).expect("verifies").standing;
    assert!(matches!(standing, Standing::Trusted(_)), "control: {standing:?}");
    let file = author.folders.join("state/trust.json");
    let mode = |mode| std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).expect("own");
    mode(0o666);
    let error = packages.verify(&signed).expect_err("others can write it").to_string();
    assert!(error.contains("only root or this user can write"), "{error}");
    mode(0o644);
    std::fs::write(&file, "{}").expect("writable");
    packages.verify(&signed).expect_err("it is none");
    std::fs::write(&file, TrustStore::default().to_string()).expect("writable");
    let standing = packages.verify(&signed).expect("verifies").standing;
    assert!(matches!(standing, Standing::Unknown(_)), "{standing:?}");
}

#[test]
fn keys_are_private_encrypted_or_somewhere_else() {
    let author = Author::new();
    let (pem, secret) = (author.text("key.pem"), author.text("passphrase"));
    let mode = |path: &str, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("own");
    };
    assert_eq!(std::fs::metadata(&pem).expect("there").permissions().mode() & 0o777, 0o600);
    mode(&pem, 0o644);
    let open = author.hotcell(&["key", "show", "--key", &pem]);
    assert!(open.code == Some(2) && open.err.contains("chmod 600"), "{}", open.err);
    let again = author.hotcell(&["key", "new", "--no-passphrase", "--key", &pem]);
    assert_eq!(again.code, Some(2), "a key is never written over");
    std::fs::write(&secret, "open sesame\n").expect("writable");
    mode(&secret, 0o600);
    let encrypted = author.text("encrypted.pem");
    let public = author.must(&["key", "new", "--key", &encrypted, "--passphrase-file", &secret]);
    assert!(std::fs::read_to_string(&encrypted).expect("readable").contains("ENCRYPTED"));
    assert_eq!(author.must(&["key", "show", "--key", &encrypted, "--passphrase-file", &secret]), public);
    std::fs::write(&secret, "open barley\n").expect("writable");
    let wrong = author.hotcell(&["key", "show", "--key", &encrypted, "--passphrase-file", &secret]);
    assert!(wrong.code == Some(2) && wrong.err.contains("passphrase"), "{}", wrong.err);
    let nobody = author.hotcell(&["key", "new", "--key", &author.text("third.pem")]);
    assert!(nobody.code == Some(2) && nobody.err.contains("--no-passphrase"), "{}", nobody.err);
}

#[tokio::test]
async fn a_signature_that_another_program_made_counts() {
    let author = Author::new();
    let pem = author.text("openssl.pem");
    let openssl = |arguments: &[&str]| {
        let done = std::process::Command::new("openssl").args(arguments).output();
        let done = done.expect("openssl is installed");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    };
    openssl(&["genpkey", "-algorithm", "ed25519", "-out", &pem]);
    std::fs::set_permissions(&pem, std::fs::Permissions::from_mode(0o600)).expect("own");
    let public = author.must(&["key", "show", "--key", &pem]).trim().to_owned();
    author.must(&["trust", "add", &public, "--name", "elsewhere", "--for", ID]);
    let file = author.packed(&author.folder("1.0.0", "elsewhere"), &["--unsigned"]);
    let plugin = file.display().to_string();
    let more = ["--public-key", public.as_str(), "--expires", "2099-12-31"];
    let statement = author.must(&[&["plugin", "sign", &plugin, "--statement"][..], &more].concat());
    assert!(
        statement.contains("plugin.so") && statement.contains("expires 2099-12-31T00:00:00Z"),
        "{statement}"
    );
    std::fs::write(author.folders.join("statement"), &statement).expect("writable");
    let (from, to) = (author.text("statement"), author.text("signature"));
    openssl(&["pkeyutl", "-sign", "-rawin", "-inkey", &pem, "-in", &from, "-out", &to]);
    let later = ["--public-key", public.as_str(), "--expires", "2099-12-30"];
    let wrong = author.hotcell(&[&["plugin", "sign", &plugin, "--attach", &to][..], &later].concat());
    assert_eq!(wrong.code, Some(2), "control: it was signed with another time");
    author.must(&[&["plugin", "sign", &plugin, "--attach", &to][..], &more].concat());
    let key = author.text("key.pem");
    author.must(&["plugin", "sign", &plugin, "--key", &key]);
    let host = author.strict().await;
    greets(&host, &file).await.expect("it is signed by both");
    let second = self::key(&author.folders, "second.pem");
    author.must(&["plugin", "sign", &plugin, "--key", &author.text("second.pem")]);
    greets(&host, &file).await.expect("the same files, signed once more");
    let digest = hotcell::packages::hex(&host.packages().verify(&file).expect("verifies").digest());
    let kept = author.folders.join("state/packages").join(digest).join("signatures.json");
    let text = std::fs::read_to_string(kept).expect("readable");
    assert!(text.contains(&second), "what lies in the store has the new signature: {text}");
    author.must(&["trust", "remove", &public]);
    assert!(refusal(&host, &file).await.contains("not trusted here"), "of three, none is trusted any more");
    author.must(&["trust", "add", &public, "--name", "elsewhere", "--for", ID]);
    let verified: serde_json::Value =
        serde_json::from_str(&author.must(&["plugin", "verify", &plugin, "--json"])).expect("JSON");
    assert_eq!(verified["signatures"].as_array().map(Vec::len), Some(3));
    host.shutdown().await;
}

#[test]
fn a_package_is_the_same_each_time_and_says_what_it_may_do() {
    let author = Author::new();
    let folder = author.folder("1.0.0", "same");
    let first = std::fs::read(author.packed(&folder, &["--key", &author.text("key.pem")])).expect("readable");
    let copy = author.folders.join("copy");
    std::fs::create_dir(&copy).expect("new");
    for name in ["plugin.so", "manifest.json"] {
        std::fs::copy(folder.join(name), copy.join(name)).expect("copies");
    }
    let file = author.packed(&copy, &["--key", &author.text("key.pem")]);
    assert!(std::fs::read(&file).expect("readable") == first, "another folder, later: the same bytes");
    let plugin = file.display().to_string();
    let words = author.must(&["plugin", "inspect", &plugin]);
    for part in ["machine code", "call the application: log", "not trusted here", "native-strict"] {
        assert!(words.contains(part), "{part}: {words}");
    }
    let missing = author.folder("2.0.0", "missing");
    std::fs::remove_file(missing.join("plugin.so")).expect("writable");
    let said = author.hotcell(&["plugin", "package", &missing.display().to_string(), "--unsigned"]);
    assert!(said.code == Some(2) && said.err.contains("build it first"), "{}", said.err);
    std::os::unix::fs::symlink("/etc/passwd", folder.join("link")).expect("links");
    let said = author.hotcell(&["plugin", "package", &folder.display().to_string(), "--unsigned"]);
    assert!(said.code == Some(2) && said.err.contains("symbolic link"), "{}", said.err);
    std::fs::write(author.folders.join("no.lbplugin"), "PK\x03\x04").expect("writable");
    let said = author.hotcell(&["plugin", "install", &author.text("no.lbplugin")]);
    assert!(said.code == Some(2) && said.err.contains("not a package"), "{}", said.err);
}
