//! The method of the measurement, the checks of the run, and how to repeat it.

use crate::model::{
    Accounting, Arm, Arrivals, Completeness, Load, Manifest, Run, SAFEGUARDS, Safeguard, Safeguards, Severity,
};
use crate::report::document::{Block, Entry, Table, Tone};
use crate::report::format;

/// If there are more stretches than this, one row sums them up. Stretches that do not agree still have their own rows.
const STRETCHES_MAX: usize = 8;

pub(super) fn blocks(run: &Run) -> Vec<Block> {
    let manifest = &run.manifest;
    let mut blocks = vec![Block::Heading("How it was measured".into())];
    blocks.push(Block::Paragraph(load(&manifest.load)));
    blocks.push(Block::Paragraph(
        "Latency is measured from the scheduled send time, so waiting in the generator or behind a stall \
         counts as well, as for a user. Service time is measured from the actual send. Most tools report it, and it hides stalls."
            .into(),
    ));
    blocks.push(Block::Paragraph(
        "Sentences and tables have a percentile only if at least ten requests lie beyond it: 1,000 requests for a p99, 10,000 for a \
         p99.9. Charts over time show windows of fewer requests, whose p99 is the slowest one: read the time from them, not the value.".into(),
    ));
    let planted = manifest.arms.iter().filter(|arm| arm.cost_factor != 1.0);
    blocks.extend(planted.map(|arm| {
        let factor = format::decimals(arm.cost_factor, 2);
        Block::Paragraph(format!(
            "The plan sets a difference on purpose: requests to {} cost {factor} times as much as with the other arms.",
            arm.label
        ))
    }));
    blocks.push(Block::List(vec![
        format!("Backends: {}.", manifest.backends.description),
        format!("Keys: {}.", manifest.backends.keys),
        format!("Target: {}.", manifest.backends.target),
        host(manifest),
    ]));
    blocks.extend(safeguards(manifest));
    blocks.push(Block::Table(checks(run)));
    blocks.extend(accounting(run));
    blocks
}

fn load(load: &Load) -> String {
    match load {
        Load::Closed { connections, requests } => format!(
            "Closed loop: {connections} connections; each sends its next request when the last response is there, {}. The time that the generator needs in between is in no latency. A slow balancer gets fewer requests, and slow moments are under-represented: latencies of a closed loop look better than \
             those that independent users would see.",
            match requests {
                0 => "until the time is over".to_owned(),
                requests => format!("{} requests in all for each cell", format::count(*requests)),
            }
        ),
        Load::Open { arrivals, rate_rps, capacity_rps, outstanding_max } => {
            let spacing = match arrivals {
                Arrivals::Poisson => "at random moments, as independent users do (Poisson)",
                Arrivals::Constant => "at equal intervals",
                Arrivals::Ramp => "at a rising rate",
            };
            let capacity = capacity_rps.map_or(String::new(), |capacity| {
                format!(
                    "; that is {} of the capacity of these backends, {} requests per second by calibration",
                    format::percent(rate_rps / capacity),
                    format::significant(capacity)
                )
            });
            format!(
                "Open loop: {} requests per second {spacing}, whether or not earlier ones have a response{capacity}. At most {} may be in \
                 flight; requests beyond are counted as unsent.",
                format::significant(*rate_rps),
                format::count(u64::from(*outstanding_max))
            )
        }
    }
}

/// The safeguards of lb in each arm, as the running lb reported them; `None` in older runs.
fn safeguards(manifest: &Manifest) -> Option<Block> {
    let found: Vec<(&Arm, &Safeguards)> =
        manifest.arms.iter().filter_map(|arm| Some((arm, arm.safeguards.as_ref()?))).collect();
    let is_reported = |safeguard: &&Safeguard| found.iter().any(|(_, it)| it.0.contains_key(safeguard.section));
    let reported: Vec<&Safeguard> = SAFEGUARDS.iter().filter(is_reported).collect();
    let names: Vec<String> = reported.iter().map(|safeguard| safeguard.name.to_owned()).collect();
    if found.is_empty() || names.is_empty() {
        return None;
    }
    if found.iter().all(|(_, safeguards)| safeguards.on().is_empty()) {
        return Some(Block::Paragraph(format!(
            "Safeguards of lb, as the running lb reported them: {}, all off.",
            format::list(&names)
        )));
    }
    let caption = "The safeguards of lb in each arm, as the running lb reported them.";
    let titles: Vec<&str> = ["arm"].into_iter().chain(names.iter().map(String::as_str)).collect();
    let mut table = Table::new(caption, &titles);
    for (arm, safeguards) in found {
        let entry = |safeguard: &&Safeguard| match safeguards.0.get(safeguard.section) {
            Some(keys) if safeguard.is_off(keys) => Entry::new("off"),
            Some(keys) => Entry::new("on:").note(keys_in_words(keys)),
            None => Entry::new("–"),
        };
        table.row(std::iter::once(Entry::new(&arm.label)).chain(reported.iter().map(entry)).collect());
    }
    Some(Block::Table(table))
}

/// For example `attempts = 2, on = ["500"]`.
fn keys_in_words(keys: &serde_json::Map<String, serde_json::Value>) -> String {
    let words: Vec<String> = keys.iter().map(|(key, value)| format!("{key} = {value}")).collect();
    words.join(", ")
}

fn host(manifest: &Manifest) -> String {
    let host = &manifest.host;
    let after = host.load_after.map_or(String::new(), |load| format!(", {} after", format::decimals(load, 2)));
    let steal = host
        .steal
        .map_or(String::new(), |steal| format!("; {} of the CPU was taken by the hypervisor", format::percent(steal)));
    format!(
        "Host: {}, {} cores of {}, kernel {}; load average {} before{after}{steal}.",
        host.name,
        host.cores,
        host.cpu,
        host.kernel,
        format::decimals(host.load_before, 2)
    )
}

/// The table of the run's own checks.
fn checks(run: &Run) -> Table {
    let mut table = Table::new("The run's own checks.", &["check", "outcome", "finding"]);
    for mark in &run.manifest.marks {
        let (word, tone) = match mark.severity {
            Severity::Passed => ("passed", Tone::Good),
            Severity::Warning => ("warning", Tone::Doubt),
            Severity::Invalid => ("failed", Tone::Bad),
        };
        table.row(vec![
            Entry::new(mark.check.replace('_', " ")),
            Entry::new(word).tone(tone),
            Entry::new(&mark.reason),
        ]);
    }
    let (word, tone, finding) = match &run.manifest.completeness {
        Completeness::Complete => ("passed", Tone::Good, "the whole plan was measured".to_owned()),
        Completeness::Partial { reason } => ("warning", Tone::Doubt, reason.clone()),
    };
    table.row(vec![Entry::new("complete"), Entry::new(word).tone(tone), Entry::new(finding)]);
    table
}

fn stretch_row(stretch: &Accounting) -> Vec<Entry> {
    let served: u64 = stretch.backends.iter().map(|backend| backend.served).sum();
    let has_dead = stretch.backends.iter().any(|backend| backend.is_lower_bound);
    let outcome = match &stretch.mismatch {
        None if has_dead => Entry::new("agree, without the backend that died").tone(Tone::Good),
        None => Entry::new("agree").tone(Tone::Good),
        Some(mismatch) => Entry::new(mismatch).tone(Tone::Bad),
    };
    vec![
        Entry::new(&stretch.stretch),
        Entry::new(format::count(stretch.client)),
        Entry::new(format::count(stretch.balancer)),
        Entry::new(format::count(stretch.attempts)),
        Entry::new(format!("{}{}", if has_dead { "≥ " } else { "" }, format::count(served))),
        outcome,
    ]
}

/// The sum of all stretches.
fn together(stretches: &[Accounting]) -> Accounting {
    let sum = |read: fn(&Accounting) -> u64| stretches.iter().map(read).sum();
    let wrong = stretches.iter().filter(|stretch| stretch.mismatch.is_some()).count() as u64;
    Accounting {
        stretch: format!("all {} stretches", stretches.len()),
        client: sum(|it| it.client),
        balancer: sum(|it| it.balancer),
        attempts: sum(|it| it.attempts),
        backends: stretches.iter().flat_map(|stretch| stretch.backends.clone()).collect(),
        mismatch: (wrong > 0).then(|| format!("{} of {} do not agree", wrong, stretches.len())),
    }
}

/// The counts of client, balancer and backends side by side.
fn accounting(run: &Run) -> Vec<Block> {
    let stretches = &run.results.accounting;
    if stretches.is_empty() {
        return vec![Block::Notice(
            Tone::Doubt,
            "Only loadgen counted requests, not the balancer and the backends.".into(),
        )];
    }
    let mut table = Table::new(
        "The same requests, counted in three places, warm-up and wash-out included. Client and balancer must agree. Attempts include \
         retries, and the backends must have served as many.",
        &["stretch", "#client", "#balancer", "#attempts", "#backends", "outcome"],
    );
    let is_long = stretches.len() > STRETCHES_MAX;
    for stretch in stretches.iter().filter(|stretch| !is_long || stretch.mismatch.is_some()) {
        table.row(stretch_row(stretch));
    }
    if is_long {
        table.row(stretch_row(&together(stretches)));
    }
    let mut blocks = vec![Block::Table(table)];
    let dead: Vec<String> = stretches
        .iter()
        .flat_map(|stretch| &stretch.backends)
        .filter(|backend| backend.is_lower_bound)
        .map(|backend| backend.id.clone())
        .collect();
    if !dead.is_empty() {
        blocks.push(Block::Paragraph(format!(
            "{} died during the run. Its last scrape gives a lower bound of its requests, so it is left out of the comparison of attempts \
             with backends.",
            format::list(&dead)
        )));
    }
    blocks
}

/// The arms, and the command that repeats the run.
pub(super) fn reproduce(run: &Run) -> Vec<Block> {
    let manifest = &run.manifest;
    let mut table = Table::new(
        "The arms.",
        &["arm", "strategy", "options", "sha256 of the library", "sha256 of the configuration"],
    );
    for arm in &manifest.arms {
        let options = if arm.options.as_object().is_some_and(serde_json::Map::is_empty) {
            "defaults".into()
        } else {
            arm.options.to_string()
        };
        table.row(vec![
            Entry::new(&arm.label),
            Entry::new(if arm.strategy.is_empty() { "–" } else { &arm.strategy }),
            Entry::new(options),
            Entry::new(head(&arm.strategy_sha256)),
            Entry::new(head(&arm.config_sha256)),
        ]);
    }
    let seeds: Vec<String> = manifest.seeds.iter().map(|(name, seed)| format!("{name} {seed}")).collect();
    let lb = manifest.lb.as_ref().map_or("not ours".into(), |lb| format!("{} ({})", lb.version, head(&lb.commit)));
    vec![
        Block::Heading("How to repeat it".into()),
        Block::Code(manifest.command.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ")),
        Block::Paragraph(
            match manifest.is_single_load() {
                true => "`loadgen report` on this folder writes these pages again.",
                false => {
                    "`loadgen replay run.json` repeats the run and compares the results; `loadgen report` on this folder writes these \
                     pages again."
                }
            }
            .replace('`', ""),
        ),
        Block::Table(table),
        Block::List(vec![
            format!("lb {lb}, loadgen {} ({}).", manifest.loadgen.version, head(&manifest.loadgen.commit)),
            format!("Seeds: {}.", if seeds.is_empty() { "none".into() } else { seeds.join(", ") }),
            format!(
                "The run took {} of a budget of {}.",
                format::milliseconds(manifest.duration_ms as f64),
                format::milliseconds(manifest.budget_ms as f64)
            ),
        ]),
    ]
}

/// The first 12 digits of a hash; run.json has the complete hash.
fn head(hash: &str) -> String {
    if hash.is_empty() { "–".into() } else { hash.chars().take(12).collect() }
}

/// A word, quoted for a shell.
fn quoted(word: &str) -> String {
    let is_plain = |char: char| char.is_ascii_alphanumeric() || "-_./:=,@%+".contains(char);
    if !word.is_empty() && word.chars().all(is_plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}
