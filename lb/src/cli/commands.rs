//! The commands of `lb`, each with the options that it takes.
//!
//! Invariant: a command has no option that it would refuse or ignore. So its help, its man page and its completions
//! list what works.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Subcommand, ValueHint};
use lb_manual::{CompletionsArgs, ManArgs};

use super::args::{Settings, key_and_value};
use super::check_strategy::CheckStrategy;
use super::drain::{Drain, Target};
use super::explain::Explain;

const RELOAD: &str = "\
The running lb applies all changes of its configuration and plugin files, or refuses all and keeps its state. `lb reload` prints \
the keys that only a restart applies. A new strategy is on probation (reload.probation_ms): if it fails, lb restores the last proven one.

--strategy NAME puts another strategy of the pool default in charge, until a reload without --strategy.

Exit codes: 0 in force, nothing to change, or (--dry-run) it would work; 1 refused, the running state stays; 2 usage, configuration, \
no lb at the admin address, wrong admin token.";

const ROLLBACK: &str = "\
A strategy is proven when it has passed its probation: reload.probation_ms and 1000 picks. A strategy that was active in between and was \
not proven is skipped. Before it acts, the command prints which strategy comes back; --dry-run prints only that. lb keeps the last proven strategy of each pool, with its \
state, while a later one is in charge; `lb status` names it. If no strategy was proven yet, lb keeps the first one. The configuration \
file does not change, so a later reload applies its strategy again.

Exit codes: 0 in force; 1 refused, for example because there is nothing to restore; 2 usage, configuration, no lb at the admin \
address, wrong admin token.";

const HEALTH: &str = "\
Prints ok, or the reason why not. It needs no token, and it works while the configuration file has a mistake. For HEALTHCHECK of \
Docker, ExecStartPost of systemd, or a script that waits for a start.

Exit codes: 0 healthy, or (--ready) ready; 1 not, or no lb responds within 5 s; 2 usage.";
const DRAINED: &str = "\
A drained backend gets no new requests; `lb ready` ends that. Requests in flight go on. At the deadline those that are left end: they are \
retried on another backend if that is safe, else they get 503 (x-lb-error: drained), and streams and tunnels are closed.

Exit codes: 0 the drain is in force, with --wait: no request is in flight any more; 1 --wait: requests were ended by the deadline, or the \
drain was ended; 2 usage, no such backend, no lb at the admin address, wrong admin token.";

const CHECKED: &str = "\
The check runs the code in FILE. It is native code of its author, with your rights: it can read and change all that you can. Check \
only files that you would run anyway, or use a container. Each file runs in a process of its own, so a crash or a hang only fails a \
row of its card.

Exit codes: 0 no row failed (warnings are allowed), 1 a row failed or a check could not run, 2 usage.";

const SCRIPTS: &str = "\
Put the script where the shell finds it:
  lb completions bash > ~/.local/share/bash-completion/completions/lb
  lb completions zsh > \"${fpath[1]}/_lb\"
  lb completions fish > ~/.config/fish/completions/lb.fish
  lb completions elvish > ~/.config/elvish/lib/lb.elv      then in rc.elv: use lb
  lb completions powershell >> $PROFILE";

const PAGES: &str = "\
Examples:
  lb man | man -l -                         read the page of lb
  lb man --out ~/.local/share/man/man1      install the pages, then: man lb-reload";

/// The commands that send a request to a running lb. They use only the admin section of the configuration.
const ASK_A_RUNNING_LB: [&str; 8] = ["reload", "rollback", "status", "backends", "health", "drain", "ready", "explain"];

#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum Command {
    /// Check the configuration, its plugins and ports, without starting lb
    Check(Reading),
    /// Show every setting in force and where it comes from
    Config(Reading),
    /// Print the JSON Schema of the configuration file, for editors
    Schema,
    /// List the strategies found in the plugin folders
    Strategies(Reading),
    /// Make the running lb read its configuration and plugins again
    #[command(after_help = RELOAD)]
    Reload {
        /// Put this strategy of the pool default in charge, until a reload without --strategy
        #[arg(long, visible_alias = "algorithm", value_name = "NAME")]
        strategy: Option<String>,
        /// Test the reload, but do not put it in force
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        asking: Asking,
    },
    /// Restore the last proven strategy from before the active one, in every pool of the running lb that has one
    #[command(after_help = ROLLBACK)]
    Rollback {
        /// Roll back only this pool
        #[arg(long, value_name = "NAME")]
        pool: Option<String>,
        /// Print which strategy would come back, and change nothing
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        asking: Asking,
    },
    /// Show the state of the running lb: strategies, probation, last reload, differences from the file
    Status(Asking),
    /// Show the backends of the running lb
    Backends {
        /// Show their labels, too
        #[arg(long)]
        labels: bool,
        #[command(flatten)]
        asking: Asking,
    },
    /// Ask whether the running lb works (/healthz), or should get traffic (/readyz)
    #[command(after_help = HEALTH)]
    Health {
        /// Whether each pool has a backend that may get requests, instead of whether lb itself works
        #[arg(long)]
        ready: bool,
        #[command(flatten)]
        asking: Asking,
    },
    /// Send no new requests to a backend of the running lb
    #[command(after_help = DRAINED)]
    Drain {
        #[command(flatten)]
        drain: Drain,
        #[command(flatten)]
        asking: Asking,
    },
    /// Send requests to a backend of the running lb again, after a drain, an ejection or failed checks
    Ready {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        asking: Asking,
    },
    /// Show where the running lb would send a request, and why
    Explain {
        #[command(flatten)]
        question: Explain,
        #[command(flatten)]
        asking: Asking,
    },
    /// Make an admin token: (umask 077; lb token > admin.token), then admin.token_file = "admin.token"
    Token,
    /// Check plugins: fairness, weights, disruption, threads, memory, time and more
    #[command(after_help = CHECKED)]
    CheckStrategy(CheckStrategy),
    /// Print the script with which a shell completes the command line of lb
    #[command(after_help = SCRIPTS)]
    Completions(CompletionsArgs),
    /// Print the man page of lb, or write the pages of all commands into a folder
    #[command(after_help = PAGES)]
    Man(ManArgs),
}

/// The options of a command that reads the configuration and starts nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, ClapArgs)]
pub struct Reading {
    #[command(flatten)]
    pub json: Json,
    #[command(flatten)]
    pub settings: Settings,
}

/// The options of a command that asks a running lb: how to reach it.
#[derive(Clone, Debug, Default, PartialEq, Eq, ClapArgs)]
pub struct Asking {
    /// The configuration file of that lb, for the address of its admin port and its token [default: config/lb.toml]
    #[arg(long, value_name = "PATH", value_hint = ValueHint::FilePath)]
    pub config: Option<PathBuf>,

    /// The address of its admin port, IP:port [key: admin.listen]
    #[arg(long, value_name = "ADDR")]
    pub admin_listen: Option<String>,

    /// Set a key of the section admin, such as admin.token_file; the value is TOML; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_and_value)]
    pub set: Vec<(String, String)>,

    #[command(flatten)]
    pub json: Json,
}

/// The form of the result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ClapArgs)]
pub struct Json {
    /// Print the result as JSON on stdout
    #[arg(long)]
    pub json: bool,
}

/// Why the command `name` refuses the option `flag` of a start; `None` if it has no reason of its own.
pub(super) fn refusal(flag: &str, name: &str) -> Option<String> {
    match flag {
        "--ready-file" | "--fresh" | "--exit-with-parent" => {
            Some(format!("{flag} is for a start only, not for `lb {name}`"))
        }
        "--strategy" | "--algorithm" | "--listen" | "--workers" | "--set" if ASK_A_RUNNING_LB.contains(&name) => Some(
            format!("{flag} has no effect on a running lb, so `lb {name}` refuses it: set it in the file of that lb"),
        ),
        _ => None,
    }
}

// === impl Command ===

impl Command {
    /// Takes the options that may also be before the command.
    pub(super) fn take_options(&mut self) -> (Settings, Json) {
        match self {
            Self::Check(reading) | Self::Config(reading) | Self::Strategies(reading) => {
                (std::mem::take(&mut reading.settings), reading.json)
            }
            Self::Reload { strategy, asking, .. } => {
                let (settings, json) = asking.take_options();
                (Settings { strategy: strategy.take(), ..settings }, json)
            }
            Self::Rollback { asking, .. }
            | Self::Status(asking)
            | Self::Backends { asking, .. }
            | Self::Health { asking, .. }
            | Self::Drain { asking, .. }
            | Self::Ready { asking, .. }
            | Self::Explain { asking, .. } => asking.take_options(),
            Self::CheckStrategy(command) => (Settings::default(), command.json),
            Self::Schema | Self::Token | Self::Completions(_) | Self::Man(_) => Default::default(),
        }
    }

    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Check(_) => "check",
            Self::Config(_) => "config",
            Self::Schema => "schema",
            Self::Strategies(_) => "strategies",
            Self::Reload { .. } => "reload",
            Self::Rollback { .. } => "rollback",
            Self::Status(_) => "status",
            Self::Backends { .. } => "backends",
            Self::Health { .. } => "health",
            Self::Drain { .. } => "drain",
            Self::Ready { .. } => "ready",
            Self::Explain { .. } => "explain",
            Self::Token => "token",
            Self::CheckStrategy(_) => "check-strategy",
            Self::Completions(_) => "completions",
            Self::Man(_) => "man",
        }
    }
}

// === impl Asking ===

impl Asking {
    fn take_options(&mut self) -> (Settings, Json) {
        let Self { config, admin_listen, set, json } = std::mem::take(self);
        (Settings { config, admin_listen, set, ..Settings::default() }, json)
    }
}
