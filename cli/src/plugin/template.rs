//! The templates of `hotcell plugin create`, and the SDK that each project gets a copy of.

use super::create::{Kind, Lang, Recipe};

/// A file of a project: its path, and its text with `{{name}}` and the like in it.
pub(super) type File = (String, String);

macro_rules! template {
    ($name:literal) => {
        include_str!(concat!("../../templates/", $name))
    };
}

pub(super) const README: &str = template!("README.md");
pub(super) const WORKFLOW: &str = template!("workflow.yml");

/// The sources of the SDK. A test compares them with what is there.
const SDK: [(&str, &str); 11] = [
    ("abi.rs", include_str!("../../../sdk/src/abi.rs")),
    ("boundary.rs", include_str!("../../../sdk/src/boundary.rs")),
    ("boundary/native.rs", include_str!("../../../sdk/src/boundary/native.rs")),
    ("boundary/wasm.rs", include_str!("../../../sdk/src/boundary/wasm.rs")),
    ("connect.rs", include_str!("../../../sdk/src/connect.rs")),
    ("contract.rs", include_str!("../../../sdk/src/contract.rs")),
    ("export.rs", include_str!("../../../sdk/src/export.rs")),
    ("host.rs", include_str!("../../../sdk/src/host.rs")),
    ("json.rs", include_str!("../../../sdk/src/json.rs")),
    ("lib.rs", include_str!("../../../sdk/src/lib.rs")),
    ("program.rs", include_str!("../../../sdk/src/program.rs")),
];

/// The ABI, for C.
const HEADER: &str = include_str!("../../../sdk/include/hotcell_plugin.h");

/// What makes a component of a module.
const COMPONENTIZE: &str = include_str!("../../../plugins/componentize/src/main.rs");

/// Cases for a plugin that greets in JSON.
const JSON_TESTS: &str = r#"[[test]]
call = "greet"
input = '{"name": "World"}'
reply = '{"greeting": "Hello, World!"}'

[[test]]
call = "greet"
input = '{"name": " "}'
error = "nobody to greet"
"#;

/// Cases for one that greets in plain text.
const TEXT_TESTS: &str = r#"[[test]]
call = "greet"
input = "World"
reply = "Hello, World!"

[[test]]
call = "greet"
input = ""
error = "1 to 100 bytes"
"#;

/// Cases for a component: parameters in an array, a `result` as the reply or the error.
const COMPONENT_TESTS: &str = r#"[[test]]
call = "greet"
input = '["World"]'
reply = '"Hello, World!"'

[[test]]
call = "greet"
input = '[" "]'
error = "nobody to greet"
"#;

const COMMAND_TESTS: &str = r#"[[test]]
run = ["World"]
stdin = "one two three"
stdout = "Hello, World! Your input has 3 words.\n"
"#;

const RUST_SETUP: &str = "      - run: rustup target add wasm32-unknown-unknown wasm32-wasip1\n";

const SDK_NOTE: &str = "- `hotcell-plugin/` is a copy of the SDK of the hotcell that made this project.\n";

/// How a project is made, where there is a way.
pub(super) fn recipe(kind: Kind, lang: Lang, name: &str) -> Option<Recipe> {
    match (lang, kind) {
        (Lang::Rust, Kind::Native | Kind::Wasm) => Some(rust_library(kind, name)),
        (Lang::Rust, Kind::Component) => Some(rust_component(name)),
        (Lang::Rust, Kind::Command) => Some(rust_command(name)),
        (Lang::C, Kind::Native | Kind::Wasm) => Some(c_library(kind, name)),
        (Lang::C, Kind::Command) => Some(c_command(name)),
        (Lang::Javascript, Kind::Component) => Some(javascript(name)),
        (Lang::C, Kind::Component) | (Lang::Javascript, _) => None,
    }
}

fn rust_library(kind: Kind, name: &str) -> Recipe {
    let library = name.replace('-', "_");
    let mut files = vec![
        file("Cargo.toml", template!("Cargo.library.toml")),
        file("src/lib.rs", template!("greet.rs")),
        (
            "hotcell-plugin/Cargo.toml".to_owned(),
            template!("Cargo.sdk.toml").replace("{{version}}", env!("CARGO_PKG_VERSION")),
        ),
    ];
    files.extend(SDK.iter().map(|(path, text)| (format!("hotcell-plugin/src/{path}"), (*text).to_owned())));
    let (steps, from) = match kind {
        Kind::Wasm => (
            words(&["cargo build --release --target wasm32-unknown-unknown"]),
            format!("target/wasm32-unknown-unknown/release/{library}.wasm"),
        ),
        _ => (words(&["cargo build --release"]), format!("target/release/lib{library}.so")),
    };
    let setup = if kind == Kind::Wasm { RUST_SETUP } else { "" };
    Recipe { files, steps, from, setup, notes: SDK_NOTE, tests: JSON_TESTS }
}

fn rust_component(name: &str) -> Recipe {
    let module = format!("target/wasm32-unknown-unknown/release/{}.wasm", name.replace('-', "_"));
    let from = format!("target/{name}.component.wasm");
    Recipe {
        files: vec![
            file("Cargo.toml", template!("Cargo.component.toml")),
            file("src/lib.rs", template!("component.rs")),
            file("wit/world.wit", template!("world.wit")),
            file("componentize/Cargo.toml", template!("Cargo.componentize.toml")),
            file("componentize/src/main.rs", COMPONENTIZE),
        ],
        steps: words(&[
            "cargo build --release --target wasm32-unknown-unknown",
            &format!(
                "cargo run --manifest-path componentize/Cargo.toml --target-dir target/componentize -- {module} {from}"
            ),
        ]),
        from,
        setup: RUST_SETUP,
        notes: "- `wit/world.wit` has the types; `componentize/` makes a component of the module, and is no part of it.\n",
        tests: COMPONENT_TESTS,
    }
}

fn rust_command(name: &str) -> Recipe {
    Recipe {
        files: vec![
            file("Cargo.toml", template!("Cargo.command.toml")),
            file("src/main.rs", template!("command.rs")),
        ],
        steps: words(&["cargo build --release --target wasm32-wasip1"]),
        from: format!("target/wasm32-wasip1/release/{name}.wasm"),
        setup: RUST_SETUP,
        notes: "",
        tests: COMMAND_TESTS,
    }
}

fn c_library(kind: Kind, name: &str) -> Recipe {
    let files = vec![
        file("src/plugin.c", template!("greet.c")),
        ("include/hotcell_plugin.h".to_owned(), HEADER.to_owned()),
    ];
    let (extension, compile) = match kind {
        Kind::Wasm => ("wasm", "clang --target=wasm32-unknown-unknown -nostdlib -Wl,--no-entry"),
        _ => ("so", "cc -shared -fPIC -fvisibility=hidden"),
    };
    let from = format!("target/{name}.{extension}");
    let setup = if kind == Kind::Wasm {
        "      - run: sudo apt-get install -y --no-install-recommends clang lld\n"
    } else {
        ""
    };
    Recipe {
        files,
        steps: words(&[
            "mkdir -p target",
            &format!("{compile} -O2 -Wall -Wextra -I include src/plugin.c -o {from}"),
        ]),
        from,
        setup,
        notes: "- `include/hotcell_plugin.h` is the whole ABI, with a complete example at its head.\n",
        tests: TEXT_TESTS,
    }
}

fn c_command(name: &str) -> Recipe {
    let from = format!("target/{name}.wasm");
    Recipe {
        files: vec![file("src/main.c", template!("command.c"))],
        steps: words(&[
            "mkdir -p target",
            // Without the compiler's own library, which distributions package apart: add -rtlib where it is needed.
            &format!("clang --target=wasm32-wasi -O2 -Wall -Wextra -nodefaultlibs -lc src/main.c -o {from}"),
        ]),
        from,
        setup: "      - run: sudo apt-get install -y --no-install-recommends clang lld wasi-libc\n",
        notes: "- It is linked with wasi-libc alone: 128-bit numbers and `long double` also need the compiler's own library.\n",
        tests: COMMAND_TESTS,
    }
}

fn javascript(name: &str) -> Recipe {
    let from = format!("target/{name}.wasm");
    Recipe {
        files: vec![
            file("package.json", template!("package.json")),
            file("src/plugin.js", template!("component.js")),
            file("wit/world.wit", template!("world.wit")),
        ],
        steps: words(&[
            "npm install --no-audit --no-fund --loglevel=error",
            "mkdir -p target",
            &format!(
                "npx jco componentize src/plugin.js --wit wit --world-name {name} --disable all -o {from}"
            ),
        ]),
        from,
        setup: "",
        notes: "- `wit/world.wit` has the types. The component holds a JavaScript engine: 12 MB, and seconds to load for the first time.\n",
        tests: COMPONENT_TESTS,
    }
}

fn file(path: &str, text: &str) -> File {
    (path.to_owned(), text.to_owned())
}

/// Steps, from texts without a quoted word.
fn words(steps: &[&str]) -> Vec<Vec<String>> {
    steps.iter().map(|step| step.split_whitespace().map(str::to_owned).collect()).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::SDK;

    /// The paths of the files below a folder.
    fn below(folder: &Path, prefix: &str, found: &mut Vec<String>) {
        for entry in std::fs::read_dir(folder).expect("lists").flatten() {
            let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
            match entry.path().is_dir() {
                true => below(&entry.path(), &format!("{name}/"), found),
                false => found.push(name),
            }
        }
    }

    #[test]
    fn a_project_gets_the_whole_sdk_with_all_its_features() {
        let sdk = Path::new(env!("CARGO_MANIFEST_DIR")).join("../sdk");
        let mut found = Vec::new();
        below(&sdk.join("src"), "", &mut found);
        found.sort();
        assert_eq!(found, SDK.map(|(path, _)| path));
        let manifest = std::fs::read_to_string(sdk.join("Cargo.toml")).expect("reads");
        let features = |text: &str| {
            let (_, rest) = text.split_once("[features]\n").expect("has features");
            let (features, _) = rest.split_once("\n\n").expect("ends");
            let lines = features.lines().filter(|line| !line.starts_with('#'));
            lines.map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(features(template!("Cargo.sdk.toml")), features(&manifest));
    }
}
