//! The arguments of `lb`, with their help.
//!
//! Invariant: each flag of [`Settings`], except `--config`, is only another spelling of a configuration key. So it
//! passes the same checks, and `lb config` shows the flag as the origin of the value.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args as ClapArgs, Parser, Subcommand};

use super::check_strategy::{CheckStrategy, How, SCORE_PLUGIN};
use super::explain::Explain;
use crate::config::Source;
use crate::run;

const EXAMPLES: &str = "\
Examples:
  lb                                        start with config/lb.toml or, if there is none, /etc/lb/lb.toml
  lb --config config/assignment.toml        start with the course's setting
  lb --strategy least_connections           start with another strategy
  lb --listen 0.0.0.0:80 --workers 4        start on another address, with four worker threads
  lb --set timeouts.connect_ms=500 --set 'strategy.hash_on=[\"client_ip\"]'
                                            set any key of the configuration; values are TOML
  LB__PROXY__WORKERS=2 lb                   set a key by the environment
  lb check                                  test whether lb can start; if not, print the reason
  lb config                                 show every setting in force and where it comes from
  lb strategies                             list the strategies that can be named
  lb reload                                 make the running lb read its files again
  lb rollback                               restore the last proven strategy in the running lb
  lb status; lb backends                    show the state of the running lb
  lb explain KEY                            show where a request with this key would go, and why
  lb check-strategy libmine.so              check a plugin and print its score card
  (umask 077; lb token > admin.token)       make a token for admin.token_file

The admin port of a running lb (127.0.0.1:8081) lists its routes: curl http://127.0.0.1:8081/
Exit codes: 0 success; 2 an error that you can correct (usage, configuration, port, plugin, no lb at the admin address, wrong admin \
token); 1 any other failure. If the running lb refuses a reload or a rollback, the exit code is 1.";

/// An HTTP load balancer whose routing strategy is a plugin.
#[derive(Debug, Parser)]
#[command(name = "lb", version, about, after_help = EXAMPLES, disable_help_subcommand = true)]
pub struct Args {
    /// Write this JSON file (pid, proxy, admin) when lb is ready; lb removes it when it ends
    #[arg(long, value_name = "PATH")]
    pub ready_file: Option<PathBuf>,

    /// Drop the runtime changes of earlier runs (backends added, removed, drained or with a new weight)
    #[arg(long)]
    pub fresh: bool,

    /// Stop, as by SIGTERM, when stdin ends: if the parent holds the pipe's other end, lb and its replicas end with it
    #[arg(long)]
    pub exit_with_parent: bool,

    /// Print the result as JSON on stdout
    #[arg(long, global = true)]
    pub json: bool,

    #[command(flatten)]
    pub settings: Settings,

    #[command(subcommand)]
    pub command: Option<Command>,
}

/// The options of every command: the sources of the settings.
#[derive(Debug, ClapArgs)]
#[command(next_help_heading = "Settings")]
pub struct Settings {
    /// The configuration file; without it config/lb.toml, then etc/lb/lb.toml beside the folder bin of lb, then
    /// /etc/lb/lb.toml
    #[arg(long, value_name = "PATH", global = true)]
    pub config: Option<PathBuf>,

    /// The strategy of the pool default [key: strategy.name]
    #[arg(long, visible_alias = "algorithm", value_name = "NAME", global = true)]
    pub strategy: Option<String>,

    /// The address for client requests, IP:port; may be repeated [key: proxy.listen]
    #[arg(long, value_name = "ADDR", global = true)]
    pub listen: Vec<String>,

    /// The address of the admin port, IP:port [key: admin.listen]
    #[arg(long, value_name = "ADDR", global = true)]
    pub admin_listen: Option<String>,

    /// Worker threads, 0 for one per core [key: proxy.workers]
    #[arg(long, value_name = "N", global = true)]
    pub workers: Option<String>,

    /// Set any key of the configuration; the value is TOML; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_and_value, global = true)]
    pub set: Vec<(String, String)>,
}

const RELOAD: &str = "\
The running lb applies all changes of its configuration and plugin files, or refuses all and keeps its state. `lb reload` prints \
the keys that only a restart applies. A new strategy is on probation (reload.probation_ms): if it fails, lb restores the last proven one.

--strategy NAME puts another strategy of the pool default in charge, until a reload without --strategy.

Exit codes: 0 in force, nothing to change, or (--dry-run) it would work; 1 refused, the running state stays; 2 usage, configuration, \
no lb at the admin address, wrong admin token.";

const ROLLBACK: &str = "\
A strategy is proven when it has passed its probation (reload.probation_ms). lb keeps the last proven strategy of each pool, with its \
state, while a later one is in charge; `lb status` names it. If no strategy was proven yet, lb keeps the first one. The configuration \
file does not change, so a later reload applies its strategy again.

Exit codes: 0 in force; 1 refused, for example because there is nothing to restore; 2 usage, configuration, no lb at the admin \
address, wrong admin token.";

const CHECKED: &str = "\
The check runs the code in FILE. It is native code of its author, with your rights: it can read and change all that you can. Check \
only files that you would run anyway, or use a container. Each file runs in a process of its own, so a crash or a hang only fails a \
row of its card.

Exit codes: 0 no row failed (warnings are allowed), 1 a row failed or a check could not run, 2 usage.";

#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum Command {
    /// Check the configuration, its plugins and ports, without starting lb
    Check,
    /// Show every setting in force and where it comes from
    Config,
    /// Print the JSON Schema of the configuration file, for editors
    Schema,
    /// List the strategies found in the plugin folders
    Strategies,
    /// Make the running lb read its configuration and plugins again
    #[command(after_help = RELOAD)]
    Reload {
        /// Test the reload, but do not put it in force
        #[arg(long)]
        dry_run: bool,
    },
    /// Restore the last proven strategy in the running lb, in every pool that has one
    #[command(after_help = ROLLBACK)]
    Rollback {
        /// Roll back only this pool
        #[arg(long, value_name = "NAME")]
        pool: Option<String>,
    },
    /// Show the state of the running lb: strategies, probation, last reload, differences from the file
    Status,
    /// Show the backends of the running lb
    Backends,
    /// Show where the running lb would send a request, and why
    Explain(Explain),
    /// Make an admin token: (umask 077; lb token > admin.token), then admin.token_file = "admin.token"
    Token,
    /// Try one plugin, named on stdin; `lb` runs this in a child process
    #[command(hide = true)]
    VetPlugin,
    /// Check plugins: fairness, weights, disruption, threads, memory, time and more
    #[command(after_help = CHECKED)]
    CheckStrategy(CheckStrategy),
    /// The child of check-strategy
    #[command(name = SCORE_PLUGIN, hide = true)]
    ScorePlugin {
        file: PathBuf,
        /// The folder for the private copy that is loaded
        directory: PathBuf,
        #[command(flatten)]
        how: How,
    },
}

fn key_and_value(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("it has no `=`; write KEY=VALUE, such as proxy.workers=2")?;
    match key.trim() {
        "" => Err("it has no key; write KEY=VALUE, such as proxy.workers=2".to_owned()),
        key => Ok((key.to_owned(), value.trim().to_owned())),
    }
}

// === impl Args ===

impl Args {
    /// Parses the command line. In clap, a global option after the subcommand replaces the same option before it. All
    /// occurrences of `--set` count, so they are collected here.
    pub fn parse_all(arguments: impl IntoIterator<Item = OsString>) -> Result<Self, clap::Error> {
        let arguments: Vec<OsString> = arguments.into_iter().collect();
        let mut args = Self::try_parse_from(&arguments)?;
        if args.command.is_some() {
            let texts: Vec<_> = arguments.iter().filter_map(|argument| argument.to_str()).collect();
            let values = texts
                .iter()
                .zip(texts.iter().skip(1).chain([&""]))
                .filter_map(|(text, next)| if *text == "--set" { Some(*next) } else { text.strip_prefix("--set=") });
            args.settings.set = values.filter_map(|value| key_and_value(value).ok()).collect();
        }
        Ok(args)
    }

    /// Refuses options that have no effect on the command.
    pub(super) fn check_combination(&self) -> Result<(), String> {
        let Some(command) = &self.command else { return Ok(()) };
        let name = command.name();
        let only_start = [
            ("--ready-file", self.ready_file.is_some()),
            ("--fresh", self.fresh),
            ("--exit-with-parent", self.exit_with_parent),
        ];
        if let Some((flag, _)) = only_start.iter().find(|(_, given)| *given) {
            return Err(format!("{flag} is for a start only, not for `lb {name}`"));
        }
        let settings = &self.settings;
        let without_effect = [
            ("--strategy", settings.strategy.is_some() && !matches!(command, Command::Reload { .. })),
            ("--listen", !settings.listen.is_empty()),
            ("--workers", settings.workers.is_some()),
            ("--set", settings.set.iter().any(|(key, _)| !key.starts_with("admin."))),
        ];
        match without_effect.iter().find(|(_, given)| *given && command.asks_a_running_lb()) {
            Some((flag, _)) => Err(format!(
                "{flag} has no effect on a running lb, so `lb {name}` refuses it: set it in the file of that lb"
            )),
            None => Ok(()),
        }
    }

    pub(super) fn run_options(&self) -> run::Options {
        run::Options {
            ready_file: self.ready_file.clone(),
            json: self.json,
            fresh: self.fresh,
            exit_with_parent: self.exit_with_parent,
            source: Some(self.settings.source()),
        }
    }
}

// === impl Command ===

impl Command {
    /// Whether the command sends a request to a running lb. It then uses only the admin section of the configuration.
    fn asks_a_running_lb(&self) -> bool {
        matches!(self, Self::Reload { .. } | Self::Rollback { .. } | Self::Status | Self::Backends | Self::Explain(_))
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Check => "check",
            Self::Config => "config",
            Self::Schema => "schema",
            Self::Strategies => "strategies",
            Self::Reload { .. } => "reload",
            Self::Rollback { .. } => "rollback",
            Self::Status => "status",
            Self::Backends => "backends",
            Self::Explain(_) => "explain",
            Self::Token => "token",
            Self::VetPlugin => "vet-plugin",
            Self::CheckStrategy(_) => "check-strategy",
            Self::ScorePlugin { .. } => SCORE_PLUGIN,
        }
    }
}

// === impl Settings ===

impl Settings {
    /// The sources of the configuration.
    pub(super) fn source(&self) -> Source {
        Source::new(self.config.clone(), self.as_keys())
    }

    /// The flags as configuration keys. `--set` is first, so that a key's own flag overrides it.
    pub(super) fn as_keys(&self) -> Vec<(String, String)> {
        let mut keys = self.set.clone();
        let mut put = |key: &str, value: &str| keys.push((key.to_owned(), value.to_owned()));
        if let Some(name) = &self.strategy {
            put("strategy.name", name);
        }
        match self.listen.as_slice() {
            [] => {}
            [one] => put("proxy.listen", one),
            many => put("proxy.listen", &toml::Value::from(many.to_vec()).to_string()),
        }
        if let Some(address) = &self.admin_listen {
            put("admin.listen", address);
        }
        if let Some(workers) = &self.workers {
            put("proxy.workers", workers);
        }
        keys
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(line: &str) -> Args {
        Args::try_parse_from(line.split(' ')).unwrap()
    }

    #[test]
    fn the_definition_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn without_a_command_it_is_a_start() {
        let args = parse("lb");
        assert_eq!(args.command, None);
        assert_eq!(args.settings.config, None, "lb finds it by itself");
        assert!(args.settings.as_keys().is_empty());
    }

    #[test]
    fn flags_are_spellings_of_keys() {
        let args = parse("lb --set a.b=c=d --algorithm ring --listen a:1 --listen b:2 --admin-listen c:3 --workers 4");
        let keys = [
            ("a.b", "c=d"),
            ("strategy.name", "ring"),
            ("proxy.listen", r#"["a:1", "b:2"]"#),
            ("admin.listen", "c:3"),
            ("proxy.workers", "4"),
        ];
        assert_eq!(args.settings.as_keys(), keys.map(|(key, value)| (key.to_owned(), value.to_owned())));
    }

    #[test]
    fn settings_may_be_before_or_after_the_command() {
        for line in ["lb --strategy a --json check", "lb check --strategy a --json"] {
            let args = parse(line);
            assert_eq!(
                (args.command, args.settings.strategy.as_deref(), args.json),
                (Some(Command::Check), Some("a"), true)
            );
        }
    }

    #[test]
    fn an_option_without_effect_on_the_command_is_refused() {
        let complaint = parse("lb --fresh check").check_combination().unwrap_err();
        assert_eq!(complaint, "--fresh is for a start only, not for `lb check`");
        assert!(parse("lb --fresh --exit-with-parent --ready-file x").check_combination().is_ok());
        let complaint = parse("lb --workers 2 status").check_combination().unwrap_err();
        assert!(complaint.starts_with("--workers has no effect on a running lb"), "{complaint}");
        for fine in ["lb --workers 2 check", "lb reload --strategy x", "lb --set admin.listen=a:1 backends"] {
            assert_eq!(parse(fine).check_combination(), Ok(()), "{fine}");
        }
    }

    #[test]
    fn a_set_without_key_or_value_is_refused() {
        assert!(key_and_value("proxy.workers").is_err() && key_and_value("=2").is_err());
        assert_eq!(key_and_value("k="), Ok(("k".into(), String::new())));
    }

    #[test]
    fn every_set_counts_before_and_after_the_command() {
        let typed = "lb --set a=1 --set=b=2 check --set c=3".split(' ').map(OsString::from);
        let keys: Vec<_> = Args::parse_all(typed).unwrap().settings.set.into_iter().map(|(key, _)| key).collect();
        assert_eq!(keys, ["a", "b", "c"]);
    }
}
