//! What plugins need besides each other, and in which order they are started, so that each finds it.

use crate::manifest::{Dependency, Manifest, unmet};
use crate::names::PluginId;

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
        let newest = manifests.iter().enumerate().filter(|(_, other)| dependency.is_met_by(other));
        let newest = newest.max_by(|(_, one), (_, other)| one.version().cmp(other.version()));
        match newest {
            Some((needed, _)) => visit(needed, manifests, loaded, path, order)?,
            None if dependency.optional || loaded.iter().any(|other| dependency.is_met_by(other)) => {}
            None => return Err(missing(dependency.id.as_str(), manifests, loaded)),
        }
    }
    path.pop();
    order.push(index);
    Ok(())
}

/// What plugins need that is neither among them nor loaded, of those that could be had: what the given ones name, what those
/// name in turn, and so on.
///
/// `find` tells the one that could be had of an id. An optional dependency is left out where it does not fit, or lacks itself
/// what it needs, or needs who asks for it. What else does not fit or is not to be had is left to [`start_order`], which names it.
///
/// # Errors
/// What `find` fails with.
pub fn needed_besides<E>(
    given: &[&Manifest],
    loaded: &[&Manifest],
    find: impl FnMut(&PluginId) -> Result<Option<Manifest>, E>,
) -> Result<Vec<Manifest>, E> {
    let mut search = Search { given, loaded, taken: Vec::new(), given_up: Vec::new(), find };
    for manifest in given {
        search.complete(manifest, &mut Vec::new())?;
    }
    Ok(search.taken)
}

struct Search<'m, F> {
    given: &'m [&'m Manifest],
    loaded: &'m [&'m Manifest],
    taken: Vec<Manifest>,
    /// Optional requirements, each tried once: hostile manifests could name each other on countless ways.
    given_up: Vec<(PluginId, semver::VersionReq)>,
    find: F,
}

impl<E, F: FnMut(&PluginId) -> Result<Option<Manifest>, E>> Search<'_, F> {
    /// Takes what a plugin needs; whether it has all of it now that it cannot do without. `path` is who asks for it.
    fn complete(&mut self, manifest: &Manifest, path: &mut Vec<PluginId>) -> Result<bool, E> {
        path.push(manifest.id().clone());
        let mut is_whole = true;
        for dependency in manifest.dependencies() {
            if !dependency.optional {
                is_whole &= self.meet(dependency, path)?;
                continue;
            }
            let (before, wanted) = (self.taken.len(), (dependency.id.clone(), dependency.version.clone()));
            if !self.given_up.contains(&wanted) && !self.meet(dependency, path)? {
                self.taken.truncate(before);
                self.given_up.push(wanted);
            }
        }
        path.pop();
        Ok(is_whole)
    }

    fn meet(&mut self, dependency: &Dependency, path: &mut Vec<PluginId>) -> Result<bool, E> {
        if path.contains(&dependency.id) {
            return Ok(false);
        }
        let mut present = self.given.iter().chain(self.loaded).copied().chain(&self.taken);
        if present.any(|other| dependency.is_met_by(other)) {
            return Ok(true);
        }
        let found = (self.find)(&dependency.id)?;
        // That something necessary has other types is said by who loads it.
        let has_types =
            |found: &Manifest| !dependency.optional || unmet(&dependency.exports, found.exports()).is_empty();
        let Some(found) = found.filter(|found| dependency.is_met_by(found) && has_types(found)) else {
            return Ok(false);
        };
        self.taken.push(found.clone());
        self.complete(&found, path)
    }
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

    use super::named;
    use super::{DependencyError, needed_besides, start_order};
    use crate::{Manifest, PluginId};

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

    /// The versions and ids that are taken for the given ones of those that could be had.
    fn besides(given: &[Manifest], loaded: &[Manifest], to_be_had: &[Manifest]) -> Vec<String> {
        let given: Vec<_> = given.iter().collect();
        let find =
            |id: &PluginId| Ok::<_, ()>(to_be_had.iter().find(|manifest| manifest.id() == id).cloned());
        let taken = needed_besides(&given, &loaded.iter().collect::<Vec<_>>(), find).expect("cannot fail");
        taken.iter().map(named).collect()
    }

    #[test]
    fn what_is_needed_is_taken_with_what_that_needs_and_nothing_else() {
        let app = manifest("x.app", "1.0.0", &[("x.db", "^1", false), ("x.gone", "*", false)]);
        let to_be_had = [
            manifest("x.db", "1.2.0", &[("x.log", "^2", false)]),
            manifest("x.log", "2.0.0", &[]),
            manifest("x.other", "1.0.0", &[]),
        ];
        let app = [app];
        assert_eq!(besides(&app, &[], &to_be_had), ["x.db 1.2.0", "x.log 2.0.0"]);
        assert_eq!(besides(&app, &[manifest("x.log", "2.1.0", &[])], &to_be_had), ["x.db 1.2.0"]);
        assert_eq!(besides(&app, &[manifest("x.log", "1.0.0", &[])], &to_be_had).len(), 2, "it does not fit");
        let given = [app[0].clone(), manifest("x.db", "1.0.0", &[])];
        assert!(besides(&given, &[], &to_be_had).is_empty(), "what is given goes before what is newer");
        let unfit = [manifest("x.db", "2.0.0", &[])];
        assert!(besides(&app, &[], &unfit).is_empty());
    }

    #[test]
    fn an_optional_one_is_taken_whole_or_not_at_all() {
        let app = [manifest("x.app", "1.0.0", &[("x.extra", "*", true)])];
        let extra = manifest("x.extra", "1.0.0", &[("x.log", "*", false), ("x.db", "*", false)]);
        let log = manifest("x.log", "1.0.0", &[]);
        let whole = [extra.clone(), log.clone(), manifest("x.db", "1.0.0", &[])];
        assert_eq!(besides(&app, &[], &whole), ["x.extra 1.0.0", "x.log 1.0.0", "x.db 1.0.0"]);
        assert!(besides(&app, &[], &[extra, log]).is_empty(), "it lacks one");
        let picky = manifest("x.app", "1.0.0", &[("x.extra", "^2", true)]);
        let other = manifest("x.other", "1.0.0", &[("x.extra", "^1", true)]);
        let unfit_for_one = [manifest("x.extra", "1.0.0", &[])];
        assert_eq!(besides(&[picky, other], &[], &unfit_for_one), ["x.extra 1.0.0"]);
        let back = manifest("x.extra", "1.0.0", &[("x.app", "*", false)]);
        assert!(besides(&app, &[], &[back]).is_empty(), "it needs who asks for it");
    }

    #[test]
    fn a_circle_is_taken_to_be_named_and_countless_ways_are_not_all_tried() {
        let app = [manifest("x.app", "1.0.0", &[("x.a", "*", false)])];
        let circle = [
            manifest("x.a", "1.0.0", &[("x.b", "*", false)]),
            manifest("x.b", "1.0.0", &[("x.a", "*", false)]),
        ];
        assert_eq!(besides(&app, &[], &circle), ["x.a 1.0.0", "x.b 1.0.0"]);
        let name = |number: usize| format!("x.p{number}");
        let ways: Vec<_> = (0..60)
            .map(|number| {
                let later: Vec<_> = (number + 1..60).map(name).collect();
                let mut needs: Vec<_> = later.iter().map(|id| (id.as_str(), "*", true)).collect();
                needs.push(("x.gone", "*", false));
                manifest(&name(number), "1.0.0", &needs)
            })
            .collect();
        let app = [manifest("x.app", "1.0.0", &[("x.p0", "*", true)])];
        assert!(besides(&app, &[], &ways).is_empty());
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
        assert_eq!(besides(&set[..1], &[], &set).len(), 499, "the last one does without what is not there");
    }
}
