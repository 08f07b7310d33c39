//! Reading the configuration again, and what of it can take the place of what runs.
//!
//! File, environment and command line are layered as at the start, and overrides come last. Invariant: the configuration that comes
//! out has the pools of the running one, in their order, and its restart-only keys; what that leaves out is in `needs_restart`.

use sha2::{Digest, Sha256};

use super::{Overriding, ReloadError};
use crate::config::{self, Config, DEFAULT_POOL, Loaded, Pool, Proxy, Reload, Route, Source};
use crate::control::watch::Attempt;

/// What a reload is to bring about.
#[derive(Clone, Debug)]
pub(in crate::control) struct Target {
    pub(in crate::control) config: Config,
    /// Keys beside strategies that differ from what runs and are applied.
    pub(in crate::control) applied: Vec<String>,
    pub(in crate::control) needs_restart: Vec<String>,
    pub(in crate::control) warnings: Vec<String>,
}

/// Blocks: reads files and resolves names. What was read of the file is noted in `attempt`.
pub(in crate::control) fn read(
    source: Option<&Source>,
    overrides: &[Overriding],
    running: &Config,
    attempt: &mut Attempt,
) -> Result<Target, ReloadError> {
    let refused = |reason: &dyn ToString| ReloadError::refused("config", reason.to_string());
    let source =
        source.ok_or_else(|| refused(&"this lb was started without a configuration that can be read again"))?;
    let mut source = source.clone();
    for Overriding { pool, strategy } in overrides {
        if !running.pools.iter().any(|known| known.name == *pool) {
            return Err(refused(&format!("there is no pool {pool:?}")));
        }
        if strategy.name.is_none() && strategy.path.is_none() && strategy.config.is_none() {
            return Err(refused(&"the override says nothing: give a name, a path or a config"));
        }
        let path = strategy.path.as_ref().map(|path| path.to_string_lossy().into_owned());
        for (key, value) in [("name", strategy.name.clone()), ("path", path)] {
            // Quoted, so that it is a string whatever it looks like.
            source.command_line.extend(value.map(|value| (key_of(pool, key), toml::Value::String(value).to_string())));
        }
    }
    let bytes = config::read(&source.path).map_err(|error| refused(&error))?;
    attempt.config = Some(Sha256::digest(&bytes).into());
    let loaded = config::load_bytes(&source, &bytes).map_err(|error| refused(&error))?;
    let Loaded { config: mut wanted, warnings, settings: _, sha256: _ } = loaded;
    for Overriding { pool, strategy } in overrides {
        if let Some(options) = &strategy.config
            && let Some(pool) = wanted.pools.iter_mut().find(|candidate| candidate.name == *pool)
        {
            pool.strategy.options = options.clone().into();
        }
    }
    Ok(compare(running, wanted, warnings))
}

fn key_of(pool: &str, key: &str) -> String {
    if pool == DEFAULT_POOL { format!("strategy.{key}") } else { format!("pools.{pool}.strategy.{key}") }
}

/// Sorts every difference into what is applied and what needs a restart.
fn compare(running: &Config, wanted: Config, warnings: Vec<String>) -> Target {
    let mut needs_restart = Vec::new();
    let mut restart = |key: &str, differs: bool| needs_restart.extend(differs.then(|| key.to_owned()));
    let Config {
        file: _,
        plugin_dirs,
        proxy,
        admin,
        pools,
        routes,
        launcher,
        course,
        health,
        timeouts,
        limits,
        reload,
        state,
        log,
    } = wanted;
    restart("proxy.workers", proxy.workers != running.proxy.workers);
    restart("admin.listen", admin.listen != running.admin.listen);
    restart("admin.token_file", admin.token != running.admin.token);
    restart("launcher", launcher != running.launcher);
    restart("state.keep", state.keep != running.state.keep);
    restart("state.dir", state.dir != running.state.dir);
    restart("reload.max_images", reload.max_images != running.reload.max_images);
    for pool in &pools {
        restart(&format!("pools.{}", pool.name), !running.pools.iter().any(|known| known.name == pool.name));
    }
    for pool in &running.pools {
        restart(&format!("pools.{}", pool.name), !pools.iter().any(|known| known.name == pool.name));
    }
    // Half of the routes would be worse than the old ones: without its pool no route is applied.
    let routes = routes_to(&running.pools, &pools, &routes);
    restart("routes", routes.is_none());
    let pools = running.pools.iter().map(|old| pools.iter().find(|pool| pool.name == old.name).unwrap_or(old).clone());
    let config = Config {
        file: running.file.clone(),
        plugin_dirs,
        proxy: Proxy { workers: running.proxy.workers, ..proxy },
        admin: running.admin.clone(),
        pools: pools.collect(),
        routes: routes.unwrap_or_else(|| running.routes.clone()),
        launcher: running.launcher.clone(),
        course,
        health,
        timeouts,
        limits,
        reload: Reload { max_images: running.reload.max_images, ..reload },
        state: running.state.clone(),
        log,
    };
    Target { applied: applied(running, &config), config, needs_restart, warnings }
}

/// The routes with indexes into the running pools; `None` when one leads to a pool that does not run.
fn routes_to(running: &[Pool], wanted: &[Pool], routes: &[Route]) -> Option<Vec<Route>> {
    let moved = routes.iter().map(|route| {
        let pool = running.iter().position(|pool| pool.name == wanted[route.pool].name)?;
        Some(Route { pool, ..route.clone() })
    });
    moved.collect()
}

fn applied(running: &Config, config: &Config) -> Vec<String> {
    let mut applied = Vec::new();
    let mut note = |key: String, differs: bool| applied.extend(differs.then_some(key));
    note("plugin_dirs".into(), config.plugin_dirs != running.plugin_dirs);
    note("proxy.listen".into(), config.proxy.listen != running.proxy.listen);
    note("proxy.trusted_proxies".into(), config.proxy.trusted_proxies != running.proxy.trusted_proxies);
    note("routes".into(), config.routes != running.routes);
    let (before, after) = (&running.course, &config.course);
    note("course.on_proxy_port".into(), before.on_proxy_port != after.on_proxy_port);
    note("course.missing_path_is_400".into(), before.missing_path_is_400 != after.missing_path_is_400);
    note("course.seed".into(), before.seed != after.seed);
    note("health".into(), config.health != running.health);
    note("timeouts".into(), config.timeouts != running.timeouts);
    note("limits".into(), config.limits != running.limits);
    note("log.level".into(), config.log != running.log);
    note("reload".into(), config.reload != running.reload);
    for (old, new) in running.pools.iter().zip(&config.pools) {
        let key = |key: &str| crate::control::plugins::key_of(&old.name, key);
        let (before, after) = (&old.strategy, &new.strategy);
        note(key("backends"), old.backends != new.backends);
        note(key("strategy.hash_on"), before.hash_on != after.hash_on);
        note(key("strategy.hash"), before.hash != after.hash);
        note(key("strategy.fallback"), before.fallback != after.fallback);
        note(key("strategy.sha256"), before.sha256 != after.sha256);
    }
    applied
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
    fn the_same_text_differs_in_nothing() {
        let text = "[timeouts]\nconnect_ms = 7\n[pools.p.strategy]\nname = \"round_robin\"\n";
        let target = target(text, text);
        assert!(target.applied.is_empty() && target.needs_restart.is_empty());
        assert_eq!(target.config, config(text));
    }

    #[test]
    fn what_needs_a_restart_is_named_and_stays_as_it_runs() {
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
    fn pools_that_come_or_go_need_a_restart_and_routes_to_them_too() {
        let one = "[pools.a.strategy]\nname = \"round_robin\"\n";
        let two = format!("{one}[pools.A.strategy]\nname = \"round_robin\"\n");
        let route = "[[routes]]\npath = \"/a\"\npool = \"a\"\n";
        let came = target(one, &format!("{two}{route}"));
        assert_eq!(came.needs_restart, ["pools.A"]);
        assert_eq!(came.config.routes[0].pool, 1, "an index into the pools that run");
        let gone = target(&two, &format!("{one}{route}"));
        assert_eq!((gone.needs_restart.as_slice(), gone.config.pools.len()), (&["pools.A".to_owned()][..], 3));
        let unreachable = target("", &format!("{one}{route}"));
        assert_eq!(unreachable.needs_restart, ["pools.a", "routes"]);
        assert!(unreachable.config.routes.is_empty());
    }
}
