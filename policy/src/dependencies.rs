//! In which order plugins are started, so that each finds what it needs.

use crate::manifest::Manifest;

/// Why there is no order.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DependencyError {
    /// Something is needed that is not there, or not in a version that fits.
    #[error("{needed} is needed by {}, and {}", .by.join(", by "), there_is(.found))]
    Missing {
        /// The id that is needed.
        needed: String,
        /// Every plugin that needs it, with its version and its requirement.
        by: Vec<String>,
        /// The versions of it that are there.
        found: Vec<String>,
    },
    /// Plugins that need each other.
    #[error("plugins need each other: {}", .0.join(" needs "))]
    Cycle(Vec<String>),
}

fn there_is(found: &[String]) -> String {
    match found {
        [] => "there is none".to_owned(),
        [only] => format!("there is {only}"),
        many => format!("there are {}", many.join(", ")),
    }
}

/// The order in which plugins are started: as they are given, but each after what it needs. Ends come in the opposite one.
///
/// `loaded` are plugins that run already. Of several versions that fit, the newest is taken. An optional dependency that is
/// not there is left out.
///
/// # Errors
/// Something that is needed is missing, or plugins need each other in a circle; all of them are named.
pub fn start_order(manifests: &[&Manifest], loaded: &[&Manifest]) -> Result<Vec<usize>, DependencyError> {
    let mut order = Vec::new();
    let mut path = Vec::new();
    for index in 0..manifests.len() {
        visit(index, manifests, loaded, &mut path, &mut order)?;
    }
    Ok(order)
}

fn visit(
    index: usize,
    manifests: &[&Manifest],
    loaded: &[&Manifest],
    path: &mut Vec<usize>,
    order: &mut Vec<usize>,
) -> Result<(), DependencyError> {
    let Some(manifest) = manifests.get(index) else { return Ok(()) };
    if order.contains(&index) {
        return Ok(());
    }
    let circle = path.iter().position(|visited| *visited == index);
    path.push(index);
    if let Some(start) = circle {
        let ids = path.iter().skip(start).filter_map(|index| manifests.get(*index));
        return Err(DependencyError::Cycle(ids.map(|manifest| named(manifest)).collect()));
    }
    for dependency in manifest.dependencies() {
        let fits =
            |other: &Manifest| *other.id() == dependency.id && dependency.version.matches(other.version());
        let newest = manifests.iter().enumerate().filter(|(_, other)| fits(other));
        let newest = newest.max_by(|(_, one), (_, other)| one.version().cmp(other.version()));
        match newest {
            Some((needed, _)) => visit(needed, manifests, loaded, path, order)?,
            None if dependency.optional || loaded.iter().any(|other| fits(other)) => {}
            None => return Err(missing(dependency.id.as_str(), manifests, loaded)),
        }
    }
    path.pop();
    order.push(index);
    Ok(())
}

fn named(manifest: &Manifest) -> String {
    format!("{} {}", manifest.id(), manifest.version())
}

/// Names every party, since a version that suits one may be what another refuses.
fn missing(needed: &str, manifests: &[&Manifest], loaded: &[&Manifest]) -> DependencyError {
    let all = || manifests.iter().chain(loaded);
    let by = all().filter_map(|manifest| {
        let dependency =
            manifest.dependencies().iter().find(|dependency| dependency.id.as_str() == needed)?;
        Some(format!("{} ({})", named(manifest), dependency.version))
    });
    let found = all().filter(|manifest| manifest.id().as_str() == needed).map(|manifest| named(manifest));
    DependencyError::Missing { needed: needed.to_owned(), by: by.collect(), found: found.collect() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing, reason = "a test fails by panicking")]

    use serde_json::json;

    use super::{DependencyError, start_order};
    use crate::Manifest;

    fn manifest(id: &str, version: &str, needs: &[(&str, &str, bool)]) -> Manifest {
        let mut text = json!({
            "schema": 1, "id": id, "name": "n", "version": version, "plugin_type": "dylib", "dylib_path": "a.so",
        });
        let needs: Vec<_> = needs
            .iter()
            .map(|(id, version, optional)| json!({ "id": id, "version": version, "optional": optional }))
            .collect();
        if !needs.is_empty() {
            text["dependencies"] = needs.into();
        }
        Manifest::parse("manifest.json", text.to_string().as_bytes()).expect("valid")
    }

    fn order(manifests: &[Manifest], loaded: &[Manifest]) -> Result<Vec<usize>, DependencyError> {
        start_order(&manifests.iter().collect::<Vec<_>>(), &loaded.iter().collect::<Vec<_>>())
    }

    #[test]
    fn each_comes_after_what_it_needs_and_otherwise_as_given() {
        let set = [
            manifest("x.app", "1.0.0", &[("x.db", "^1", false), ("x.log", "*", false)]),
            manifest("x.other", "1.0.0", &[]),
            manifest("x.db", "1.2.0", &[("x.log", "^2", false)]),
            manifest("x.log", "2.0.0", &[]),
        ];
        assert_eq!(order(&set, &[]), Ok(vec![3, 2, 0, 1]));
    }

    #[test]
    fn the_newest_version_that_fits_is_needed_and_optional_ones_may_be_missing() {
        let set = [
            manifest("x.app", "1.0.0", &[("x.db", "^1", false), ("x.none", "^1", true)]),
            manifest("x.db", "1.1.0", &[]),
            manifest("x.db", "1.9.0", &[]),
            manifest("x.db", "2.0.0", &[]),
        ];
        assert_eq!(order(&set, &[]), Ok(vec![2, 0, 1, 3]));
        let alone = [manifest("x.app", "1.0.0", &[("x.db", "^1", false)])];
        assert_eq!(order(&alone, &[manifest("x.db", "1.0.0", &[])]), Ok(vec![0]), "it runs already");
    }

    #[test]
    fn what_is_missing_or_does_not_fit_is_named_with_every_party() {
        let set = [
            manifest("x.one", "1.0.0", &[("x.db", "^1", false)]),
            manifest("x.two", "3.0.0", &[("x.db", "^2", false)]),
            manifest("x.db", "1.5.0", &[]),
        ];
        let error = order(&set, &[]).expect_err("nothing fits both").to_string();
        for part in ["x.one 1.0.0 (^1)", "x.two 3.0.0 (^2)", "there is x.db 1.5.0"] {
            assert!(error.contains(part), "{error}");
        }
        let error = order(&set[..1], &[]).expect_err("it is missing").to_string();
        assert!(error.ends_with("there is none"), "{error}");
    }

    #[test]
    fn a_circle_is_named_whole() {
        let set = [
            manifest("x.a", "1.0.0", &[("x.b", "*", false)]),
            manifest("x.b", "1.0.0", &[("x.c", "*", true)]),
            manifest("x.c", "1.0.0", &[("x.b", "*", false)]),
        ];
        let error = order(&set, &[]).expect_err("a circle").to_string();
        assert!(error.contains("x.b 1.0.0 needs x.c 1.0.0 needs x.b 1.0.0"), "{error}");
        let own = [manifest("x.a", "1.0.0", &[("x.a", "*", false)])];
        assert!(matches!(order(&own, &[]), Err(DependencyError::Cycle(_))));
    }

    #[test]
    fn a_requirement_is_as_short_as_the_key_table_says() {
        let of = |spaces: usize| {
            let text = json!({
                "schema": 1, "id": "x.a", "name": "n", "version": "1.0.0", "plugin_type": "dylib",
                "dylib_path": "a.so", "dependencies": [{ "id": "x.b", "version": format!("^1{}", " ".repeat(spaces)) }],
            });
            Manifest::parse("manifest.json", text.to_string().as_bytes())
        };
        assert!(of(126).is_ok(), "just inside");
        assert!(of(127).expect_err("too long").to_string().contains("more than 128 characters"));
    }

    #[test]
    fn long_chains_are_not_too_deep() {
        let set: Vec<_> = (0..500)
            .map(|number| {
                manifest(&format!("x.p{number}"), "1.0.0", &[(&format!("x.p{}", number + 1), "*", true)])
            })
            .collect();
        assert_eq!(order(&set, &[]).expect("an order").first(), Some(&499));
    }
}
