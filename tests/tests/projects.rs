//! An author's project, made, built, tested and changed by the command; and what the command says to a beginner's mistakes.
//!
//! In C, whose tools every user has; scripts/templates does the same for each template.

#![allow(clippy::panic, reason = "a test fails by panicking")]

use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use hotcell_tests::Folders;
use hotcell_tests::command::{Said, command, run};

/// How long a build and a reload may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

struct Project {
    folders: Folders,
    path: PathBuf,
}

impl Project {
    fn new(kind: &str, lang: &str) -> Project {
        let folders = Folders::new();
        let path = folders.join("greeter");
        let project = Project { folders, path };
        let said = project.hotcell(&[
            "plugin",
            "create",
            "--name",
            "greeter",
            "--type",
            kind,
            "--lang",
            lang,
            &project.text(),
        ]);
        assert_eq!(said.code, Some(0), "{}", said.err);
        project
    }

    fn text(&self) -> String {
        self.path.display().to_string()
    }

    fn hotcell(&self, arguments: &[&str]) -> Said {
        run(command(&self.folders).args(arguments))
    }

    fn test(&self) -> Said {
        self.hotcell(&["plugin", "test", &self.text()])
    }

    /// Replaces a text in a file of the project.
    fn edit(&self, file: &str, from: &str, to: &str) {
        let path = self.path.join(file);
        let text = std::fs::read_to_string(&path).expect("it is there");
        assert!(text.contains(from), "{file} has {from}");
        std::fs::write(path, text.replace(from, to)).expect("writable");
    }

    /// Fails with code 2 and says each of these.
    fn must_say(&self, texts: &[&str]) {
        let said = self.test();
        assert_eq!(said.code, Some(2), "{}", said.err);
        texts.iter().for_each(|text| assert!(said.err.contains(text), "{text}: {}", said.err));
    }
}

#[test]
fn a_new_project_passes_its_own_test_and_a_wrong_reply_does_not() {
    for kind in ["native", "wasm", "command"] {
        let project = Project::new(kind, "c");
        let said = project.test();
        assert!(
            said.code == Some(0) && said.out.contains(" passed, 0 failed"),
            "{kind}: {}{}",
            said.out,
            said.err
        );
        let source = if kind == "command" { "src/main.c" } else { "src/plugin.c" };
        project.edit(source, "Hello, ", "Hullo, ");
        let said = project.test();
        assert!(said.code == Some(1) && said.out.contains("FAILED"), "{kind}: {}{}", said.out, said.err);
    }
    let folders = Folders::new();
    let twice = |name: &str| {
        let arguments = ["plugin", "create", "--name", name, "--type", "native", "--lang", "c"];
        run(command(&folders).args(arguments).arg(folders.join("p"))).code
    };
    assert_eq!((twice("a"), twice("a")), (Some(0), Some(2)), "a folder that is there is not written over");
    for name in ["A", "a b", "a.b", "-a", "../a", ""] {
        assert_eq!(twice(name), Some(2), "{name:?}");
    }
}

#[test]
fn a_beginners_mistakes_are_answered_with_what_to_do() {
    let project = Project::new("native", "c");
    assert_eq!(project.test().code, Some(0), "control");
    project.edit("hotcell.toml", "from = \"target/", "from = \"target/no/");
    project.must_say(&["the build left no", "crate-type"]);
    project.edit("hotcell.toml", "from = \"target/no/", "from = \"target/");
    project.edit("hotcell.toml", "\"cc\"", "\"no-such-compiler\"");
    project.must_say(&["install no-such-compiler", "hotcell.toml"]);
    project.edit("hotcell.toml", "\"no-such-compiler\"", "\"cc\"");
    project.edit("hotcell.toml", "reply = ", "repply = ");
    project.must_say(&["repply", "hotcell.toml"]);
    project.edit("hotcell.toml", "repply = ", "reply = ");
    project.edit("package/manifest.json", "\"name\": \"greet\"", "\"name\": \"welcome\"");
    project.must_say(&["welcome"]);
    project.edit("package/manifest.json", "\"name\": \"welcome\"", "\"name\": \"greet\"");
    // A permission that was not asked for.
    project.edit(
        "src/plugin.c",
        "    static uint8_t reply",
        "    hotcell_log(\"info\", \"hello\");\n    static uint8_t reply",
    );
    let said = project.test();
    assert!(said.out.contains("refused: ") && said.out.contains("host_calls"), "{}{}", said.out, said.err);
    project.edit(
        "package/manifest.json",
        "\"security_policy\"",
        "\"permissions\": { \"host_calls\": [\"log\"] },\n  \"security_policy\"",
    );
    let said = project.test();
    assert!(said.code == Some(0) && !said.out.contains("refused: "), "control: {}{}", said.out, said.err);
    // No project at all.
    let said = project.hotcell(&["plugin", "test", &project.folders.join("nowhere").display().to_string()]);
    assert!(said.code == Some(2) && said.err.contains("hotcell plugin create"), "{}", said.err);
    let said = run(command(&project.folders).env("HOME", project.folders.join("home")).args([
        "plugin",
        "package",
        &project.text(),
    ]));
    assert!(said.code == Some(2) && said.err.contains("hotcell key new"), "{}", said.err);
}

#[test]
fn a_build_writes_the_types_that_a_plugin_tells_and_a_test_holds_it_to_them() {
    let project = Project::new("native", "c");
    let told = r#"[{\"name\": \"greet\", \"params\": {\"type\": \"string\"}}]"#;
    let source = project.path.join("src/plugin.c");
    let mut text = std::fs::read_to_string(&source).expect("it is there");
    text.push_str(&format!(
        "\nHOTCELL_EXPORT(hotcell_contract)(const uint8_t *input, size_t length) {{\n    (void)input, (void)length;\n    \
         return hotcell_ok((const uint8_t *)\"{told}\", sizeof \"{told}\" - 1);\n}}\n"
    ));
    std::fs::write(&source, text).expect("writable");
    let manifest =
        || std::fs::read_to_string(project.path.join("package/manifest.json")).expect("it is there");
    let before = manifest();
    let said = project.test();
    // The template's greeting is no JSON.
    assert_eq!(said.code, Some(1), "{}", said.err);
    assert!(said.out.contains("its input is not what the manifest tells of greet"), "{}", said.out);
    let after: serde_json::Value = serde_json::from_str(&manifest()).expect("JSON");
    assert_eq!(
        after.pointer("/api_contract/exports"),
        Some(&serde_json::json!([{ "name": "greet", "params": { "type": "string" } }]))
    );
    assert!(!before.contains("params"), "{before}");
    // Once it is there, it stays as it is, and nobody is told.
    let built = project.hotcell(&["plugin", "build", &project.text()]);
    assert_eq!(built.code, Some(0), "{}", built.err);
    assert!(!built.err.contains("are new"), "{}", built.err);
    // What the plugin tells is not believed: a type that is none is refused by the manifest's own rules.
    project.edit("src/plugin.c", r#"{\"type\": \"string\"}"#, "7");
    let wrong = project.hotcell(&["plugin", "build", &project.text()]);
    assert_eq!(wrong.code, Some(2), "{}", wrong.err);
    assert!(wrong.err.contains("says no contract"), "{}", wrong.err);
}

#[test]
fn a_project_packs_its_package_and_nothing_beside_it() {
    let project = Project::new("wasm", "c");
    assert_eq!(project.test().code, Some(0));
    let file = project.folders.join("p.lbplugin").display().to_string();
    let said = project.hotcell(&["plugin", "package", &project.text(), "--unsigned", "-o", &file]);
    assert_eq!(said.code, Some(0), "{}", said.err);
    let said = project.hotcell(&["plugin", "verify", &file]);
    let names: Vec<_> = said.out.lines().skip(2).filter_map(|line| line.split_whitespace().last()).collect();
    assert_eq!(names, ["greeter.wasm", "manifest.json"], "{}", said.out);
    let said = project.hotcell(&["plugin", "install", &file]);
    assert_eq!(said.code, Some(0), "{}", said.err);
    let said = project.hotcell(&["call", "--raw", "@local.greeter", "greet", "World"]);
    assert_eq!((said.code, said.out.as_str()), (Some(0), "Hello, World!"), "{}", said.err);
}

/// A `hotcell plugin dev` that is talked to.
struct Dev {
    child: Child,
    lines: Receiver<String>,
}

impl Dev {
    fn start(project: &Project) -> Dev {
        let mut child = command(&project.folders)
            .args(["plugin", "dev", &project.text()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        let (tell, lines) = channel();
        let out: Box<dyn Read + Send> = Box::new(child.stdout.take().expect("is piped"));
        let err: Box<dyn Read + Send> = Box::new(child.stderr.take().expect("is piped"));
        for stream in [out, err] {
            let tell = tell.clone();
            std::thread::spawn(move || {
                BufReader::new(stream).lines().map_while(Result::ok).for_each(|line| _ = tell.send(line));
            });
        }
        Dev { child, lines }
    }

    fn say(&mut self, line: &str) {
        writeln!(self.child.stdin.as_mut().expect("is piped"), "{line}").expect("it reads");
    }

    /// Waits for a line with this in it.
    fn until(&self, text: &str) {
        let mut seen = Vec::new();
        while let Ok(line) = self.lines.recv_timeout(PATIENCE) {
            if line.contains(text) {
                return;
            }
            seen.push(line);
        }
        panic!("no {text:?} in {seen:#?}");
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_change_of_a_source_reaches_the_running_plugin_and_a_broken_one_does_not() {
    let project = Project::new("native", "c");
    let mut dev = Dev::start(&project);
    dev.until("runs; type");
    dev.say("greet World");
    dev.until("Hello, World!");
    project.edit("src/plugin.c", "Hello, ", "Good day, ");
    dev.until("reloaded: ");
    dev.say("greet World");
    dev.until("Good day, World!");
    project.edit("src/plugin.c", "HOTCELL_PLUGIN(4096)", "HOTCELL_PLUGIN(4096) this is no C");
    dev.until("failed (exit status");
    dev.say("greet you");
    dev.until("Good day, you!");
    project.edit("src/plugin.c", "HOTCELL_PLUGIN(4096) this is no C", "HOTCELL_PLUGIN(4096)");
    project.edit("src/plugin.c", "Good day, ", "Good night, ");
    dev.until("reloaded: ");
    dev.say("greet you");
    dev.until("Good night, you!");
    let pid = rustix::process::Pid::from_child(&dev.child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("it lives");
    assert!(dev.child.wait().expect("it ends").success());
}
