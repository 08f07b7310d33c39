//! The checks of pools, their strategies and backends, and of routes.
//!
//! Invariants: pool 0 is `default`. Ids are unique in a pool. Routes are in matching order: exact host, then wildcards,
//! the longer first, then any host. For one host the longer path is first.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use super::error::{Fault, choices};
use super::file;
use super::key_path::KeyPath;
use super::labels::check_labels;
use super::path::normal_path;
use super::plugin::Plugin;
use super::policy::{Own, Rules};
use super::queue::{PartialQueue, check_priority};
use super::reach::Reach;
use super::shadows::check_shadows;
use super::sticky::PartialSticky;
use super::validate::{Surroundings, absolute};
use super::validated::{
    Admin, BackendConfig, DEFAULT_POOL, HostMatch, ID_BYTES_MAX, KeySource, Launcher, PoolConfig, Proxy, Route,
    Strategy, check_id, check_weight, resolve_address,
};

/// The strategy of a pool that names none.
pub(super) const DEFAULT_STRATEGY: &str = "round_robin";

const POOLS_MAX: usize = 256;
const BACKENDS_MAX: usize = 4_096;
const ROUTES_MAX: usize = 4_096;
const HASH_SOURCES_MAX: usize = 8;

/// The pool `default` from the top of the file, and the named ones. Adds their rules to `rules`.
pub(super) fn check_pools(
    strategy: &file::Strategy,
    backends: &[file::BackendTable],
    named: &BTreeMap<String, file::PoolTable>,
    rules: &mut Rules,
    around: &Surroundings,
    warnings: &mut Vec<String>,
) -> Result<Vec<PoolConfig>, Fault> {
    let top = KeyPath::default();
    if named.len() >= POOLS_MAX {
        let what = format!("there can be {POOLS_MAX} pools, not {}", named.len() + 1);
        return Err(Fault::new(top.key("pools"), what));
    }
    let strategy = check_strategy(strategy, &top.key("strategy"), around, warnings)?;
    let backends = check_backends(backends, &top.key("backends"))?;
    let (outlier, panic) = rules.failing(None)?;
    rules.add_sticky(0, (&PartialSticky::NONE, &top), around, warnings)?;
    let (health, slow_start) = (rules.health(None)?, rules.slow_start(None)?);
    let name = DEFAULT_POOL.to_owned();
    let mut pools = vec![PoolConfig { name, strategy, backends, health, outlier, panic, slow_start }];
    for (name, pool) in named {
        let file::PoolTable {
            strategy,
            backends,
            health,
            outlier,
            panic,
            slow_start,
            retry,
            queue,
            sticky,
            timeouts,
            limits,
        } = pool;
        let key = top.key("pools").key(name);
        check_id(name).map_err(|what| Fault::new(key.clone(), what))?;
        if name == DEFAULT_POOL {
            let what = "this pool is [strategy] and [[backends]] at the top of the file, with the global sections";
            return Err(Fault::new(key, what));
        }
        rules.add_pool(Own { timeouts, limits, retry, queue }, &key)?;
        rules.add_sticky(pools.len(), (sticky, &key), around, warnings)?;
        let (outlier, panic) = rules.failing(Some((outlier, panic, &key)))?;
        pools.push(PoolConfig {
            name: name.clone(),
            strategy: check_strategy(strategy, &key.key("strategy"), around, warnings)?,
            backends: check_backends(backends, &key.key("backends"))?,
            health: rules.health(Some((health, &key)))?,
            outlier,
            panic,
            slow_start: rules.slow_start(Some((slow_start, &key)))?,
        });
    }
    pools.iter_mut().for_each(name_probe_host);
    Ok(pools)
}

/// A probe names the host that health checks name.
fn name_probe_host(pool: &mut PoolConfig) {
    if let (Some(probe), Some(host)) = (&mut pool.strategy.probe, &pool.health.host) {
        Arc::make_mut(probe).host = Some(host.clone());
    }
}

/// Adds the rules of routes that have their own to `rules`, which must have those of all pools.
pub(super) fn check_routes(
    routes: &[file::Route],
    pools: &[PoolConfig],
    rules: &mut Rules,
) -> Result<Vec<Route>, Fault> {
    let section = KeyPath::of(&["routes"]);
    if routes.len() > ROUTES_MAX {
        let what = format!("there can be {ROUTES_MAX} routes, not {}", routes.len());
        return Err(Fault::new(section, what));
    }
    let mut checked: Vec<Route> = Vec::with_capacity(routes.len());
    for (index, file::Route { host, path, pool: name, priority, retry, timeouts, limits }) in routes.iter().enumerate()
    {
        let key = section.index(index);
        let host = check_host(host.as_deref()).map_err(|what| Fault::new(key.key("host"), what))?;
        let path_prefix = check_path(path).map_err(|what| Fault::new(key.key("path"), what))?;
        let Some(pool) = pools.iter().position(|pool| pool.name == *name) else {
            let names: Vec<&str> = pools.iter().map(|pool| pool.name.as_str()).collect();
            let what = format!("there is no pool {name:?}{}", choices(name, "Pools", &names));
            return Err(Fault::new(key.key("pool"), what));
        };
        let same = |route: &Route| route.host == host && route.path_prefix == path_prefix;
        if checked.iter().any(same) {
            return Err(Fault::new(key, "an earlier route has the same host and path"));
        }
        let priority = check_priority(*priority, key.key("priority"))?;
        let own = Own { timeouts, limits, retry, queue: &PartialQueue::NONE };
        let policy = rules.add_route(own, priority, &key, pool)?;
        checked.push(Route { host, path_prefix, pool, policy });
    }
    checked.sort_by_key(|route| {
        let (class, host_bytes) = match &route.host {
            HostMatch::Exact(_) => (0, 0),
            HostMatch::Wildcard(suffix) => (1, suffix.len()),
            HostMatch::Any => (2, 0),
        };
        (class, Reverse(host_bytes), Reverse(route.path_prefix.len()))
    });
    Ok(checked)
}

/// Refuses backends that lb must not call, above all lb itself. Warns of pools that cannot get backends.
pub(super) fn check_reach(
    pools: &[PoolConfig],
    proxy: &Proxy,
    admin: &Admin,
    launcher: Option<&Launcher>,
    warnings: &mut Vec<String>,
) -> Result<(), Fault> {
    let reach = Reach::of(proxy, admin);
    if let Some(launcher) = launcher {
        // Their ports are not known yet. Their checks may all go to one port.
        let fault = |what| Fault::new(KeyPath::of(&["health", "port"]), format!("of launched servers: {what}"));
        reach.check(SocketAddr::new(launcher.host, 0), &pools[0].health).map_err(fault)?;
    }
    for pool in pools {
        let is_default = pool.name == DEFAULT_POOL;
        let key = match is_default {
            true => KeyPath::default(),
            false => KeyPath::of(&["pools", &pool.name]),
        };
        for (index, backend) in pool.backends.iter().enumerate() {
            let fault = |what| Fault::new(key.key("backends").index(index).key("address"), what);
            reach.check(backend.socket, &pool.health).map_err(fault)?;
        }
        if pool.backends.is_empty() && !(is_default && launcher.is_some()) {
            warnings.push(format!("pool {:?} has no backends yet", pool.name));
        } else if !(is_default && launcher.is_some()) && pool.backends.iter().all(|backend| backend.backup) {
            warnings.push(format!("pool {:?} has only backups, so they get all requests", pool.name));
        }
    }
    Ok(())
}

fn check_backends(backends: &[file::BackendTable], section: &KeyPath) -> Result<Vec<BackendConfig>, Fault> {
    if backends.len() > BACKENDS_MAX {
        let what = format!("a pool can have {BACKENDS_MAX} backends, not {}", backends.len());
        return Err(Fault::new(section.clone(), what));
    }
    let mut checked: Vec<BackendConfig> = Vec::with_capacity(backends.len());
    for (index, file::BackendTable { id, address, weight, backup, labels }) in backends.iter().enumerate() {
        let key = section.index(index);
        let fault = |name: &str| {
            let key = key.key(name);
            move |what: String| Fault::new(key, what)
        };
        check_id(id).map_err(fault("id"))?;
        if let Some(first) = checked.iter().position(|backend| backend.id == *id) {
            let first = section.index(first);
            return Err(fault("id")(format!("{first} is called {id:?} already")));
        }
        checked.push(BackendConfig {
            id: id.clone(),
            weight: check_weight(*weight).map_err(fault("weight"))?,
            socket: resolve_address(address).map_err(fault("address"))?,
            address: address.clone(),
            backup: *backup,
            labels: check_labels(labels, &key.key("labels"))?,
        });
    }
    Ok(checked)
}

fn check_strategy(
    form: &file::Strategy,
    section: &KeyPath,
    around: &Surroundings,
    warnings: &mut Vec<String>,
) -> Result<Strategy, Fault> {
    let file::Strategy { name, path, sha256, hash_on, hash, fallback, load_reports, probe, shadow, config } = form;
    let plugin = check_plugin(name.as_deref(), path.as_deref(), section, around)?;
    let options = match own_options(&plugin, config, section)? {
        Some(options) => options,
        None => {
            let (in_charge, section) = (plugin.expected_name(), section.key("config"));
            let similar = config.keys().find(|name| is_similar(name, &in_charge));
            if let Some(similar) = similar {
                let similar = section.key(similar);
                warnings.push(format!(
                    "no [{section}.{in_charge}]: the strategy gets no options; is it [{similar}] that was meant for it?"
                ));
            } else if path.is_some() && !config.is_empty() {
                warnings.push(format!("no [{section}.{in_charge}]: the strategy gets no options"));
            }
            serde_json::Value::Object(serde_json::Map::new())
        }
    };
    Ok(Strategy {
        plugin,
        sha256: check_sha256(sha256.as_deref(), section)?,
        hash_on: check_hash_on(hash_on, &section.key("hash_on"), warnings)?,
        hash: *hash,
        fallback: *fallback,
        load_reports: load_reports.check(&section.key("load_reports"), warnings)?,
        probe: probe.check(&section.key("probe"), warnings)?,
        options,
        shadows: check_shadows(shadow, config, section, around)?,
    })
}

/// The plugin by its name or its file. Without both it is the default one.
pub(super) fn check_plugin(
    name: Option<&str>,
    path: Option<&Path>,
    section: &KeyPath,
    around: &Surroundings,
) -> Result<Plugin, Fault> {
    if let Some(name) = name {
        check_name(name).map_err(|what| Fault::new(section.key("name"), what))?;
    }
    Ok(match path {
        Some(path) => {
            Plugin::Path { path: absolute(path, section.key("path"), around)?, name: name.map(str::to_owned) }
        }
        None => Plugin::Name(name.unwrap_or(DEFAULT_STRATEGY).to_owned()),
    })
}

/// The table of `config`, which is that of the strategy `section`, with the name of the plugin.
pub(super) fn own_options(
    plugin: &Plugin,
    config: &BTreeMap<String, toml::Table>,
    section: &KeyPath,
) -> Result<Option<serde_json::Value>, Fault> {
    let name = plugin.expected_name();
    let key = section.key("config").key(&name);
    config.get(&name).map(|table| json(&toml::Value::Table(table.clone()), &key)).transpose()
}

/// Whether `table` may be a slip for `strategy`; a longer name is never a slip.
fn is_similar(table: &str, strategy: &str) -> bool {
    let slips_max = (strategy.len() / 5).max(1);
    table.len() <= ID_BYTES_MAX && strsim::osa_distance(table, strategy) <= slips_max
}

/// A strategy's name becomes part of a file's name, so it must not lead to another folder.
fn check_name(name: &str) -> Result<(), String> {
    if name.is_empty() || name.len() > ID_BYTES_MAX {
        return Err(format!("a strategy's name has 1 to {ID_BYTES_MAX} bytes, this one {}", name.len()));
    }
    if name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
        return Ok(());
    }
    let hint = match name {
        _ if name.contains('/') || name.ends_with(".so") => "; a file goes into `path`".to_owned(),
        _ if name.contains('-') => format!("; did you mean {:?}?", name.replace('-', "_")),
        _ => String::new(),
    };
    Err(format!("{name:?}: a strategy's name is made of letters, digits and _{hint}"))
}

pub(super) fn check_sha256(text: Option<&str>, section: &KeyPath) -> Result<Option<[u8; 32]>, Fault> {
    let Some(text) = text else { return Ok(None) };
    let wrong = || Fault::new(section.key("sha256"), "must be 64 hexadecimal digits, as sha256sum prints them");
    let nibble = |digit: u8| char::from(digit).to_digit(16).and_then(|n| u8::try_from(n).ok());
    let digits: Vec<u8> = text.bytes().map(nibble).collect::<Option<_>>().ok_or_else(wrong)?;
    let bytes: Vec<u8> = digits.chunks(2).map(|pair| pair.iter().fold(0, |b, n| b << 4 | n)).collect();
    match digits.len() {
        64 => bytes.try_into().map(Some).map_err(|_| wrong()),
        _ => Err(wrong()),
    }
}

fn check_hash_on(sources: &[String], section: &KeyPath, warnings: &mut Vec<String>) -> Result<Vec<KeySource>, Fault> {
    if sources.len() > HASH_SOURCES_MAX {
        let what = format!("can have {HASH_SOURCES_MAX} sources, not {}", sources.len());
        return Err(Fault::new(section.clone(), what));
    }
    let mut checked = Vec::with_capacity(sources.len());
    for (index, text) in sources.iter().enumerate() {
        let source = key_source(text).map_err(|what| Fault::new(section.index(index), what))?;
        let always = matches!(source, KeySource::Path | KeySource::ClientIp | KeySource::RandomId);
        if always && index + 1 < sources.len() {
            warnings.push(format!("{section}: every request has {text}, what follows is not asked"));
        }
        checked.push(source);
    }
    Ok(checked)
}

fn key_source(text: &str) -> Result<KeySource, String> {
    let (kind, name) = text.split_once(':').map_or((text, None), |(kind, name)| (kind, Some(name)));
    // The names of cookies and parameters that need no quoting.
    let plain = |name: &str| name.bytes().all(|b| b.is_ascii_graphic() && !b"=;,&\"".contains(&b));
    match (kind, name) {
        ("header", Some(name)) => http::HeaderName::from_bytes(name.as_bytes())
            .map(KeySource::Header)
            .map_err(|_| format!("{name:?} is not the name of a header")),
        ("cookie", Some(name)) if !name.is_empty() && plain(name) => Ok(KeySource::Cookie(name.to_owned())),
        ("query", Some(name)) if !name.is_empty() && plain(name) => Ok(KeySource::Query(name.to_owned())),
        ("cookie" | "query", Some(name)) => Err(format!("{name:?} is not the name of a {kind}")),
        ("path", None) => Ok(KeySource::Path),
        ("client_ip", None) => Ok(KeySource::ClientIp),
        ("random_id", None) => Ok(KeySource::RandomId),
        _ => Err(format!("{text:?} is none of header:NAME, cookie:NAME, query:NAME, path, client_ip, random_id")),
    }
}

fn check_host(host: Option<&str>) -> Result<HostMatch, String> {
    let Some(host) = host.filter(|host| *host != "*") else { return Ok(HostMatch::Any) };
    let lower = host.to_ascii_lowercase();
    let address = lower.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    if address.is_some_and(|address| address.parse::<std::net::Ipv6Addr>().is_ok()) {
        return Ok(HostMatch::Exact(lower));
    }
    let (name, wildcard) = match lower.strip_prefix("*.") {
        Some(rest) => (rest, true),
        None => (lower.as_str(), false),
    };
    let label = |label: &str| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        (1..=63).contains(&label.len()) && label.bytes().all(plain)
    };
    if name.len() > 253 || !name.split('.').all(label) {
        return Err(format!("{host:?} is not a host name without port, such as \"example.org\" or \"*.example.org\""));
    }
    Ok(match wildcard {
        true => HostMatch::Wildcard(format!(".{name}")),
        false => HostMatch::Exact(lower),
    })
}

fn check_path(path: &str) -> Result<String, String> {
    let plain = path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'?' && byte != b'#');
    if !path.starts_with('/') || !plain || path.len() > 1_024 {
        return Err(format!("{path:?} is not the beginning of a path, such as \"/api\""));
    }
    let normal = normal_path(path).map_err(|what| format!("{path:?} can match nothing: {what}"))?;
    if normal != path {
        return Err(format!("{path:?} is compared with paths in normal form: write {normal:?}"));
    }
    let trimmed = path.trim_end_matches('/');
    Ok(if trimmed.is_empty() { "/" } else { trimmed }.to_owned())
}

/// Options as the strategy gets them. Only values that JSON cannot represent are refused.
pub(super) fn json(value: &toml::Value, key: &KeyPath) -> Result<serde_json::Value, Fault> {
    use serde_json::Value as Json;
    Ok(match value {
        toml::Value::String(text) => Json::String(text.clone()),
        toml::Value::Integer(number) => Json::from(*number),
        toml::Value::Float(number) => match serde_json::Number::from_f64(*number) {
            Some(number) => Json::Number(number),
            None => return Err(Fault::new(key.clone(), format!("{number} is not a number in JSON"))),
        },
        toml::Value::Boolean(truth) => Json::Bool(*truth),
        toml::Value::Datetime(time) => Json::String(time.to_string()),
        toml::Value::Array(array) => {
            let elements = array.iter().enumerate();
            let json = elements.map(|(index, value)| json(value, &key.index(index)));
            Json::Array(json.collect::<Result<_, _>>()?)
        }
        toml::Value::Table(table) => {
            let json = table.iter().map(|(name, value)| json(value, &key.key(name)).map(|value| (name.clone(), value)));
            Json::Object(json.collect::<Result<_, _>>()?)
        }
    })
}
