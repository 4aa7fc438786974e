//! What people and plugins write: manifests and profiles, and the plans that come of them.

use std::sync::LazyLock;

use hotcell_policy::{Arch, Controller, Manifest, Plan, Platform, Policy, Profile, compile, render, resolve};
use hotcell_protocol::{Orders, PACKET_MAX, Runtime, codec};
use serde_json::Value;

use crate::written::{is_shown, refusal};

/// Largest orders that leave room in one packet for the largest configuration and for folders.
const ORDERS_MAX: usize = PACKET_MAX - (24 << 10) - (4 << 10);

/// The profiles that hotcell ships.
static SHIPPED: LazyLock<Vec<Profile>> = LazyLock::new(|| {
    let shipped = Profile::shipped_names().iter().filter_map(|name| Profile::shipped(name));
    shipped.map(|profile| profile.expect("a shipped profile parses")).collect()
});

/// A manifest parses or is refused in words; what parses asks for no more than it says, and no profile gives it more.
pub fn manifest(data: &[u8]) {
    let Some(manifest) = parsed_manifest(data) else { return };
    for profile in &*SHIPPED {
        granted(&manifest, profile);
    }
}

/// A profile parses or is refused in words; what parses compiles or is refused.
pub fn profile(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Some(profile) = parsed_profile(text) else { return };
    for runtime in profile.runtimes() {
        let policy = Policy::widest(&profile, *runtime).expect("it is for this runtime");
        planned(&policy, usize::MAX);
    }
}

/// A manifest and, behind the first NUL, a profile: what the one asks for, covered by the other.
pub fn plan(data: &[u8]) {
    let mut parts = data.splitn(2, |byte| *byte == 0);
    let (Some(asks), Some(grants)) = (parts.next(), parts.next()) else { return };
    let Ok(grants) = std::str::from_utf8(grants) else { return };
    if let Some(manifest) = parsed_manifest(asks)
        && let Some(profile) = parsed_profile(grants)
    {
        granted(&manifest, &profile);
    }
}

fn parsed_manifest(data: &[u8]) -> Option<Manifest> {
    match Manifest::parse("manifest.json", data) {
        Ok(manifest) => {
            assert!(is_shown(manifest.name()) && is_shown(manifest.artifact().as_str()));
            assert!(manifest.version().to_string().len() <= 128 && manifest.id().as_str().len() <= 128);
            assert_eq!(manifest.id().as_str().parse().as_ref(), Ok(manifest.id()));
            same_json(&manifest, data);
            Some(manifest)
        }
        Err(error) => {
            refusal(&error, &String::from_utf8_lossy(data));
            None
        }
    }
}

/// Whoever else reads the manifest reads the same: what this reader takes is JSON, and its values are those of another.
fn same_json(manifest: &Manifest, data: &[u8]) {
    let value: Value = serde_json::from_slice(data).expect("what is read is JSON");
    assert_eq!(value.get("id").and_then(Value::as_str), Some(manifest.id().as_str()));
    assert_eq!(value.get("name").and_then(Value::as_str), Some(manifest.name()));
    match (value.get("config"), manifest.config()) {
        (Some(theirs), Some(ours)) => assert!(same(theirs, ours), "{theirs} and {ours}"),
        (theirs, ours) => assert_eq!(theirs, ours),
    }
}

/// Equal values; of numbers with a fraction, serde_json reads some with an error in the last place.
fn same(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Array(left), Value::Array(right)) => {
            left.len() == right.len() && left.iter().zip(right).all(|(left, right)| same(left, right))
        }
        (Value::Object(left), Value::Object(right)) => {
            let mut members = left.iter();
            left.len() == right.len()
                && members.all(|(key, value)| right.get(key).is_some_and(|other| same(value, other)))
        }
        (Value::Number(left), Value::Number(right)) => {
            let (near, far) = (left.as_f64().unwrap_or(0.0), right.as_f64().unwrap_or(1.0));
            left == right || (near - far).abs() <= far.abs() * 4.0 * f64::EPSILON
        }
        _ => left == right,
    }
}

fn parsed_profile(text: &str) -> Option<Profile> {
    match Profile::parse("profile.toml", text) {
        Ok(profile) => {
            assert!(is_shown(profile.summary()) && !profile.runtimes().is_empty());
            Some(profile)
        }
        Err(error) => {
            refusal(&error, text);
            None
        }
    }
}

/// No policy holds what its manifest did not ask for, under whichever runtime its module turns out to need.
fn granted(manifest: &Manifest, profile: &Profile) {
    let found = [Runtime::Core, Runtime::Component, Runtime::Command];
    let manifests = match manifest.runtime() {
        Some(_) => vec![manifest.clone()],
        None => found.iter().filter_map(|runtime| manifest.clone().with_runtime(*runtime).ok()).collect(),
    };
    for manifest in &manifests {
        match resolve(manifest, profile) {
            Ok(policy) => {
                assert!(policy.files().iter().all(|file| manifest.paths().any(|path| *path == file.path)));
                assert!(policy.host_calls().all(|call| manifest.host_calls().any(|asked| asked == call)));
                planned(&policy, ORDERS_MAX);
            }
            Err(error) => assert!(error.to_string().lines().all(is_shown), "{error:?}"),
        }
    }
}

/// On every platform a policy compiles or is refused; a plan is plain text, and its orders cross a process border in at
/// most so many bytes.
fn planned(policy: &Policy, most: usize) {
    for root in [true, false] {
        match compile(policy, &platform(root)) {
            Ok(plan) => crosses(&plan, most),
            Err(error) => assert!(error.to_string().lines().all(is_shown), "{error:?}"),
        }
    }
}

fn crosses(plan: &Plan, most: usize) {
    assert!(render(plan).lines().all(is_shown));
    let bytes = codec::encode(&plan.orders).expect("encodes");
    assert!(bytes.len() <= most, "{} bytes", bytes.len());
    assert_eq!(codec::decode::<Orders>(&bytes).expect("decodes"), plan.orders);
    for rule in &plan.orders.landlock.rules {
        assert!(!rule.path.starts_with('/') && rule.path.split('/').all(|part| part != ".."), "{rule:?}");
    }
}

fn platform(root: bool) -> Platform {
    Platform {
        arch: if root { Arch::X86_64 } else { Arch::Aarch64 },
        landlock_abi: if root { 7 } else { 3 },
        seccomp_filter: true,
        seccomp_listener: true,
        root,
        namespaces: root,
        user_namespaces: true,
        mounting: true,
        cgroups: Controller::ALL.to_vec(),
        kernel: (6, 18),
    }
}
