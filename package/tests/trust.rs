//! Signatures that are not right, and right ones that do not count. Rows PK-21 to PK-31 of the attacks.

#![allow(clippy::expect_used, clippy::panic, reason = "a panic is how a test fails")]

use std::time::{Duration, SystemTime};

use ed25519_dalek::{Signer, SigningKey};
use hotcell_package::{
    Ask, Contents, KeyId, SignatureError, Signatures, Standing, TrustError, TrustStore, TrustedKey, hex,
};
use sha2::{Digest as _, Sha256};

const MANIFEST: &str = r#"{"schema": 1, "id": "com.example.greet", "name": "G", "version": "1.0.0",
    "plugin_type": "dylib", "dylib_path": "g.so", "permissions": {"network": {"connect": ["a.example:1"]}}}"#;

fn key(number: u8) -> SigningKey {
    SigningKey::from_bytes(&[number; 32])
}

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

fn contents(files: &[(&str, &str)]) -> Contents {
    let mut contents = Contents { manifest: MANIFEST.into(), ..Contents::default() };
    for (path, text) in files.iter().chain(&[("manifest.json", MANIFEST)]) {
        let digest = Sha256::digest(text).into();
        assert!(contents.listing.insert(path.parse().expect("a path"), digest, text.len() as u64));
    }
    contents
}

/// A package signed by these keys.
fn signed(keys: &[SigningKey]) -> Contents {
    let mut contents = contents(&[("g.so", "v1")]);
    let mut signatures = Signatures::over(contents.listing.clone());
    keys.iter().for_each(|key| signatures.sign(key, None));
    contents.signatures = Some(signatures.to_string().into());
    contents
}

fn trusting(number: u8, plugins: &str) -> TrustedKey {
    let plugins = vec![plugins.parse().expect("a pattern")];
    TrustedKey {
        key: KeyId::of(&key(number)),
        name: format!("key {number}"),
        plugins,
        asks: None,
        revoked: None,
    }
}

fn store(keys: &[TrustedKey]) -> TrustStore {
    let mut store = TrustStore::default();
    keys.iter().for_each(|key| store.add(key.clone()).expect("is not revoked"));
    TrustStore::parse(store.to_string().as_bytes()).expect("is read as it is written")
}

fn judged(contents: &Contents, store: &TrustStore) -> Result<Standing, SignatureError> {
    store.judge(contents, &contents.manifest("p").expect("a manifest"), now())
}

fn untrusted(contents: &Contents, store: &TrustStore) -> TrustError {
    match judged(contents, store) {
        Err(SignatureError::Untrusted(error)) => error,
        other => panic!("{other:?}"),
    }
}

/// The package with another text in its signatures.
fn changed(contents: &Contents, from: &str, to: &str) -> Contents {
    let text = String::from_utf8(contents.signatures.clone().expect("is signed")).expect("is text");
    assert!(text.contains(from), "{from} is not in {text}");
    Contents { signatures: Some(text.replace(from, to).into()), ..contents.clone() }
}

fn trusted(contents: &Contents, store: &TrustStore) -> bool {
    matches!(judged(contents, store), Ok(Standing::Trusted(_)))
}

#[test]
fn a_trusted_key_counts_for_its_plugins_only() {
    let package = signed(&[key(1)]);
    for plugins in ["com.example.greet", "com.example.*", "com.*", "*"] {
        assert!(trusted(&package, &store(&[trusting(1, plugins)])), "{plugins}");
    }
    for plugins in ["com.example.gree", "com.example.greet.x", "com.example.greet.*", "com.exampl.*", "org.*"]
    {
        let error = untrusted(&package, &store(&[trusting(1, plugins)]));
        assert!(matches!(error, TrustError::WrongKeyForId { .. }), "{plugins}: {error:?}");
    }
    assert!(matches!(
        judged(&package, &store(&[trusting(2, "*")])),
        Ok(Standing::Unknown(TrustError::Unknown(..)))
    ));
    let stripped = Contents { signatures: None, ..package };
    assert_eq!(judged(&stripped, &store(&[trusting(1, "*")])), Ok(Standing::Unsigned));
}

#[test]
fn a_key_counts_for_what_it_may_ask() {
    let package = signed(&[key(1)]);
    let may = |asks: &[Ask]| {
        let asks = Some(asks.iter().copied().collect());
        store(&[TrustedKey { asks, ..trusting(1, "*") }])
    };
    assert!(trusted(&package, &may(&[Ask::Native, Ask::Network])), "control: all that it asks for");
    for (asks, lacking) in [(&[Ask::Network][..], "native"), (&[Ask::Native, Ask::WriteFiles], "network")] {
        let error = untrusted(&package, &may(asks));
        assert!(matches!(error, TrustError::Asks { ask, .. } if ask == lacking), "{error:?}");
    }
}

#[test]
fn each_thing_that_a_manifest_asks_for_is_a_kind_of_its_own() {
    let asks = |permissions: &str| {
        let text = MANIFEST.replace(r#""network": {"connect": ["a.example:1"]}"#, permissions);
        let manifest = hotcell_policy::Manifest::parse("manifest.json", text.as_bytes());
        hotcell_package::asks(&manifest.unwrap_or_else(|error| panic!("{error}")))
    };
    for (permissions, kind) in [
        (r#""network": {"connect": ["a.example:1"]}"#, Ask::Network),
        (r#""network": {"listen": ["127.0.0.1:8080"]}"#, Ask::Listen),
        (r#""process": {"spawn": ["/usr/bin/tr"]}"#, Ask::Programs),
        (r#""host_calls": ["prices.get"]"#, Ask::HostCalls),
    ] {
        assert_eq!(asks(permissions), [Ask::Native, kind].into(), "{permissions}");
    }
}

#[test]
fn every_file_is_covered_and_none_is_missing_or_changed() {
    let package = signed(&[key(1)]);
    let store = store(&[trusting(1, "*")]);
    assert!(trusted(&package, &store), "control");
    let with =
        |files: &[(&str, &str)]| Contents { signatures: package.signatures.clone(), ..contents(files) };
    let refused = |files: &[(&str, &str)]| judged(&with(files), &store).expect_err("is refused");
    let unlisted = SignatureError::UnlistedFile("lib2.so".to_owned());
    assert_eq!(refused(&[("g.so", "v1"), ("lib2.so", "x")]), unlisted);
    assert_eq!(refused(&[("g.so", "v2")]), SignatureError::DigestMismatch("g.so".to_owned()));
    assert_eq!(refused(&[("g.so", "v1 ")]), SignatureError::DigestMismatch("g.so".to_owned()));
    assert_eq!(refused(&[]), SignatureError::MissingFile("g.so".to_owned()));
    // A list that says of the new file what the old one was not signed for.
    let mut forged = Signatures::over(contents(&[("g.so", "v2")]).listing).to_string();
    let real = String::from_utf8(package.signatures.clone().expect("is signed")).expect("is text");
    let (_, real) = real.split_once("\"signatures\"").expect("has signatures");
    forged.truncate(forged.find("\"signatures\"").expect("has signatures"));
    let signatures = Some(format!("{forged}\"signatures\"{real}").into());
    let forged = Contents { signatures, ..contents(&[("g.so", "v2")]) };
    assert!(matches!(judged(&forged, &store), Err(SignatureError::Invalid(_))));
}

#[test]
fn another_algorithm_is_refused() {
    let package = signed(&[key(1)]);
    for name in ["none", "hmac", "ED25519", "ed25519ph", ""] {
        let forged = changed(&package, "\"ed25519\"", &format!("\"{name}\""));
        let refused = judged(&forged, &store(&[trusting(1, "*")]));
        assert_eq!(refused, Err(SignatureError::Algorithm(name.to_owned())));
    }
}

#[test]
fn a_signature_is_of_one_key_one_time_and_one_form() {
    let package = signed(&[key(1)]);
    let store = store(&[trusting(1, "*"), trusting(2, "*")]);
    let (one, two) = (KeyId::of(&key(1)).to_string(), KeyId::of(&key(2)).to_string());
    assert!(matches!(judged(&changed(&package, &one, &two), &store), Err(SignatureError::Invalid(_))));
    let signature = hex(&key(1).sign(statement(&package).as_bytes()).to_bytes());
    assert!(trusted(&package, &store));
    let expiring = format!("{signature}\", \"expires\": \"2999-01-01T00:00:00Z");
    assert!(matches!(
        judged(&changed(&package, &signature, &expiring), &store),
        Err(SignatureError::Invalid(_))
    ));
    let malleable = changed(&package, &signature, &with_order_added(&signature));
    assert!(matches!(judged(&malleable, &store), Err(SignatureError::Invalid(_))), "s + L");
    let upper = changed(&package, &signature, &signature.to_uppercase());
    assert!(matches!(judged(&upper, &store), Err(SignatureError::Malformed(_))));
    let twice = changed(
        &package,
        "\"signatures\": [",
        &format!(
            "\"signatures\": [{{\"algorithm\": \"ed25519\", \"key\": \"{one}\", \"signature\": \"{signature}\"}},"
        ),
    );
    assert!(matches!(judged(&twice, &store), Err(SignatureError::Malformed(_))), "a key signed twice");
}

fn statement(package: &Contents) -> String {
    Signatures::over(package.listing.clone()).statement(&KeyId::of(&key(1)), None).to_string()
}

/// The signature with the order of the group added to its scalar: it verifies where that is not looked at.
fn with_order_added(signature: &str) -> String {
    let order = "edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010";
    let byte = |text: &str, at: usize| {
        u16::from_str_radix(text.get(2 * at..2 * at + 2).expect("in range"), 16).expect("digits")
    };
    let mut carry = 0;
    let mut sum = String::from(signature.get(..64).expect("in range"));
    for at in 0..32 {
        let all = byte(signature, 32 + at) + byte(order, at) + carry;
        carry = all >> 8;
        sum.push_str(&hex(&[u8::try_from(all & 0xff).expect("a byte")]));
    }
    sum
}

#[test]
fn keys_for_which_anybody_can_sign_are_none() {
    KeyId::of(&key(1)).to_string().parse::<KeyId>().expect("control");
    // The neutral element, a point of order two, one of order eight, and no point at all.
    for weak in [
        "0100000000000000000000000000000000000000000000000000000000000000",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0200000000000000000000000000000000000000000000000000000000000000",
    ] {
        weak.parse::<KeyId>().expect_err(weak);
    }
}

#[test]
fn expiry_and_revocation_hold() {
    let mut package = signed(&[]);
    let mut signatures = Signatures::over(package.listing.clone());
    signatures.sign(&key(1), Some(now() + Duration::from_secs(1)));
    package.signatures = Some(signatures.to_string().into());
    let mut store = store(&[trusting(1, "*")]);
    let at = |store: &TrustStore, time| {
        store.judge(&package, &package.manifest("p").expect("a manifest"), time).map(|_| ())
    };
    at(&store, now()).expect("control: before it expires");
    let late = at(&store, now() + Duration::from_secs(1));
    assert!(matches!(late, Err(SignatureError::Untrusted(TrustError::Expired(..)))), "{late:?}");
    store.revoke_package(&package.listing.digest(), "a hole");
    assert_eq!(untrusted(&package, &store), TrustError::RevokedPackage("a hole".to_owned()));
    let mut store = self::store(&[trusting(1, "*")]);
    store.revoke_key(KeyId::of(&key(1)), "stolen");
    let read = TrustStore::parse(store.to_string().as_bytes()).expect("is read as it is written");
    assert!(matches!(untrusted(&package, &read), TrustError::RevokedKey(..)));
    store.add(trusting(1, "*")).expect_err("a revoked key is not trusted again by chance");
    assert!(store.remove(&KeyId::of(&key(1))));
    store.add(trusting(1, "*")).expect("after it was removed");
}

#[test]
fn of_several_signers_one_that_may_is_enough_and_a_wrong_signature_is_never_overlooked() {
    let package = signed(&[key(1), key(2)]);
    assert!(trusted(&package, &store(&[trusting(2, "*")])), "the other key is unknown");
    assert!(
        trusted(&package, &store(&[trusting(1, "org.*"), trusting(2, "*")])),
        "the other key is for others"
    );
    let mut revoked = store(&[trusting(1, "*"), trusting(2, "*")]);
    revoked.revoke_key(KeyId::of(&key(1)), "stolen");
    assert!(trusted(&package, &revoked), "the other key was revoked");
    revoked.revoke_key(KeyId::of(&key(2)), "stolen");
    assert!(matches!(untrusted(&package, &revoked), TrustError::RevokedKey(..)));
    let other = KeyId::of(&key(1)).to_string();
    let forged = changed(&package, &other, &KeyId::of(&key(3)).to_string());
    assert!(matches!(judged(&forged, &store(&[trusting(2, "*")])), Err(SignatureError::Invalid(_))));
}

#[test]
fn a_signature_made_outside_is_attached_if_it_is_one() {
    let package = signed(&[]);
    let mut signatures = Signatures::over(package.listing.clone());
    let id = KeyId::of(&key(1));
    let bytes = key(1).sign(signatures.statement(&id, None).as_bytes()).to_bytes();
    signatures.attach(id.clone(), Some(now()), bytes).expect_err("was not signed with a time");
    signatures.attach(KeyId::of(&key(2)), None, bytes).expect_err("is of another key");
    signatures.attach(id, None, bytes).expect("is right");
    let package = Contents { signatures: Some(signatures.to_string().into()), ..package };
    assert!(trusted(&package, &store(&[trusting(1, "*")])));
}

#[test]
fn documents_that_are_none_are_refused() {
    let package = signed(&[key(1)]);
    let store = store(&[trusting(1, "*")]);
    for (from, to) in [
        ("\"schema\": 1", "\"schema\": 2"),
        ("\"schema\"", "\"shema\""),
        ("\"g.so\"", "\"../g.so\""),
        ("\"g.so\"", "\"manifest.json\""),
        ("\"size\": 2", "\"size\": -2"),
        ("\"sha256\": \"", "\"sha256\": \"0"),
    ] {
        let refused = judged(&changed(&package, from, to), &store);
        assert!(matches!(refused, Err(SignatureError::Malformed(_))), "{from} -> {to}: {refused:?}");
    }
    let deep = Contents { signatures: Some(vec![b'['; 1 << 20]), ..package.clone() };
    assert!(matches!(judged(&deep, &store), Err(SignatureError::Malformed(_))));
    let none = Contents {
        signatures: Some(Signatures::over(package.listing.clone()).to_string().into()),
        ..package
    };
    assert!(matches!(judged(&none, &store), Err(SignatureError::Malformed(_))), "no signer");
    let text = store.to_string();
    TrustStore::parse(text.as_bytes()).expect("control");
    for (from, to) in [("\"schema\": 1", "\"schema\": 2"), ("\"key\"", "\"kay\""), ("\"*\"", "\"**\"")] {
        assert!(TrustStore::parse(text.replace(from, to).as_bytes()).is_err(), "{from} -> {to}");
    }
}
