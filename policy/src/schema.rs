//! Whether every value that one JSON Schema accepts is accepted by another.
//!
//! Sound, not complete: "yes" holds for every value, and what cannot be told is "no", with the reason. Understood is what types are
//! described by (JSON Schema 2020-12: `type`, `enum`, `const`, `properties`, `required`, `additionalProperties`, `items`,
//! `prefixItems`, bounds, `anyOf`, `oneOf`, `allOf`, `$ref` into `$defs`); any other keyword has to be the same on both sides. Both
//! schemas may be hostile: depth and work are bounded.

mod parts;

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use parts::{
    bounded, differ, format_fits, has_key, members, merged, named_types, names, property, resolve, scalar,
    size, types, values, within, without,
};

/// The work that may be done to compare all exports of a plugin, in values that are looked at.
pub(crate) const WORK: usize = 1_000_000;

/// Depth of one comparison.
const DEPTH_MAX: usize = 64;

/// References that lead to one another.
const REFERENCES_MAX: usize = 16;

/// Keywords that say nothing of which values are accepted.
const ANNOTATIONS: [&str; 11] = [
    "$schema",
    "$comment",
    "$defs",
    "definitions",
    "title",
    "description",
    "default",
    "examples",
    "deprecated",
    "readOnly",
    "writeOnly",
];

/// Keywords that mean the same wherever else in a schema they stand, or whose neighbours are looked at here.
const UNDERSTOOD: [&str; 25] = [
    "type",
    "enum",
    "const",
    "properties",
    "required",
    "additionalProperties",
    "minProperties",
    "maxProperties",
    "items",
    "prefixItems",
    "minItems",
    "maxItems",
    "uniqueItems",
    "minLength",
    "maxLength",
    "pattern",
    "format",
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "multipleOf",
    "anyOf",
    "oneOf",
    "allOf",
];

/// Keywords whose meaning depends on all that stands beside them.
const ENTANGLED: [&str; 2] = ["unevaluatedProperties", "unevaluatedItems"];

/// The version of the language that is understood; also where none is named.
const DIALECT: &str = "https://json-schema.org/draft/2020-12/schema";

const TYPES: [&str; 7] = ["null", "boolean", "integer", "number", "string", "array", "object"];

type Schema = Map<String, Value>;

/// Whether every value that `narrow` accepts is accepted by `wide`. Takes what it costs from `work`, of which [`WORK`] is enough.
///
/// # Errors
/// Where and why not, or why that cannot be told.
pub(crate) fn fits(narrow: &Value, wide: &Value, work: &mut usize) -> Result<(), String> {
    for schema in [narrow, wide] {
        let dialect = schema.get("$schema").and_then(Value::as_str).unwrap_or(DIALECT);
        if dialect.trim_end_matches('#') != DIALECT {
            return Err(format!("types of the dialect {dialect} cannot be compared"));
        }
        if has_key(schema, "$id") || has_key(schema, "$dynamicRef") {
            return Err("types with an `$id` or a `$dynamicRef` cannot be compared".to_owned());
        }
    }
    let mut comparison = Comparison { narrow, wide, work, assumed: Vec::new() };
    comparison.fits(narrow, wide, &Place::default())
}

/// Where a comparison is: a path for people, and how deep it is in the value and in all.
#[derive(Clone, Debug, Default)]
struct Place {
    path: String,
    level: usize,
    depth: usize,
}

impl Place {
    /// A part of the value here.
    fn inside(&self, part: &str) -> Place {
        Place { path: format!("{}/{part}", self.path), level: self.level + 1, depth: self.depth + 1 }
    }

    /// The same value, said by another part of a schema.
    fn again(&self) -> Place {
        Place { depth: self.depth + 1, ..self.clone() }
    }

    fn no<T>(&self, why: impl std::fmt::Display) -> Result<T, String> {
        let path = if self.path.is_empty() { "/" } else { &self.path };
        Err(format!("{path}: {why}"))
    }
}

struct Comparison<'v> {
    narrow: &'v Value,
    wide: &'v Value,
    /// What is left of the work that may be done.
    work: &'v mut usize,
    /// What is being compared, and at which level of the value: further inside the same two are taken to fit, since a value that
    /// breaks them there would break them further out, too, and no value is endless.
    assumed: Vec<(Value, Value, usize)>,
}

impl Comparison<'_> {
    /// Takes from the work that may be done.
    fn spend(&mut self, work: usize, at: &Place) -> Result<(), String> {
        let left = self.work.checked_sub(work);
        *self.work = left.unwrap_or(0);
        match left {
            Some(_) if at.depth <= DEPTH_MAX => Ok(()),
            _ => at.no("the types are too large to compare"),
        }
    }

    fn fits(&mut self, narrow: &Value, wide: &Value, at: &Place) -> Result<(), String> {
        self.spend(size(narrow) + size(wide), at)?;
        let narrow = resolve(self.narrow, narrow, at)?;
        let wide = resolve(self.wide, wide, at)?;
        // Looked at now, and compared with all that is being compared.
        self.spend((size(&narrow) + size(&wide)) * (2 + self.assumed.len()), at)?;
        let known = |(one, other, level): &(Value, Value, usize)| {
            *level < at.level && *one == narrow && *other == wide
        };
        if self.assumed.iter().any(known) {
            return Ok(());
        }
        self.assumed.push((narrow.clone(), wide.clone(), at.level));
        let fits = self.resolved(&narrow, &wide, at);
        self.assumed.pop();
        fits
    }

    fn resolved(&mut self, narrow: &Value, wide: &Value, at: &Place) -> Result<(), String> {
        let empty = Schema::new();
        let wide = match wide {
            Value::Bool(true) => return Ok(()),
            Value::Object(wide) => wide,
            Value::Bool(false) if *narrow == Value::Bool(false) => return Ok(()),
            _ => return at.no("nothing is accepted any more"),
        };
        let narrow = match narrow {
            Value::Bool(false) => return Ok(()),
            Value::Object(narrow) => narrow,
            Value::Bool(true) => &empty,
            _ => return at.no("no schema"),
        };
        // One of several: each of them has to fit, with what is said beside.
        for key in ["anyOf", "oneOf"] {
            let Some(Value::Array(members_of)) = narrow.get(key) else { continue };
            let rest = without(narrow, key);
            self.spend(members_of.len() * (members(&rest) + members(wide)), at)?;
            if self.fits(&Value::Object(rest.clone()), &Value::Object(wide.clone()), &at.again()).is_ok() {
                return Ok(());
            }
            let says_more = rest.keys().any(|key| !ANNOTATIONS.contains(&key.as_str()));
            for member in members_of {
                let member = match says_more {
                    true => merged(&rest, &resolve(self.narrow, member, at)?, at)?,
                    false => member.clone(),
                };
                self.fits(&member, &Value::Object(wide.clone()), &at.again())?;
            }
            return Ok(());
        }
        if let Some(Value::Array(parts)) = narrow.get("allOf") {
            let mut all = Value::Object(without(narrow, "allOf"));
            for member in parts {
                self.spend(size(&all) + size(member), at)?;
                let member = resolve(self.narrow, member, at)?;
                let Value::Object(rest) = &all else { break };
                all = merged(rest, &member, at)?;
            }
            return self.fits(&all, &Value::Object(wide.clone()), &at.again());
        }
        self.plain(narrow, wide, at)
    }

    /// `narrow` is no combination of others.
    fn plain(&mut self, narrow: &Schema, wide: &Schema, at: &Place) -> Result<(), String> {
        let types = types(narrow);
        if let Some(values) = values(narrow).filter(|values| values.len() > 1) {
            let rest = without(&without(narrow, "enum"), "const");
            self.spend(values.len() * (members(&rest) + members(wide)), at)?;
            for value in values {
                let mut only = rest.clone();
                only.insert("const".to_owned(), value.clone());
                self.plain(&only, wide, &at.again())?;
            }
            return Ok(());
        }
        for (key, said) in wide {
            match key.as_str() {
                key if ANNOTATIONS.contains(&key) => {}
                "type" => {
                    let accepted = named_types(wide);
                    let ok =
                        |of: &str| accepted.contains(of) || (of == "integer" && accepted.contains("number"));
                    if let Some(other) = types.iter().find(|of| !ok(of)) {
                        return at.no(format!("{other} is not accepted any more"));
                    }
                }
                "enum" | "const" => {
                    let one = [said.clone()];
                    let accepted =
                        if key == "const" { Some(&one[..]) } else { said.as_array().map(Vec::as_slice) };
                    let accepted = accepted.unwrap_or_default();
                    let Some(values) = values(narrow) else {
                        return at.no("not every value is accepted any more");
                    };
                    self.spend(values.len() * accepted.len(), at)?;
                    if let Some(other) = values.into_iter().find(|value| !accepted.contains(value)) {
                        return at.no(format!("{other} is not accepted any more"));
                    }
                }
                "anyOf" | "oneOf" => self.one_of(narrow, said, key == "oneOf", at)?,
                "allOf" => {
                    for member in said.as_array().into_iter().flatten() {
                        self.fits(&Value::Object(narrow.clone()), member, &at.again())?;
                    }
                }
                "properties" | "required" | "additionalProperties" | "minProperties" | "maxProperties"
                    if !types.contains("object") => {}
                "items" | "prefixItems" | "minItems" | "maxItems" | "uniqueItems"
                    if !types.contains("array") => {}
                "minLength" | "maxLength" | "pattern" if !types.contains("string") => {}
                "minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum" | "multipleOf"
                    if !types.contains("integer") && !types.contains("number") => {}
                // A constant has the bounds that it has.
                _ if scalar(narrow).is_some_and(|value| within(value, key, said)) => {}
                "properties" | "additionalProperties" => self.properties(narrow, wide, at)?,
                "required" => {
                    let has = names(narrow.get("required"));
                    if let Some(missing) = names(Some(said)).difference(&has).next() {
                        return at.no(format!("`{missing}` is required now"));
                    }
                }
                "items" | "prefixItems" => self.items(narrow, wide, at)?,
                "minimum" | "exclusiveMinimum" | "maximum" | "exclusiveMaximum" => {
                    if !bounded(narrow, key, said) {
                        return at.no(format!("`{key}` is {said} now"));
                    }
                }
                "minLength" | "minItems" | "minProperties" => {
                    let least = narrow.get(key).and_then(Value::as_u64).unwrap_or(0);
                    let least = match key.as_str() {
                        "minProperties" => least.max(names(narrow.get("required")).len() as u64),
                        _ => least,
                    };
                    if said.as_u64().is_none_or(|said| least < said) {
                        return at.no(format!("`{key}` is {said} now"));
                    }
                }
                "maxLength" | "maxItems" | "maxProperties" => {
                    let most = narrow.get(key).and_then(Value::as_u64);
                    if said.as_u64().is_none_or(|said| most.is_none_or(|most| most > said)) {
                        return at.no(format!("`{key}` is {said} now"));
                    }
                }
                "uniqueItems" if *said == Value::Bool(false) => {}
                "format" if format_fits(narrow, said) => {}
                // Whatever it means, it means the same; a reference in it might not.
                key if narrow.get(key) == Some(said)
                    && !ENTANGLED.contains(&key)
                    && !has_key(said, "$ref") => {}
                _ => return at.no(format!("whether `{key}` accepts the same cannot be told")),
            }
        }
        Ok(())
    }

    fn one_of(&mut self, narrow: &Schema, members: &Value, exactly: bool, at: &Place) -> Result<(), String> {
        let members: Vec<_> = members.as_array().into_iter().flatten().collect();
        let narrow = Value::Object(narrow.clone());
        let mut first = None;
        let mut why = at.no("none of several is accepted any more");
        for (number, member) in members.iter().enumerate() {
            match self.fits(&narrow, member, &at.again()) {
                Ok(()) => {
                    first = Some(number);
                    break;
                }
                // The best explanation is the deepest.
                Err(text) if why.as_ref().is_err_and(|known| known.len() < text.len()) => why = Err(text),
                Err(_) => {}
            }
        }
        let Some(first) = first else { return why };
        let others = members.iter().enumerate().filter(|(number, _)| *number != first);
        for (_, other) in others.filter(|_| exactly) {
            if !self.disjoint(&narrow, other, at) {
                return at.no("whether exactly one of several is accepted cannot be told");
            }
        }
        Ok(())
    }

    /// Whether no value of the narrow side is one of this part of the wide one. `false` where that cannot be told.
    fn disjoint(&mut self, narrow: &Value, wide: &Value, at: &Place) -> bool {
        if self.spend(size(narrow) + size(wide), at).is_err() {
            return false;
        }
        let Ok(narrow) = resolve(self.narrow, narrow, at) else { return false };
        let Ok(wide) = resolve(self.wide, wide, at) else { return false };
        let (Value::Object(narrow), Value::Object(wide)) = (&narrow, &wide) else { return false };
        let (here, there) = (types(narrow), types(wide));
        let overlaps = |of: &str, types: &BTreeSet<&str>| {
            types.contains(of) || (of == "integer" && types.contains("number"))
        };
        if !here.iter().any(|of| overlaps(of, &there)) && !there.iter().any(|of| overlaps(of, &here)) {
            return true;
        }
        if let (Some(one), Some(other)) = (values(narrow), values(wide)) {
            return one.iter().all(|value| other.iter().all(|other| differ(value, other)));
        }
        // Objects that differ in what both need to have, such as the name of a variant.
        let both = names(narrow.get("required"));
        let both = both.intersection(&names(wide.get("required"))).cloned().collect::<Vec<_>>();
        if here.len() != 1 || !here.contains("object") {
            return false;
        }
        let differ = |name: &String| match (property(narrow, name), property(wide, name)) {
            (Some(one), Some(other)) => self.disjoint(one, other, &at.inside(name)),
            _ => false,
        };
        // A variant that is a key of its own, where the other has no such key.
        let closed = wide.get("additionalProperties") == Some(&Value::Bool(false))
            && !wide.contains_key("patternProperties");
        both.iter().any(differ)
            || names(narrow.get("required")).iter().any(|name| closed && property(wide, name).is_none())
    }

    fn properties(&mut self, narrow: &Schema, wide: &Schema, at: &Place) -> Result<(), String> {
        let any = Value::Bool(true);
        // What names the narrow side does not list may hold.
        let others = match narrow.get("additionalProperties") {
            Some(others) if !narrow.contains_key("patternProperties") => others,
            _ => &any,
        };
        let listed = |schema: &Schema| -> BTreeSet<String> {
            schema
                .get("properties")
                .and_then(Value::as_object)
                .into_iter()
                .flat_map(Map::keys)
                .cloned()
                .collect()
        };
        let (here, there) = (listed(narrow), listed(wide));
        for name in &there {
            let (Some(accepted), place) = (property(wide, name), at.inside(name)) else { continue };
            self.fits(property(narrow, name).unwrap_or(others), accepted, &place)?;
        }
        let Some(accepted) = wide.get("additionalProperties") else { return Ok(()) };
        if wide.contains_key("patternProperties") {
            return at.no("whether `patternProperties` accepts the same cannot be told");
        }
        for name in here.difference(&there) {
            let said = property(narrow, name).unwrap_or(others);
            self.fits(said, accepted, &at.inside(name))?;
        }
        self.fits(others, accepted, &at.inside("*"))
    }

    fn items(&mut self, narrow: &Schema, wide: &Schema, at: &Place) -> Result<(), String> {
        let any = Value::Bool(true);
        let first = |schema: &Schema| -> Vec<Value> {
            schema.get("prefixItems").and_then(Value::as_array).cloned().unwrap_or_default()
        };
        // Before 2020-12, a list stood here.
        if [narrow, wide].iter().any(|schema| schema.get("items").is_some_and(Value::is_array)) {
            return at.no("whether `items` accepts the same cannot be told");
        }
        let (here, there) = (first(narrow), first(wide));
        let (rest, accepted) = (narrow.get("items").unwrap_or(&any), wide.get("items").unwrap_or(&any));
        let most = narrow.get("maxItems").and_then(Value::as_u64).and_then(|most| usize::try_from(most).ok());
        let is_there = |number: usize| most.is_none_or(|most| number < most);
        let last = here.len().max(there.len());
        for number in (0..last).filter(|number| is_there(*number)) {
            let (said, wanted) = (here.get(number).unwrap_or(rest), there.get(number).unwrap_or(accepted));
            self.fits(said, wanted, &at.inside(&number.to_string()))?;
        }
        if is_there(last) { self.fits(rest, accepted, &at.inside("*")) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests;
