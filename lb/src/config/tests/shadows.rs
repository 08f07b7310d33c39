//! Shadows in the configuration.

use super::*;

fn shadows(text: &str) -> Vec<Shadow> {
    config(text).pools[0].strategy.shadows.clone()
}

#[test]
fn a_shadow_has_its_own_options_or_those_of_its_name() {
    let text = "[strategy.config.consistent_hash]\nvirtual_nodes = 9\n\
                [[strategy.shadow]]\nname = \"consistent_hash\"\n\
                [[strategy.shadow]]\nname = \"consistent_hash\"\nid = \"few\"\nconfig = { virtual_nodes = 1 }\n\
                [[strategy.shadow]]\npath = \"libmine.so\"\n";
    let found = shadows(text);
    let ids: Vec<&str> = found.iter().map(|shadow| &*shadow.id).collect();
    assert_eq!(ids, ["consistent_hash", "few", "mine"]);
    let options: Vec<_> = found.iter().map(|shadow| shadow.options.clone()).collect();
    let json = serde_json::json!([{ "virtual_nodes": 9 }, { "virtual_nodes": 1 }, {}]);
    assert_eq!(serde_json::Value::from(options), json);
    assert_eq!(found[2].plugin, Plugin::Path { path: "/etc/lb/libmine.so".into(), name: None });
    let of_pool = config("[[pools.api.strategy.shadow]]\nname = \"a\"\n").pools[1].strategy.shadows.clone();
    assert_eq!(of_pool.len(), 1);
}

#[test]
fn mistakes_in_shadows_name_their_key() {
    let one = "[[strategy.shadow]]\nname = \"a\"\n";
    for (text, complaint) in [
        (one.repeat(5), "strategy.shadow: a strategy can have 4 shadows, not 5"),
        (one.repeat(2), "strategy.shadow[1]: another shadow is called \"a\": give one of them an `id` of its own"),
        ("[[strategy.shadow]]\nid = \"a\"\n".to_owned(), "strategy.shadow[0].name: a shadow needs a `name`"),
        (format!("{one}sha256 = \"1\"\n"), "strategy.shadow[0].sha256: must be 64 hexadecimal digits"),
        (format!("{one}id = \"\"\n"), "strategy.shadow[0].id"),
        ("[[strategy.shadow]]\nname = \"../a\"\n".to_owned(), "strategy.shadow[0].name"),
    ] {
        let said = error(&text, &[], &[]);
        assert!(said.contains(complaint), "{said}");
    }
}
