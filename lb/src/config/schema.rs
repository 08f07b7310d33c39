//! The JSON Schema of the configuration file, for editors: they complete keys, show their meaning and mark mistakes.
//!
//! Names, types and defaults come from the file form. Descriptions come from the comments of `config/lb.toml`, so that
//! each key is described in one place. Ranges are part of the descriptions; `lb check` checks them.

use std::collections::BTreeMap;

use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

use super::file;
use super::section::{Partial, Scope};

/// The file that describes every key.
const DESCRIBED: &str = include_str!("../../../config/lb.toml");

/// The schema, in draft 2020-12.
#[must_use]
pub fn schema() -> Value {
    let mut schema = Value::from(schemars::schema_for!(file::File));
    let described = descriptions(DESCRIBED);
    describe(&mut schema, "", &described);
    let sections: Vec<_> = schema["properties"].as_object().into_iter().flatten().map(section_of).collect();
    for (section, definition) in sections {
        for definition in [&definition, &format!("Partial{definition}")] {
            if let Some(definition) = schema["$defs"].get_mut(definition) {
                describe(definition, &section, &described);
            }
        }
        if !schema["$defs"][&definition].is_object() {
            continue;
        }
        // A section's default is that of its keys.
        schema["properties"][&section].as_object_mut().map(|property| property.remove("default"));
    }
    let sections =
        [("LoadReports", "strategy.load_reports"), ("Probe", "strategy.probe"), ("ShadowTable", "strategy.shadow")];
    for (name, section) in sections {
        if let Some(definition) = schema["$defs"].get_mut(name) {
            describe(definition, section, &described);
        }
    }
    forget_global(&mut schema, "PartialTimeouts", file::PartialTimeouts::KEYS);
    forget_global(&mut schema, "PartialLimits", file::PartialLimits::KEYS);
    schema["title"] = json!("lb.toml");
    schema["description"] = json!("The configuration of lb. Every key is optional.");
    schema
}

/// Removes the keys that only the global section may have.
fn forget_global(schema: &mut Value, partial: &str, keys: &[(&str, Scope)]) {
    let Some(properties) = schema["$defs"][partial]["properties"].as_object_mut() else { return };
    properties.retain(|name, _| !keys.iter().any(|(key, scope)| key == name && matches!(scope, Scope::Global(_))));
}

/// For a type of `lb-balance`, which has nothing to do with schemas.
pub(super) fn hash(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "enum": ["xxh3", "sha256"] })
}

/// Like [`hash`].
pub(super) fn fallback(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "enum": ["least_connections", "round_robin"] })
}

/// The name of a section, and the name of its definition. For a key that is no section, a definition that is not there.
fn section_of((section, property): (&String, &Value)) -> (String, String) {
    let reference = property["$ref"].as_str().or_else(|| property["items"]["$ref"].as_str()).unwrap_or_default();
    (section.clone(), reference.trim_start_matches("#/$defs/").to_owned())
}

/// Puts the description of each key of `section` beside its type.
fn describe(object: &mut Value, section: &str, described: &BTreeMap<String, String>) {
    let Some(properties) = object.get_mut("properties").and_then(Value::as_object_mut) else { return };
    for (key, property) in properties {
        let path = if section.is_empty() { key.clone() } else { format!("{section}.{key}") };
        if let Some(text) = described.get(&path) {
            property["description"] = json!(text);
        }
    }
}

/// From `section.key` to the comment at that key, and from `section` to its headline.
fn descriptions(text: &str) -> BTreeMap<String, String> {
    let mut described = BTreeMap::new();
    let (mut section, mut headline) = (String::new(), String::new());
    let mut comment: Vec<&str> = Vec::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# ──") {
            headline = rest.trim_matches(['─', ' ']).to_owned();
            comment.clear();
            continue;
        }
        // examples are indented, and a default has no space before its key
        let setting = line.strip_prefix("#   ").or_else(|| line.strip_prefix('#').filter(|one| !one.starts_with(' ')));
        let setting = setting.unwrap_or(line).trim();
        if let Some(name) = setting.strip_prefix('[') {
            name.trim_start_matches('[').split(']').next().unwrap_or_default().clone_into(&mut section);
            let text = if comment.is_empty() { headline.clone() } else { comment.join(" ") };
            let first = section.split('.').next().unwrap_or_default();
            described.entry(first.to_owned()).or_insert_with(|| headline.clone());
            described.entry(section.clone()).or_insert(text);
            comment.clear();
        } else if let Some(text) = line.strip_prefix("# ").filter(|text| !text.starts_with("  ")) {
            comment.push(text);
            continue;
        }
        if let Some((key, value)) = setting.split_once(" = ")
            && key.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
        {
            let beside = value.rsplit_once("  # ").map(|(_, text)| text.to_owned());
            let text = beside.unwrap_or_else(|| comment.join(" "));
            let path = if section.is_empty() { key.to_owned() } else { format!("{section}.{key}") };
            described.entry(path).or_insert(text);
            comment.clear();
        } else if line.is_empty() {
            comment.clear();
        }
    }
    described
}

#[cfg(test)]
mod tests {
    use super::super::{Source, load_text};
    use super::*;

    /// Every property with its path, through references.
    fn properties(schema: &Value, object: &Value, path: &str, found: &mut Vec<(String, Value)>) {
        let reference =
            |value: &Value| value["$ref"].as_str().map(|name| name.trim_start_matches("#/$defs/").to_owned());
        let object = match reference(object).or_else(|| reference(&object["items"])) {
            Some(name) => &schema["$defs"][name],
            None => object,
        };
        for (key, property) in object["properties"].as_object().into_iter().flatten() {
            let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            found.push((path.clone(), property.clone()));
            properties(schema, property, &path, found);
        }
    }

    #[test]
    fn every_key_of_the_file_has_type_and_description() {
        let schema = schema();
        let mut found = Vec::new();
        properties(&schema, &schema, "", &mut found);
        assert!(found.len() > 70, "{}", found.len());
        for (path, property) in &found {
            assert!(property["description"].as_str().is_some_and(|text| text.len() > 5), "{path}: {property}");
        }
        let keys: Vec<&str> = found.iter().map(|(path, _)| path.as_str()).collect();
        for key in
            ["plugin_dirs", "proxy.listen", "strategy.hash_on", "backends.weight", "routes.host", "retry.attempts"]
        {
            assert!(keys.contains(&key), "{key} is not in {keys:?}");
        }
    }

    #[test]
    fn unknown_keys_are_refused_and_defaults_are_stated() {
        let schema = schema();
        assert_eq!(schema["additionalProperties"], json!(false));
        assert!(schema["$defs"].as_object().unwrap().values().all(Value::is_object));
        assert_eq!(schema["$defs"]["Limits"]["additionalProperties"], json!(false));
        assert_eq!(schema["$defs"]["Retry"]["properties"]["attempts"]["default"], json!(2));
    }

    #[test]
    fn a_pool_has_the_keys_that_have_a_meaning_for_it() {
        let schema = schema();
        assert_eq!(schema["$defs"]["PoolTable"]["properties"]["timeouts"]["$ref"], "#/$defs/PartialTimeouts");
        for (definition, there, not_there) in
            [("PartialTimeouts", "connect_ms", "head_ms"), ("PartialLimits", "body_bytes", "connections")]
        {
            let definition = &schema["$defs"][definition];
            assert_eq!(definition["additionalProperties"], json!(false));
            assert!(definition["properties"][there]["description"].is_string(), "{definition}");
            assert!(definition["properties"][not_there].is_null(), "{definition}");
        }
    }

    #[test]
    fn the_values_of_an_enum_are_those_that_lb_takes() {
        let schema = schema();
        for (definition, section, key) in [
            ("Strategy", "strategy", "hash"),
            ("Strategy", "strategy", "fallback"),
            ("LauncherKind", "launcher", "kind"),
            ("LogFormat", "access_log", "format"),
            ("CheckKind", "health", "kind"),
            ("InitialState", "health", "initial"),
        ] {
            let definition = &schema["$defs"][definition];
            let values: Vec<&str> = match definition["oneOf"].as_array() {
                Some(variants) => variants.iter().filter_map(|one| one["const"].as_str()).collect(),
                None => {
                    let values = definition.get("enum").unwrap_or(&definition["properties"][key]["enum"]);
                    values.as_array().expect(key).iter().filter_map(Value::as_str).collect()
                }
            };
            let load = |value: &str| load_text(&Source::default(), &format!("[{section}]\n{key} = \"{value}\"\n"));
            let complaint = load("none_of_these").map(drop).unwrap_err().to_string();
            let (_, known) = complaint.split_once("Known here: ").expect(key);
            assert_eq!(values.join(", "), known);
        }
    }

    /// `UPDATE_SCHEMA=1` writes the file.
    #[test]
    fn the_shipped_schema_is_this_one_and_both_files_name_it() {
        let folder = std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../config"));
        let (path, text) = (folder.join("lb.schema.json"), format!("{:#}\n", schema()));
        if std::env::var_os("UPDATE_SCHEMA").is_some() {
            std::fs::write(&path, &text).unwrap();
        }
        let shipped = std::fs::read_to_string(&path).unwrap();
        assert!(shipped == text, "config/lb.schema.json is old: run this test with UPDATE_SCHEMA=1");
        for file in ["lb.toml", "assignment.toml"] {
            let text = std::fs::read_to_string(folder.join(file)).unwrap();
            assert!(text.starts_with("#:schema ./lb.schema.json\n"), "{file}");
        }
    }
}
