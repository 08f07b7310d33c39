//! What may be typed after `lb`, with the help that explains it.
//!
//! Invariant: a flag that sets something is only another spelling of a configuration key, so it passes the same checks and
//! `lb config` can say where the value came from.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args as ClapArgs, Parser, Subcommand};

use super::check_strategy::{CheckStrategy, How, SCORE_PLUGIN};
use super::explain::Explain;
use crate::config::{self, Source};
use crate::run;

const EXAMPLES: &str = "\
Examples:
  lb                                        serve what config/lb.toml says
  lb --config config/assignment.toml        the course's setting
  lb --strategy least_connections           another strategy, for this run
  lb --listen 0.0.0.0:80 --workers 4        another address, four worker threads
  lb --set timeouts.connect_ms=500 --set 'strategy.hash_on=[\"client_ip\"]'
                                            any key of the configuration, in TOML
  LB__PROXY__WORKERS=2 lb                   the same by the environment
  lb check                                  would it start? says what is wrong if not
  lb config                                 every setting in force and where it comes from
  lb strategies                             the plugins that can be named
  lb reload                                 the lb that runs takes up what the files say now
  lb rollback                               and goes back to the strategy before
  lb status; lb backends                    what runs, and in which state
  lb explain KEY                            where a request with that key would go, and why
  lb check-strategy libmine.so              the score card of a plugin
  (umask 077; lb token > admin.token)       a token for admin.token_file

While it runs, its admin port (127.0.0.1:8081) lists what can be asked: curl http://127.0.0.1:8081/
Exit codes: 0 all is well, 2 something for you to mend (usage, configuration, port, plugin, no lb that could be asked), 1 anything
else; of reload and rollback, that the lb that runs refused.";

/// An HTTP load balancer whose routing strategy is a plugin.
#[derive(Debug, Parser)]
#[command(name = "lb", version, about, after_help = EXAMPLES, disable_help_subcommand = true)]
pub struct Args {
    /// Write a JSON file here once requests are served (pid, proxy, admin); removed at the end
    #[arg(long, value_name = "PATH")]
    pub ready_file: Option<PathBuf>,

    /// Forget the changes that were made while it last ran (added, removed, drained backends)
    #[arg(long)]
    pub fresh: bool,

    /// Stop, as by SIGTERM, when stdin ends: hold the other end of the pipe, and neither lb nor what it launched outlives you
    #[arg(long)]
    pub exit_with_parent: bool,

    /// Print the answer as JSON on stdout
    #[arg(long, global = true)]
    pub json: bool,

    #[command(flatten)]
    pub settings: Settings,

    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What every command understands: where the settings come from.
#[derive(Debug, ClapArgs)]
#[command(next_help_heading = "Settings")]
pub struct Settings {
    /// The configuration file
    #[arg(long, value_name = "PATH", default_value = "config/lb.toml", global = true)]
    pub config: PathBuf,

    /// The strategy of the pool default [key: strategy.name]
    #[arg(long, visible_alias = "algorithm", value_name = "NAME", global = true)]
    pub strategy: Option<String>,

    /// Where requests come in, IP:port; may be repeated [key: proxy.listen]
    #[arg(long, value_name = "ADDR", global = true)]
    pub listen: Vec<String>,

    /// Where the admin port is, IP:port [key: admin.listen]
    #[arg(long, value_name = "ADDR", global = true)]
    pub admin_listen: Option<String>,

    /// Worker threads, 0 for one per core [key: proxy.workers]
    #[arg(long, value_name = "N", global = true)]
    pub workers: Option<String>,

    /// Any key of the configuration, its value in TOML; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_and_value, global = true)]
    pub set: Vec<(String, String)>,
}

const JUDGED: &str = "\
It runs the code in FILE: native code of its author, with your rights, free to read and change what you may. Do that for files \
you would run anyway, or in a container. Each file runs in a process of its own, so a crash or a hang is a row of its card.

Exit codes: 0 all rows of all files pass (warnings included), 1 some fail, 2 usage.";

#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum Command {
    /// Check the configuration and its plugins without starting anything
    Check,
    /// Show every setting in force and where it comes from
    Config,
    /// Print the JSON Schema of the configuration file, for editors
    Schema,
    /// List the strategies found in the plugin folders
    Strategies,
    /// Tell the lb that runs to read its configuration and plugins again (--strategy NAME: another one until the next reload)
    Reload {
        /// Do everything but put it in force
        #[arg(long)]
        dry_run: bool,
    },
    /// Tell the lb that runs to put back the strategy before the one in charge
    Rollback {
        /// Of this pool only
        #[arg(long, value_name = "NAME")]
        pool: Option<String>,
    },
    /// Show the lb that runs: strategies, probation, last reload, what is not as the file says
    Status,
    /// Show the backends of the lb that runs
    Backends,
    /// Ask the lb that runs where a request would go, and why
    Explain(Explain),
    /// Make an admin token: (umask 077; lb token > admin.token), then admin.token_file = "admin.token"
    Token,
    /// Try one plugin, asked on stdin: what `lb` does in its own child
    #[command(hide = true)]
    VetPlugin,
    /// Judge plugins: fairness, weights, disruption, threads, memory, time and more
    #[command(after_help = JUDGED)]
    CheckStrategy(CheckStrategy),
    /// The child of check-strategy
    #[command(name = SCORE_PLUGIN, hide = true)]
    ScorePlugin {
        file: PathBuf,
        /// For the private copy that is opened
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
    /// What was typed. clap lets a global option behind the subcommand replace the same one before it; of `--set` both count.
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

    /// What only a start takes must not be given in vain.
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
        let said_to_nobody = [
            ("--strategy", settings.strategy.is_some() && !matches!(command, Command::Reload { .. })),
            ("--listen", !settings.listen.is_empty()),
            ("--workers", settings.workers.is_some()),
            ("--set", settings.set.iter().any(|(key, _)| !key.starts_with("admin."))),
        ];
        match said_to_nobody.iter().find(|(_, given)| *given && command.asks_a_running_lb()) {
            Some((flag, _)) => {
                Err(format!("{flag} says nothing to the lb that runs, so not for `lb {name}`: write it into its file"))
            }
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
    /// Of the configuration it only needs to know where the admin port is.
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
    /// Where the configuration comes from.
    pub(super) fn source(&self) -> Source {
        let (path, command_line) = (self.config.clone(), self.as_keys());
        Source { path, command_line, environment: config::process_environment() }
    }

    /// The flags as configuration keys, `--set` first, so that a flag of its own goes before it.
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
        assert_eq!(args.settings.config, PathBuf::from("config/lb.toml"));
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
    fn settings_may_stand_before_or_after_the_command() {
        for line in ["lb --strategy a --json check", "lb check --strategy a --json"] {
            let args = parse(line);
            assert_eq!(
                (args.command, args.settings.strategy.as_deref(), args.json),
                (Some(Command::Check), Some("a"), true)
            );
        }
    }

    #[test]
    fn what_only_a_start_takes_is_refused_elsewhere() {
        let complaint = parse("lb --fresh check").check_combination().unwrap_err();
        assert_eq!(complaint, "--fresh is for a start only, not for `lb check`");
        assert!(parse("lb --fresh --exit-with-parent --ready-file x").check_combination().is_ok());
        let complaint = parse("lb --workers 2 status").check_combination().unwrap_err();
        assert!(complaint.starts_with("--workers says nothing to the lb that runs"), "{complaint}");
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
    fn every_set_counts_before_and_behind_the_command() {
        let typed = "lb --set a=1 --set=b=2 check --set c=3".split(' ').map(OsString::from);
        let keys: Vec<_> = Args::parse_all(typed).unwrap().settings.set.into_iter().map(|(key, _)| key).collect();
        assert_eq!(keys, ["a", "b", "c"]);
    }
}
