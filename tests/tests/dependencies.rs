//! Plugins that need each other: the order of their starts and ends, who may call whom, and what a reload may not break.

#![allow(clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking")]

use std::path::PathBuf;
use std::time::{Duration, Instant};

use hotcell::{
    CallError, Checkpoint, Class, EventKind, Host, InstallOptions, LoadOptions, Plugin, ReloadError,
    ReloadOptions,
};
use hotcell_tests::{Folders, command, fixture};
use serde_json::{Value, json};

mod common;

/// How long anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// What lets plugins of a profile call each other.
const PLUGIN_CALL: &str = "\n[[host-call]]\nname = \"plugin.call\"\nwhy = \"The test's.\"\n";

struct Setup {
    host: Host,
    folders: Folders,
}

impl Setup {
    async fn new() -> Setup {
        Setup::over(Folders::new()).await
    }

    async fn over(folders: Folders) -> Setup {
        let profile = common::profile("native-strict", "native-calls", &[], PLUGIN_CALL);
        let host = fixture::host(&folders).profile(profile).build().await.expect("a host starts");
        Setup { host, folders }
    }

    /// A notebook that needs others, and may call them.
    fn package(&self, name: &str, version: &str, needs: &[(&str, &str)], more: &Value) -> PathBuf {
        let needs: Vec<_> = needs
            .iter()
            .map(|(name, version)| json!({ "id": format!("dev.hotcell.test.{name}"), "version": version }))
            .collect();
        let mut manifest = json!({
            "version": version,
            "permissions": { "host_calls": ["plugin.call"] },
            "security_policy": { "profile": "native-calls" },
        });
        if !needs.is_empty() {
            manifest["dependencies"] = needs.into();
        }
        for (key, value) in more.as_object().into_iter().flatten() {
            manifest[key] = value.clone();
        }
        let _ = std::fs::remove_dir_all(self.folders.join(name));
        common::native(&self.folders, name, "notebook/native/notebook.so", manifest)
    }

    async fn load_all(&self, paths: &[&PathBuf]) -> Result<Vec<Plugin>, hotcell::Error> {
        self.host.load_all(paths.iter().map(|path| ((*path).clone(), LoadOptions::default()))).await
    }
}

async fn relay(plugin: &Plugin, input: &str) -> Result<String, CallError> {
    let reply = plugin.call_raw("relay", input.into()).await?;
    Ok(String::from_utf8(reply).expect("text"))
}

fn text(result: Result<String, CallError>) -> String {
    match result {
        Err(CallError::Plugin(text)) => String::from_utf8_lossy(text.as_ref()).into_owned(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn plugins_start_after_what_they_need_and_call_only_that() {
    let setup = Setup::new().await;
    let app = setup.package("app", "1.0.0", &[("store", "^1"), ("log", "*")], &json!({}));
    let store = setup.package("store", "1.4.0", &[("log", "^2")], &json!({}));
    let log = setup.package("log", "2.0.0", &[], &json!({}));
    let plugins = setup.load_all(&[&app, &store, &log]).await.unwrap_or_else(|error| panic!("{error}"));
    let ids: Vec<_> = plugins.iter().map(|plugin| plugin.id().to_owned()).collect();
    assert_eq!(ids, ["dev.hotcell.test.log", "dev.hotcell.test.store", "dev.hotcell.test.app"]);
    let [log, store, app] = plugins.as_slice() else { panic!("three") };

    assert_eq!(relay(app, "dev.hotcell.test.store add ").await.expect("may"), "1");
    assert_eq!(relay(app, "dev.hotcell.test.store add ").await.expect("may"), "2");
    assert_eq!(relay(app, "dev.hotcell.test.log add ").await.expect("may"), "1");
    // Two steps: app asks store, which asks log.
    let nested = "dev.hotcell.test.store relay dev.hotcell.test.log add ";
    assert_eq!(relay(app, nested).await.expect("may"), "2");

    let mut events = setup.host.events();
    let refused = text(relay(store, "dev.hotcell.test.app add ").await);
    assert!(refused.contains("Permission denied"), "only along declared edges: {refused}");
    let told = std::iter::from_fn(|| events.try_next());
    let violations = told.filter(|event| matches!(event.kind, EventKind::Violation(_))).count();
    assert_eq!(violations, 1);
    // What the host calls is not theirs to call: neither to read a state nor to replace it.
    for hook in ["hotcell:state-save", "hotcell:configure", "hotcell:plugin/lifecycle@0.1.0#state-save"] {
        let refused = text(relay(app, &format!("dev.hotcell.test.log {hook} ")).await);
        assert!(refused.contains("Permission denied"), "{hook}: {refused}");
    }
    let crashed = text(relay(app, "dev.hotcell.test.log crash ").await);
    assert!(crashed.contains("SIGABRT"), "{crashed}");
    assert_eq!(app.call_raw("add", Vec::new()).await.expect("only the other one crashed"), b"1");
    log.clone().unload().await;
    let gone = text(relay(app, "dev.hotcell.test.log add ").await);
    assert!(gone.contains("is not loaded"), "{gone}");
}

#[tokio::test]
async fn what_is_missing_or_circular_is_named_and_nothing_runs() {
    let setup = Setup::new().await;
    let app = setup.package("app", "1.0.0", &[("store", "^1")], &json!({}));
    let missing = setup.host.load(&app).await.expect_err("nothing is there");
    assert_eq!(missing.class(), Class::Refused);
    assert!(missing.to_string().contains("dev.hotcell.test.store is needed by"), "{missing}");
    let old = setup.package("store", "2.0.0", &[], &json!({}));
    let unfit = setup.load_all(&[&app, &old]).await.expect_err("it does not fit");
    assert!(unfit.to_string().contains("there is dev.hotcell.test.store 2.0.0"), "{unfit}");
    let circular = setup.package("store", "1.0.0", &[("app", "^1")], &json!({}));
    let circle = setup.load_all(&[&app, &circular]).await.expect_err("a circle");
    assert!(circle.to_string().contains("need each other"), "{circle}");
    assert!(setup.host.loaded().is_empty());
    let optional = json!({ "dependencies": [
        { "id": "dev.hotcell.test.store", "version": "^1", "optional": true }
    ] });
    let alone = setup.package("app", "1.0.0", &[], &optional);
    let app = setup.host.load(&alone).await.expect("it may be missing");
    assert!(text(relay(&app, "dev.hotcell.test.store add ").await).contains("is not loaded"));
}

#[tokio::test]
async fn what_is_needed_is_taken_from_the_installed_plugins() {
    let setup = Setup::new().await;
    let packages = setup.host.packages();
    let install = |name: &str, version: &str, needs: &[(&str, &str)]| {
        let path = setup.package(name, version, needs, &json!({}));
        packages.install(path, InstallOptions::default()).unwrap_or_else(|error| panic!("{error}"));
    };
    let app = setup.package(
        "app",
        "1.0.0",
        &[("store", "^1")],
        &json!({ "dependencies": [
        { "id": "dev.hotcell.test.store", "version": "^1" },
        { "id": "dev.hotcell.test.extra", "version": "^1", "optional": true },
    ] }),
    );
    let load = || setup.host.load_with_installed([(app.clone(), LoadOptions::default())]);
    let ids = |plugins: &[Plugin]| plugins.iter().map(|plugin| plugin.id().to_owned()).collect::<Vec<_>>();

    let missing = load().await.expect_err("nothing is installed").to_string();
    assert!(missing.contains("store is needed by") && missing.ends_with("there is none"), "{missing}");
    install("store", "1.4.0", &[("log", "^2")]);
    install("extra", "1.0.0", &[("gone", "*")]);
    let unmet = packages.unmet().expect("they can be read");
    assert_eq!(unmet.len(), 2, "{unmet:?}");
    assert!(unmet[0].contains("gone is needed by dev.hotcell.test.extra 1.0.0"), "{unmet:?}");
    let missing = load().await.expect_err("log is not installed").to_string();
    assert!(missing.contains("log is needed by dev.hotcell.test.store 1.4.0 (^2)"), "{missing}");
    assert!(setup.host.loaded().is_empty());

    install("log", "2.0.0", &[]);
    assert_eq!(packages.unmet().expect("they can be read").len(), 1, "but for the optional one");
    assert_eq!(setup.host.load(&app).await.expect_err("not unasked").class(), Class::Refused);
    let plugins = load().await.unwrap_or_else(|error| panic!("{error}"));
    // The optional one lacks something, so it is left out.
    assert_eq!(ids(&plugins), ["dev.hotcell.test.log", "dev.hotcell.test.store", "dev.hotcell.test.app"]);
    let nested = "dev.hotcell.test.store relay dev.hotcell.test.log add ";
    assert_eq!(relay(&plugins[2], nested).await.expect("may"), "1");

    let again = load().await.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(ids(&again), ["dev.hotcell.test.app"], "what runs is taken");
    drop((plugins, again));
    install("store", "2.0.0", &[]);
    let unfit = load().await.expect_err("the one before is no longer what is installed").to_string();
    assert!(unfit.contains("app 1.0.0 (^1)"), "{unfit}");
    let given = setup.package("store", "1.9.0", &[], &json!({}));
    let both = [&app, &given].map(|path| (path.clone(), LoadOptions::default()));
    let plugins = setup.host.load_with_installed(both).await.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(plugins[0].version().to_string(), "1.9.0", "what is given is taken");
}

#[tokio::test]
async fn the_command_takes_what_is_needed_from_the_installed_plugins_and_tells_what_is_not() {
    let setup = Setup::new().await;
    let more = json!({
        "permissions": { "host_calls": ["plugin.call"] },
        "security_policy": { "profile": "native-calls" },
    });
    let app = setup.package("app", "1.0.0", &[("store", "^1")], &more).display().to_string();
    let store = setup.package("store", "1.0.0", &[], &more).display().to_string();
    let profile = setup.folders.join("native-calls.toml");
    let shipped = hotcell_tests::root().join("sandbox-profiles/native-strict.toml");
    let shipped = std::fs::read_to_string(shipped).expect("it ships");
    std::fs::write(&profile, shipped + PLUGIN_CALL).expect("writable");
    let hotcell = |arguments: &[&str]| {
        command::run(command::command(&setup.folders).arg("--profile").arg(&profile).args(arguments))
    };
    let installed = hotcell(&["plugin", "install", &app]);
    assert_eq!(installed.code, Some(0), "{installed:?}");
    assert!(installed.err.starts_with("warning: dev.hotcell.test.store is needed by"), "{installed:?}");
    let call = ["call", "--raw", "@dev.hotcell.test.app", "relay", "dev.hotcell.test.store add "];
    let refused = hotcell(&call);
    assert_eq!(refused.code, Some(3), "{refused:?}");
    let installed = hotcell(&["plugin", "install", &store]);
    assert_eq!((installed.code, installed.err.as_str()), (Some(0), ""), "{installed:?}");
    let said = hotcell(&call);
    assert_eq!((said.code, said.out.as_str()), (Some(0), "1"), "{said:?}");
    let removed = hotcell(&["plugin", "remove", "dev.hotcell.test.store"]);
    assert!(removed.err.contains("is needed by dev.hotcell.test.app"), "{removed:?}");
}

#[tokio::test]
async fn a_circle_of_calls_ends_at_once_and_a_deadline_ends_both_calls() {
    let setup = Setup::new().await;
    let back = json!({ "dependencies": [
        { "id": "dev.hotcell.test.app", "version": "^1", "optional": true }
    ] });
    // One after the other, since together they have no order.
    let store =
        setup.host.load(setup.package("store", "1.0.0", &[], &back)).await.expect("app may be missing");
    let app = setup.package("app", "1.0.0", &[("store", "^1")], &json!({}));
    let app = setup.host.load(app).await.unwrap_or_else(|error| panic!("{error}"));
    let begun = Instant::now();
    let circle = "dev.hotcell.test.store relay dev.hotcell.test.app add ";
    let refused = text(relay(&app, circle).await);
    assert!(refused.contains("waits"), "{refused}");
    assert!(begun.elapsed() < Duration::from_secs(5), "not at the deadline");

    // What is called runs for minutes unless its caller's deadline ends it.
    let endless = "dev.hotcell.test.store work 100000000";
    let late = app.request("relay").deadline(Duration::from_millis(300)).raw(endless.into()).await;
    assert!(matches!(late, Err(CallError::Timeout)), "{late:?}");
    let next = store.request("add").deadline(Duration::from_secs(8)).raw(Vec::new()).await;
    next.expect("it is not busy with what nobody waits for");
}

/// What a store promises of `add`, by the types of its input and its reply.
fn promises(params: &Value, result: &Value) -> Value {
    json!({ "api_contract": { "exports": [{ "name": "add", "params": params, "result": result }] } })
}

#[tokio::test]
async fn types_that_no_longer_suit_those_that_were_built_for_them_are_refused() {
    let setup = Setup::new().await;
    let (any, number, text) = (json!({}), json!({ "type": "integer" }), json!({ "type": "string" }));
    let either = json!({ "type": ["integer", "string"] });
    let store = |version, params, result| setup.package("store", version, &[], &promises(params, result));
    let plugins =
        setup.load_all(&[&store("1.0.0", &number, &number)]).await.unwrap_or_else(|error| panic!("{error}"));
    let [stored] = plugins.as_slice() else { panic!("one") };
    // One that tells what it was built for, and one that does not.
    let id = "dev.hotcell.test.store";
    let built_for = |params: &Value, result: &Value| {
        let exports = json!([{ "name": "add", "params": params, "result": result }]);
        json!({ "dependencies": [{ "id": id, "version": "^1", "exports": exports }] })
    };
    for (params, result, part) in
        [(&text, &any, "input of add: /: string"), (&any, &text, "reply of add: /: integer")]
    {
        let path = setup.package("other", "1.0.0", &[], &built_for(params, result));
        let error = setup.host.load(path).await.expect_err("the store takes and gives something else");
        assert!(error.to_string().contains(part), "{error}");
    }
    let precise = setup.host.load(setup.package("precise", "1.0.0", &[], &built_for(&number, &either))).await;
    let precise = precise.unwrap_or_else(|error| panic!("{error}"));
    let silent = setup.host.load(setup.package("silent", "1.0.0", &[("store", "^1")], &json!({}))).await;
    let silent = silent.unwrap_or_else(|error| panic!("{error}"));

    store("1.1.0", &either, &number);
    stored.reload().await.unwrap_or_else(|error| panic!("takes more than before: {error}"));
    store("1.2.0", &number, &number);
    let error = stored.reload().await.expect_err("takes less than before");
    let ReloadError::Breaks(by) = &error else { panic!("{error}") };
    assert_eq!(by.len(), 1, "{by:?}");
    assert!(by[0].contains("test.silent") && by[0].contains("string is not accepted any more"), "{by:?}");
    store("1.3.0", &text, &number);
    let error = stored.reload().await.expect_err("takes no numbers any more");
    assert!(matches!(&error, ReloadError::Breaks(by) if by.len() == 2), "{error}");
    store("1.4.0", &either, &either);
    let error = stored.reload().await.expect_err("returns more than before");
    assert!(
        matches!(&error, ReloadError::Breaks(by) if by[0].contains("test.silent") && by.len() == 1),
        "{error}"
    );
    silent.unload().await;
    stored
        .reload()
        .await
        .unwrap_or_else(|error| panic!("the one that is left was built for either: {error}"));
    assert_eq!(relay(&precise, &format!("{id} add ")).await.expect("may"), "1");
}

#[tokio::test]
async fn a_reload_swaps_under_its_dependents_and_does_not_break_them() {
    let setup = Setup::new().await;
    let app = setup.package("app", "1.0.0", &[("store", "^1")], &json!({}));
    let store = setup.package("store", "1.0.0", &[], &json!({}));
    let plugins = setup.load_all(&[&store, &app]).await.unwrap_or_else(|error| panic!("{error}"));
    let [store, app] = plugins.as_slice() else { panic!("two") };
    assert_eq!(relay(app, "dev.hotcell.test.store add ").await.expect("may"), "1");
    setup.package("store", "1.1.0", &[], &json!({}));
    store.reload().await.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(
        relay(app, "dev.hotcell.test.store add ").await.expect("may"),
        "2",
        "the same plugin, with its state"
    );
    setup.package("store", "2.0.0", &[], &json!({}));
    let breaks = store.reload().await.expect_err("app needs ^1");
    assert!(matches!(&breaks, ReloadError::Breaks(by) if by[0].contains("dev.hotcell.test.app")), "{breaks}");
    assert_eq!(store.version(), "1.1.0");
    setup.package("app", "1.1.0", &[("store", "^1"), ("log", "^1")], &json!({}));
    let missing = app.reload().await.expect_err("log is not there");
    assert!(missing.to_string().contains("dev.hotcell.test.log"), "{missing}");
    let _log = setup.host.load(setup.package("log", "1.0.0", &[], &json!({}))).await.expect("loads");
    let wider = app.reload().await.expect_err("it may call one more");
    assert!(wider.to_string().contains("calls to plugin dev.hotcell.test.log"), "{wider}");
    let options = ReloadOptions { may_widen: true, ..ReloadOptions::default() };
    app.reload_with(options).await.unwrap_or_else(|error| panic!("{error}"));
}

#[tokio::test]
async fn promises_are_checked_before_anybody_relies_on_them() {
    let setup = Setup::new().await;
    let api = |contract: Value| json!({ "api_contract": contract });
    let good = api(json!({ "host_api": "^0.1", "exports": [{ "name": "add" }, { "name": "relay" }] }));
    setup.host.load(setup.package("kept", "1.0.0", &[], &good)).await.expect("it keeps what it promises");
    let exports = api(json!({ "exports": [{ "name": "add" }, { "name": "no_such" }] }));
    let broken =
        setup.host.load(setup.package("broken", "1.0.0", &[], &exports)).await.expect_err("it lacks one");
    assert_eq!(broken.class(), Class::Invalid);
    assert!(broken.to_string().ends_with("promises: no_such"), "{broken}");
    let other = api(json!({ "host_api": "^7" }));
    let future =
        setup.host.load(setup.package("future", "1.0.0", &[], &other)).await.expect_err("not of this time");
    assert!(future.to_string().contains("needs hotcell ^7"), "{future}");
    let schema = json!({
        "config": { "fault": "none" },
        "config_schema": { "properties": { "fault": { "enum": ["none", "unhealthy"] } }, "required": ["fault"] },
    });
    let plugin = setup.host.load(setup.package("set", "1.0.0", &[], &schema)).await;
    let plugin = plugin.unwrap_or_else(|error| panic!("{error}"));
    plugin.configure(&json!({ "fault": "unhealthy" })).await.expect("it meets the schema");
    let refused = plugin.configure(&json!({ "fault": "crashes-on-add" })).await.expect_err("it does not");
    assert!(
        refused.to_string().contains("does not meet its schema") && refused.to_string().contains("/fault"),
        "{refused}"
    );
    assert_eq!(plugin.call_raw("add", Vec::new()).await.expect("it was not told"), b"1");
    let unfit = json!({ "config": { "fault": 7 }, "config_schema": schema["config_schema"].clone() });
    let error =
        setup.host.load(setup.package("unfit", "1.0.0", &[], &unfit)).await.expect_err("does not meet it");
    assert_eq!(error.class(), Class::Invalid);
    // References that double with each step: nobody waits for that longer than for a compiler.
    let mut defs = json!({ "d0": { "type": "object" } });
    for step in 1..40 {
        let inner = json!({ "$ref": format!("#/$defs/d{}", step - 1) });
        defs[format!("d{step}")] = json!({ "allOf": [inner.clone(), inner] });
    }
    let bomb = json!({ "config": {}, "config_schema": { "$defs": defs, "$ref": "#/$defs/d39" } });
    let path = setup.package("bomb", "1.0.0", &[], &bomb);
    let (bombed, answered) =
        tokio::join!(setup.host.load(path), plugin.request("add").deadline(PATIENCE).raw(Vec::new()));
    answered.expect("others notice nothing");
    let error = bombed.expect_err("it takes longer than anybody waits");
    assert!(error.to_string().contains("deadline"), "{error}");
}

#[tokio::test]
async fn a_gentle_end_lets_calls_end_and_keeps_the_state() {
    let setup = Setup::new().await;
    let app = setup.package("app", "1.0.0", &[("store", "^1")], &json!({}));
    let store = setup.package("store", "1.0.0", &[], &json!({}));
    let kept = || LoadOptions { checkpoint: Checkpoint::OnRequest, ..LoadOptions::default() };
    let plugins = setup.host.load_all([(app.clone(), kept()), (store.clone(), kept())]).await;
    let plugins = plugins.unwrap_or_else(|error| panic!("{error}"));
    let app_runs = plugins[1].clone();
    assert_eq!(relay(&app_runs, "dev.hotcell.test.store add ").await.expect("may"), "1");
    // Long enough that the end begins meanwhile.
    let running = tokio::spawn(async move { relay(&app_runs, "dev.hotcell.test.store work 300").await });
    while plugins[0].request("add").deadline(Duration::from_millis(1)).raw(Vec::new()).await.is_ok() {
        tokio::task::yield_now().await;
    }
    drop(plugins);
    setup.host.clone().shutdown_within(PATIENCE).await;
    let ended = running.await.expect("no panic");
    assert_eq!(ended.expect("it could end, and what it needs was there"), "");

    let Setup { folders, host, .. } = setup;
    drop(host);
    let setup = Setup::over(folders).await;
    let plugins = setup.host.load_all([(app, kept()), (store, kept())]).await;
    let plugins = plugins.unwrap_or_else(|error| panic!("{error}"));
    let count = relay(&plugins[1], "dev.hotcell.test.store add ").await.expect("may");
    assert!(count.parse::<u32>().expect("a number") >= 2, "{count}: it was kept");

    // What takes longer than the end may take is cut off.
    let endless = plugins[0].clone();
    let running = tokio::spawn(async move { endless.call_raw("work", b"100000000".to_vec()).await });
    drop(plugins);
    setup.host.shutdown_within(Duration::from_millis(50)).await;
    assert!(running.await.expect("no panic").is_err());
}
