//! Reads the configuration again, and selects the part that can be applied while lb runs.
//!
//! File, environment and command line are layered as at start-up, and overrides come last. Invariant: the resulting
//! configuration has the restart-only keys of the running one; `needs_restart` names those that differ.

use sha2::{Digest, Sha256};

use super::pinned::pinned;
use super::trial::roles;
use crate::config::{
    self, Admin, Config, Course, DEFAULT_POOL, Limits, Loaded, Policy, PoolConfig, Proxy, Reload, RetryPolicy, Route,
    Source, State, Strategy, Timeouts,
};
use crate::control::api::{Overriding, ReloadError};
use crate::control::trust::{Role, plugins};
use crate::control::watch::{Attempt, Taken};

/// The goal of a reload.
#[derive(Clone, Debug)]
pub(in crate::control) struct Target {
    pub(in crate::control) config: Config,
    /// Changed keys that are applied, without strategies.
    pub(in crate::control) applied: Vec<String>,
    pub(in crate::control) needs_restart: Vec<String>,
    pub(in crate::control) warnings: Vec<String>,
    /// A strategy of the file that has no effect, because a flag or a variable pins another one.
    pub(in crate::control) pinned: Option<String>,
}

/// Blocks: reads files and resolves names. Notes the content of the file in `attempt`.
pub(in crate::control) fn read(
    source: Option<&Source>,
    overrides: &[Overriding],
    running: &Config,
    attempt: &mut Attempt,
) -> Result<Target, ReloadError> {
    let refused = |reason: &dyn ToString| ReloadError::refused("config", reason.to_string());
    let source =
        source.ok_or_else(|| refused(&"this lb was started without a configuration file, so it cannot reload"))?;
    let bytes = config::read(&source.path).map_err(|error| refused(&error))?;
    attempt.config = Some(Sha256::digest(&bytes).into());
    if !overrides.is_empty() {
        // An override changes a pool and never adds one.
        let pools = config::load_bytes(source, &bytes).map_err(|error| refused(&error))?.config.pools;
        if let Some(Overriding { pool, .. }) =
            overrides.iter().find(|one| !pools.iter().any(|pool| pool.name == one.pool))
        {
            let reason = format!("there is no pool {pool:?} (a plain reload drops overrides of removed pools)");
            return Err(refused(&reason));
        }
    }
    let mut source = source.clone();
    for Overriding { pool, strategy } in overrides {
        if strategy.name.is_none() && strategy.path.is_none() && strategy.config.is_none() {
            return Err(refused(&"the override is empty: give a name, a path or a config"));
        }
        let path = strategy.path.as_ref().map(|path| path.to_string_lossy().into_owned());
        for (key, value) in [("name", strategy.name.clone()), ("path", path)] {
            // Quoted, so that TOML reads any value as a string.
            source.command_line.extend(value.map(|value| (key_of(pool, key), toml::Value::String(value).to_string())));
        }
    }
    let loaded = config::load_bytes(&source, &bytes).map_err(|error| refused(&error))?;
    let is_overridden = overrides.iter().any(|one| one.pool == DEFAULT_POOL);
    let pinned = pinned(&loaded, &bytes).filter(|_| !is_overridden);
    let Loaded { config: mut wanted, warnings, settings: _, sha256: _ } = loaded;
    for Overriding { pool, strategy } in overrides {
        if let Some(options) = &strategy.config
            && let Some(pool) = wanted.pools.iter_mut().find(|candidate| candidate.name == *pool)
        {
            pool.strategy.options = options.clone().into();
        }
    }
    Ok(Target { pinned, ..compare(running, wanted, warnings) })
}

/// The content that a reload without overrides would find, after an attempt with `overrides` has read the files.
///
/// `None` if the configuration has changed since, or is not valid: the watcher decides about that. Blocks.
pub(super) fn without_overrides(source: &Source, overrides: &[Overriding], attempt: &Attempt) -> Option<Attempt> {
    let bytes = config::read(&source.path).ok()?;
    let config = Some(Sha256::digest(&bytes).into());
    if config != attempt.config {
        return None;
    }
    let file = config::load_bytes(source, &bytes).ok()?.config;
    let read = roles(&file).zip(attempt.plugins.as_ref()?);
    let is_overridden = |role: &Role<'_>| !role.is_shadow() && overrides.iter().any(|one| one.pool == role.pool);
    let taken = read.map(|(role, taken)| match is_overridden(&role) {
        true => Taken::unread(plugins::candidates(&file.plugin_dirs, role.plugin)),
        false => taken.clone(),
    });
    Some(Attempt { config, plugins: Some(taken.collect()) })
}

fn key_of(pool: &str, key: &str) -> String {
    if pool == DEFAULT_POOL { format!("strategy.{key}") } else { format!("pools.{pool}.strategy.{key}") }
}

/// Divides the differences into those that are applied and those that need a restart.
fn compare(running: &Config, wanted: Config, warnings: Vec<String>) -> Target {
    let mut needs_restart = Vec::new();
    let mut restart = |key: &str, differs: bool| needs_restart.extend(differs.then(|| key.to_owned()));
    let Config {
        file: _,
        plugin_dirs,
        allow_group_writable,
        proxy,
        admin,
        pools,
        routes,
        policies,
        launcher,
        course,
        health,
        timeouts,
        limits,
        reload,
        state,
        log,
        access_log,
    } = wanted;
    let (Admin { listen, token }, State { keep, dir, save_every }) = (admin, state);
    restart("allow_group_writable", allow_group_writable != running.allow_group_writable);
    restart("proxy.workers", proxy.workers != running.proxy.workers);
    restart("admin.listen", listen != running.admin.listen);
    restart("admin.token_file", token != running.admin.token);
    restart("launcher", launcher != running.launcher);
    restart("state.keep", keep != running.state.keep);
    restart("state.dir", dir != running.state.dir);
    restart("state.save_every_ms", save_every != running.state.save_every);
    restart("reload.max_images", reload.max_images != running.reload.max_images);
    let config = Config {
        file: running.file.clone(),
        plugin_dirs,
        allow_group_writable: running.allow_group_writable,
        proxy: Proxy { workers: running.proxy.workers, ..proxy },
        admin: running.admin.clone(),
        pools,
        routes,
        policies,
        launcher: running.launcher.clone(),
        course,
        health,
        timeouts,
        limits,
        reload: Reload { max_images: running.reload.max_images, ..reload },
        state: running.state.clone(),
        log,
        access_log,
    };
    Target { applied: applied(running, &config), config, needs_restart, warnings, pinned: None }
}

/// The changed keys that a reload applies. Sections of which each key is noted alone are destructured by name, so that
/// a new key does not compile before it is noted.
fn applied(running: &Config, config: &Config) -> Vec<String> {
    let mut applied = Vec::new();
    let mut note = |key: &str, differs: bool| applied.extend(differs.then(|| key.to_owned()));
    note("plugin_dirs", config.plugin_dirs != running.plugin_dirs);
    note_proxy(&running.proxy, &config.proxy, &mut note);
    note("access_log", config.access_log != running.access_log);
    note("routes", named_routes(running) != named_routes(config));
    let Course { on_proxy_port, missing_path_is_400, seed } = &config.course;
    note("course.on_proxy_port", *on_proxy_port != running.course.on_proxy_port);
    note("course.missing_path_is_400", *missing_path_is_400 != running.course.missing_path_is_400);
    note("course.seed", *seed != running.course.seed);
    note_rules((running, 0), (config, 0), &mut note);
    note("log.level", config.log != running.log);
    note("reload", config.reload != running.reload);
    let named = |pools: &[PoolConfig], name: &str| pools.iter().any(|pool| pool.name == name);
    for pool in &running.pools {
        note(&format!("pools.{}", pool.name), !named(&config.pools, &pool.name));
    }
    for (index, new) in config.pools.iter().enumerate() {
        match running.pools.iter().position(|old| old.name == new.name) {
            Some(before) => {
                note_pool(&running.pools[before], new, &mut note);
                // Those of `default` are the global sections, which were noted first.
                if index > 0 {
                    note_rules((running, before), (config, index), &mut note);
                }
            }
            None => note(&format!("pools.{}", new.name), true),
        }
    }
    applied
}

fn note_proxy(running: &Proxy, proxy: &Proxy, note: &mut impl FnMut(&str, bool)) {
    let Proxy {
        listen,
        workers: _,
        trusted_proxies,
        request_id,
        explain_header,
        upgrades,
        allow_trace,
        allow_link_local,
    } = proxy;
    note("proxy.listen", *listen != running.listen);
    note("proxy.trusted_proxies", *trusted_proxies != running.trusted_proxies);
    note("proxy.request_id", *request_id != running.request_id);
    note("proxy.explain_header", *explain_header != running.explain_header);
    note("proxy.upgrades", *upgrades != running.upgrades);
    note("proxy.allow_trace", *allow_trace != running.allow_trace);
    note("proxy.allow_link_local", *allow_link_local != running.allow_link_local);
}

fn note_pool(running: &PoolConfig, pool: &PoolConfig, note: &mut impl FnMut(&str, bool)) {
    // `note_rules` compares the checks and the rules for failing backends.
    let PoolConfig { name, strategy, backends, health: _, outlier: _, panic: _, slow_start: _ } = pool;
    // A change of plugin or options is a swap of the strategy, which the report lists for itself.
    let Strategy { plugin: _, sha256, hash_on, hash, fallback, load_reports, probe, options: _, shadows } = strategy;
    let (before, key) = (&running.strategy, |key: &str| plugins::key_of(name, key));
    note(&key("backends"), *backends != running.backends);
    note(&key("strategy.hash_on"), *hash_on != before.hash_on);
    note(&key("strategy.hash"), *hash != before.hash);
    note(&key("strategy.fallback"), *fallback != before.fallback);
    note(&key("strategy.load_reports"), *load_reports != before.load_reports);
    note(&key("strategy.probe"), *probe != before.probe);
    note(&key("strategy.sha256"), *sha256 != before.sha256);
    note(&key("strategy.shadow"), *shadows != before.shadows);
}

/// The sections that pools may have for themselves, of the pools at these places; those of `default` are the global
/// ones.
fn note_rules(before: (&Config, usize), after: (&Config, usize), note: &mut impl FnMut(&str, bool)) {
    let (config, new) = after;
    let Policy { timeouts: _, limits: _, retry: _, queue: _, priority: _, sticky: _ } = &config.policies[new];
    let mut section = |key: &str, differs: bool| note(&plugins::key_of(&config.pools[new].name, key), differs);
    section("health", differs(before, after, |config, pool| &config.pools[pool].health));
    section("outlier", differs(before, after, |config, pool| &config.pools[pool].outlier));
    section("panic", differs(before, after, |config, pool| &config.pools[pool].panic));
    section("slow_start", differs(before, after, |config, pool| &config.pools[pool].slow_start));
    section("retry", differs(before, after, |config, pool| &config.policies[pool].retry));
    section("sticky", differs(before, after, |config, pool| &config.policies[pool].sticky));
    section("queue", differs(before, after, |config, pool| &config.policies[pool].queue));
    section("timeouts", differs(before, after, |config, pool| &config.policies[pool].timeouts));
    section("limits", differs(before, after, |config, pool| &config.policies[pool].limits));
}

/// The sections of a route that are not those of its pool.
type OwnSections<'c> = (Option<&'c Timeouts>, Option<&'c Limits>, Option<&'c RetryPolicy>, u8);

/// Whether a section of a pool differs. A pool that has the global section before and after is not named.
fn differs<'c, T: PartialEq + 'c>(
    (running, old): (&'c Config, usize),
    (config, new): (&'c Config, usize),
    section: impl Fn(&'c Config, usize) -> &'c T,
) -> bool {
    let (was, is) = (section(running, old), section(config, new));
    let is_global = is == section(config, 0) && was == section(running, 0);
    is != was && (new == 0 || !is_global)
}

/// Routes with the names of their pools, because indexes may have changed, and with the sections in which they differ
/// from their pools.
fn named_routes(config: &Config) -> Vec<(&str, OwnSections<'_>, Route)> {
    let named = |route: &Route| {
        let (own, pool) = (&config.policies[route.policy], &config.policies[route.pool]);
        let timeouts = (own.timeouts != pool.timeouts).then_some(&own.timeouts);
        let limits = (own.limits != pool.limits).then_some(&own.limits);
        let retry = (own.retry != pool.retry).then_some(&own.retry);
        let same_place = Route { pool: 0, policy: 0, ..route.clone() };
        (&*config.pools[route.pool].name, (timeouts, limits, retry, own.priority), same_place)
    };
    config.routes.iter().map(named).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Config {
        let source = Source { path: "/nowhere/lb.toml".into(), ..Source::default() };
        config::load_text(&source, text).unwrap().config
    }

    fn target(before: &str, after: &str) -> Target {
        compare(&config(before), config(after), Vec::new())
    }

    #[test]
    fn the_same_text_has_no_difference() {
        let text = "[timeouts]\nconnect_ms = 7\n[pools.p.strategy]\nname = \"round_robin\"\n";
        let target = target(text, text);
        assert!(target.applied.is_empty() && target.needs_restart.is_empty());
        assert_eq!(target.config, config(text));
    }

    #[test]
    fn keys_that_need_a_restart_are_named_and_keep_their_running_values() {
        let after = "[proxy]\nlisten = \"127.0.0.1:9\"\nworkers = 7\n[admin]\nlisten = \"127.0.0.1:10\"\n[log]\nlevel = \"debug\"\n\
                     [course]\non_proxy_port = true\nseed = 3\n[state]\nkeep = false\n[timeouts]\nconnect_ms = 7\n";
        let target = target("", after);
        let named = ["proxy.workers", "admin.listen", "state.keep"];
        assert_eq!(target.needs_restart, named);
        assert_eq!(target.applied, ["proxy.listen", "course.on_proxy_port", "course.seed", "timeouts", "log.level"]);
        assert_eq!(target.config.proxy.workers, config("").proxy.workers);
        assert_eq!(target.config.timeouts, config(after).timeouts);
    }

    #[test]
    fn each_key_of_the_proxy_is_applied_or_needs_a_restart() {
        let other = [
            ("listen", "\"127.0.0.1:9\""),
            ("workers", "1001"),
            ("trusted_proxies", "[\"10.0.0.0/8\"]"),
            ("request_id", "true"),
            ("explain_header", "true"),
            ("upgrades", "[\"other\"]"),
            ("allow_trace", "true"),
            ("allow_link_local", "true"),
        ];
        // A new key of the section fails to compile here, and so gets a row above.
        let Proxy {
            listen: _,
            workers: _,
            trusted_proxies: _,
            request_id: _,
            explain_header: _,
            upgrades: _,
            allow_trace: _,
            allow_link_local: _,
        } = config("").proxy;
        for (key, value) in other {
            let Target { applied, needs_restart, .. } = target("", &format!("[proxy]\n{key} = {value}\n"));
            assert_eq!([applied, needs_restart].concat(), [format!("proxy.{key}")]);
        }
    }

    #[test]
    fn added_and_removed_pools_are_applied_with_their_routes() {
        let one = "[pools.b.strategy]\nname = \"round_robin\"\n[[routes]]\npath = \"/b\"\npool = \"b\"\n";
        let two = format!("[pools.a.strategy]\nname = \"round_robin\"\n{one}");
        let came = target(one, &two);
        assert_eq!((came.applied.as_slice(), came.needs_restart.len()), (&["pools.a".to_owned()][..], 0));
        assert_eq!(came.config, config(&two), "the route has another index and the same pool");
        assert_eq!(target(&two, one).applied, ["pools.a"]);
        let routed = format!("{two}[[routes]]\npath = \"/a\"\npool = \"a\"\n");
        assert_eq!(target("", &routed).applied, ["routes", "pools.a", "pools.b"]);
    }

    #[test]
    fn a_changed_global_section_names_a_route_only_if_it_has_keys_of_that_section() {
        let routes = "[[routes]]\npath = \"/a\"\npool = \"default\"\n[routes.limits]\nbody_bytes = 7\n";
        for (more, named) in [
            ("[timeouts]\nidle_ms = 7\n", vec!["timeouts"]),
            ("[retry]\nattempts = 3\n", vec!["retry"]),
            ("[limits]\nbody_min_bytes_per_s = 7\n", vec!["routes", "limits"]),
        ] {
            assert_eq!(target(routes, &format!("{routes}{more}")).applied, named, "{more}");
        }
    }

    #[test]
    fn changed_sections_of_pools_and_routes_are_named_and_inherited_ones_are_not() {
        let pools = "[pools.a.strategy]\n[pools.b.limits]\nbody_min_bytes_per_s = 0\n[[routes]]\npool = \"a\"\n";
        for (more, named) in [
            ("[pools.a.timeouts]\nresponse_head_ms = 7\n", vec!["pools.a.timeouts"]),
            ("[pools.b.health]\npath = \"/b\"\n", vec!["pools.b.health"]),
            (
                "[pools.a.limits]\nbody_bytes = 7\n[pools.b.timeouts]\nidle_ms = 7\n",
                vec!["pools.a.limits", "pools.b.timeouts"],
            ),
            ("[timeouts]\nidle_ms = 7\n[health]\npath = \"/b\"\n", vec!["health", "timeouts"]),
            ("[limits]\nbody_bytes = 7\n", vec!["limits", "pools.b.limits"]),
            ("[outlier]\neject_ms = 7000\n[pools.a.panic]\nbelow_percent = 7\n", vec!["outlier", "pools.a.panic"]),
            ("[pools.a.outlier]\nenabled = false\n[retry]\nattempts = 3\n", vec!["retry", "pools.a.outlier"]),
            ("[slow_start]\nenabled = true\n", vec!["slow_start"]),
            ("[pools.a.slow_start]\nenabled = true\n", vec!["pools.a.slow_start"]),
            ("[pools.b.retry]\nbudget_percent = 7\n", vec!["pools.b.retry"]),
            ("[routes.limits]\nbody_bytes = 7\n", vec!["routes"]),
            ("[routes.retry]\nattempts = 1\n", vec!["routes"]),
            ("priority = 1\n", vec!["routes"]),
            ("[queue]\nlength = 7\n", vec!["queue"]),
            ("[pools.b.queue]\nwait_ms = 7\n", vec!["pools.b.queue"]),
            ("[strategy.load_reports]\nenabled = true\n", vec!["strategy.load_reports"]),
            ("[strategy.probe]\npath = \"/load\"\n", vec!["strategy.probe"]),
            ("[pools.b.strategy.load_reports]\nenabled = true\n", vec!["pools.b.strategy.load_reports"]),
        ] {
            let Target { applied, needs_restart, config: taken, .. } = target(pools, &format!("{pools}{more}"));
            assert_eq!((applied, needs_restart.len()), (named.into_iter().map(String::from).collect(), 0), "{more}");
            assert_eq!(taken, config(&format!("{pools}{more}")));
        }
    }
}
