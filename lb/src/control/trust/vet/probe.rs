//! The trial itself, in the child: every call that a balancer will make, once, and then a look at what the plugin
//! leaves.
//!
//! Invariant: the child reports each step before it takes it. A list with stand-ins is separate from the given list,
//! because a strategy may rightly refuse the sum of both.

mod probes;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use lb_strategy::abi::{LB_BACKEND_ELIGIBLE, LB_BACKEND_HEALTHY};
use lb_strategy_host::{
    BackendList, BackendSpec, Decision, Finish, Hook, HookError, Loader, Outcome, PickRequest, Picker, Plugin,
    PluginPage, PrivateCopy, Remains, Staged, Start, Strategy, backend_id,
};

use super::answers::Answers;
use super::request::{About, Answer, Verdict, VetBackend, VetRequest, VetStage};

/// Picks on each list.
const PICKS: usize = 10_000;
/// Picks between two readings of the clock.
const BATCH: usize = 100;
/// Picks on one list that are followed by a finish.
const FINISHES_MAX: usize = 1_000;
/// The number of different keys; picks with a key use them in turn.
const KEYS: usize = 256;
/// A shorter list tests little of a strategy.
const BACKENDS_MIN: usize = 3;
/// Time between two requests, on the trial's clock.
const STEP_NS: u64 = 1_000;

/// A step and why it failed.
type Refused = (VetStage, String);

struct Trial<'a> {
    request: &'a VetRequest,
    /// The file to open.
    copy: PrivateCopy,
    about: Option<About>,
    tell: &'a mut dyn FnMut(VetStage),
    random: fastrand::Rng,
    keys: Vec<(String, u64)>,
    now_ns: u64,
    /// The number of lists made; each gets an epoch of its own.
    lists: u64,
    /// Live numbers and slots, by id, as in a pool.
    specs: HashMap<String, BackendSpec>,
    answers: Answers,
    /// The first failure of a hook that changes no pick.
    first_failure: Option<Refused>,
    /// Times of picks, one of each batch.
    times_ns: Vec<u64>,
}

/// Tries the plugin of `request` by its `copy`; reports each step to `tell` first.
pub(super) fn run(request: &VetRequest, copy: PrivateCopy, tell: &mut dyn FnMut(VetStage)) -> Verdict {
    let before = Remains::look();
    let mut trial = Trial::new(request, copy, tell);
    let outcome = trial.walk();
    (trial.tell)(VetStage::Leak);
    let judged = outcome.and_then(|()| trial.judge_picks()).and_then(|()| trial.judge_other_hooks());
    let outcome = judged.and_then(|()| match before.added_since() {
        None => Ok(()),
        Some(reason) => Err((VetStage::Leak, reason)),
    });
    trial.times_ns.sort_unstable();
    let pick_ns_p50 = trial.times_ns.get(trial.times_ns.len() / 2).copied().unwrap_or_default();
    let (verdict, stage, reason) = match outcome {
        Ok(()) => (Answer::Ok, VetStage::End, String::new()),
        Err((stage, reason)) => (Answer::Refused, stage, reason),
    };
    let Trial { about, answers: Answers { panics, bad: bad_answers, .. }, .. } = trial;
    Verdict { verdict, stage, reason, panics, bad_answers, pick_ns_p50, about, left: Vec::new() }
}

// === impl Trial ===

impl<'a> Trial<'a> {
    fn new(request: &'a VetRequest, copy: PrivateCopy, tell: &'a mut dyn FnMut(VetStage)) -> Self {
        let key = |number| {
            let key = format!("{number:06}");
            let hash = xxhash_rust::xxh3::xxh3_64(key.as_bytes());
            (key, hash)
        };
        Self {
            request,
            copy,
            about: None,
            tell,
            random: fastrand::Rng::with_seed(1),
            keys: (0..KEYS).map(key).collect(),
            now_ns: 1,
            lists: 0,
            specs: HashMap::new(),
            answers: Answers::default(),
            first_failure: None,
            times_ns: Vec::new(),
        }
    }

    /// All steps from opening to freeing.
    fn walk(&mut self) -> Result<(), Refused> {
        let plugin = self.open()?;
        if self.request.opens_only {
            return Ok(());
        }
        let strategy = self.instance(&plugin)?;
        let mut pickers = Vec::new();
        for (members, up_from) in self.worlds() {
            let picker = self.picker(&strategy, &members, up_from)?;
            self.use_picker(&picker);
            pickers.push(picker);
        }
        if plugin.tick_ms() > 0 {
            (self.tell)(VetStage::Tick);
            let asks_for_picker = strategy.tick(self.now_ns).map_err(at(VetStage::Tick))?;
            if asks_for_picker && let Some((members, up_from)) = self.worlds().pop() {
                pickers.push(self.picker(&strategy, &members, up_from)?);
            }
        }
        self.collect(&strategy)?;
        let successor = self.hand_over(&plugin, &strategy)?;
        (self.tell)(VetStage::Free);
        drop((pickers, successor, strategy));
        Ok(())
    }

    fn open(&mut self) -> Result<Arc<Plugin>, Refused> {
        (self.tell)(VetStage::Open);
        let VetRequest { plugin, origin, name, workers, .. } = self.request;
        let loader = Loader::new(plugin.parent().unwrap_or(plugin).to_owned(), *workers);
        // The parent has staged the file. The digest distinguishes images of one process, and this process opens one
        // only.
        let copy = self.copy.clone();
        let staged = Staged { sha256: [0; 32], copy, origin: origin.clone(), name: name.clone() };
        let plugin = loader.open(staged).map_err(|error| (VetStage::Open, error.reason))?;
        let [name, version, expectation] = [plugin.name(), plugin.version(), plugin.expectation()].map(str::to_owned);
        self.about = Some(About { name, version, expectation });
        Ok(plugin)
    }

    fn instance(&mut self, plugin: &Arc<Plugin>) -> Result<Arc<Strategy>, Refused> {
        (self.tell)(VetStage::New);
        Strategy::new(plugin.clone(), &self.request.options).map_err(|error| match error {
            HookError::Options { .. } => (VetStage::Options, error.to_string()),
            error => (VetStage::New, error.to_string()),
        })
    }

    /// The lists to try, each with the index of the first backend that is up.
    fn worlds(&self) -> Vec<(Vec<VetBackend>, usize)> {
        let given = &self.request.backends;
        let stand_ins: Vec<_> = (1..=BACKENDS_MIN).map(stand_in).collect();
        let one = given.first().unwrap_or(&stand_ins[0]).clone();
        let all = if given.len() < BACKENDS_MIN { stand_ins } else { given.clone() };
        let mut worlds = vec![(Vec::new(), 0), (vec![one], 0)];
        if given.len() == 2 {
            worlds.push((given.clone(), 0));
        }
        worlds.extend([(all.clone(), 0), (all, 1)]);
        worlds
    }

    fn picker(&mut self, strategy: &Arc<Strategy>, members: &[VetBackend], up_from: usize) -> Result<Picker, Refused> {
        (self.tell)(VetStage::Picker);
        self.lists += 1;
        let specs = members.iter().enumerate().map(|(index, member)| self.spec(member, index >= up_from)).collect();
        // Health does not change members: the list before is equal in everything else.
        let members_epoch = self.lists - u64::from(up_from > 0);
        let list = BackendList::new(specs, self.lists, members_epoch);
        Picker::new(strategy.clone(), list).map_err(at(VetStage::Picker))
    }

    fn spec(&mut self, member: &VetBackend, is_up: bool) -> BackendSpec {
        let weight = u32::from(member.weight);
        let known = self.specs.entry(member.id.clone()).or_insert_with(|| BackendSpec {
            name: member.id.as_str().into(),
            address: member.address.as_str().into(),
            labels: member.labels.as_str().into(),
            weight,
            effective: weight * 1000,
            flags: 0,
            stats: Arc::default(),
            slot: Arc::default(),
        });
        let flags = if is_up && weight > 0 { LB_BACKEND_ELIGIBLE | LB_BACKEND_HEALTHY } else { 0 };
        BackendSpec { flags, ..known.clone() }
    }

    /// Picks, begins, finishes, explanations.
    fn use_picker(&mut self, picker: &Picker) {
        (self.tell)(VetStage::Pick);
        let mut picked = Vec::with_capacity(FINISHES_MAX);
        for _ in 0..PICKS / BATCH {
            let began = Instant::now();
            for number in 0..BATCH {
                let decision = self.pick(picker, number);
                self.answers.count(decision);
                if let Decision::Backend { index, token } = decision
                    && picked.len() < FINISHES_MAX
                {
                    picked.push((index, token));
                }
            }
            self.times_ns.push(began.elapsed().as_nanos() as u64 / BATCH as u64);
        }
        let panics = picker.strategy().panics();
        self.answers.first_panic = self.answers.first_panic.take().or(panics.first(Hook::Pick).map(str::to_owned));
        let wants = picker.strategy().plugin().wants();
        if wants.start {
            (self.tell)(VetStage::Begin);
            self.begin(picker, &picked);
            self.note_panics(picker, Hook::OnStart, VetStage::Begin);
        }
        if wants.finish {
            (self.tell)(VetStage::Finish);
            self.finish(picker, &picked);
            self.note_panics(picker, Hook::OnFinish, VetStage::Finish);
        }
        if wants.probes {
            (self.tell)(VetStage::Probe);
            self.end_probes(picker);
            self.note_panics(picker, Hook::OnProbe, VetStage::Probe);
        }
        (self.tell)(VetStage::Explain);
        // The live page asks for a ring without a key.
        for number in 0..2 {
            if let Some(Err(error)) = picker.explain(&PickRequest { dry: true, ..self.ask(number) }) {
                self.first_failure.get_or_insert((VetStage::Explain, error.to_string()));
            }
        }
    }

    /// A hook without a status reports its panics by log lines, which the host counts.
    fn note_panics(&mut self, picker: &Picker, hook: Hook, stage: VetStage) {
        let (panics, text) = (picker.strategy().panics().of(hook), picker.strategy().panics().first(hook));
        if panics > 0 {
            let first = text.map_or(String::new(), |text| format!(", first at {text}"));
            let reason = format!("panicked in {}, {panics} times so far{first}", hook.as_str());
            self.first_failure.get_or_insert((stage, reason));
        }
    }

    /// With and without a key; some are retries, some dry.
    fn pick(&mut self, picker: &Picker, number: usize) -> Decision {
        self.now_ns += STEP_NS;
        let random = self.random.u64(..);
        let is_repeat = number % 16 == 15 && !picker.backends().is_empty();
        let tried: &[u32] = if is_repeat { &[0] } else { &[] };
        picker.pick(&PickRequest {
            random,
            tried,
            attempt: tried.len() as u32,
            dry: number % 64 == 63,
            ..self.ask(number)
        })
    }

    fn ask(&self, number: usize) -> PickRequest<'_> {
        let (key, hash) = &self.keys[(number + self.now_ns as usize / STEP_NS as usize) % KEYS];
        PickRequest {
            worker: Some((number % self.request.workers.max(1)) as u32),
            attempt: 0,
            tried: &[],
            key: number.is_multiple_of(2).then_some((key.as_bytes(), *hash)),
            random: 0,
            now_ns: self.now_ns,
            dry: false,
            body_length: Some(0),
            lookup: &(),
        }
    }

    fn begin(&mut self, picker: &Picker, picked: &[(usize, u64)]) {
        for (number, &(index, token)) in picked.iter().enumerate() {
            self.now_ns += STEP_NS;
            let name = if is_of_gone_backend(number) { "gone" } else { &*picker.backends().specs()[index].name };
            picker.start(&Start {
                worker: Some((number % self.request.workers.max(1)) as u32),
                backend_id: backend_id(name),
                attempt: (number % 3) as u32,
                own: is_own(number),
                token,
                body_length: [Some(0), Some(1 << 40), None][number % 3],
                now_ns: self.now_ns,
            });
        }
    }

    fn finish(&mut self, picker: &Picker, picked: &[(usize, u64)]) {
        const OUTCOMES: [Outcome; 4] = [Outcome::Ok, Outcome::ConnectError, Outcome::Timeout, Outcome::ClientGone];
        for (number, &(index, token)) in picked.iter().enumerate() {
            self.now_ns += STEP_NS;
            let outcome = OUTCOMES[if number % 8 == 7 { number / 8 % OUTCOMES.len() } else { 0 }];
            let name = if is_of_gone_backend(number) { "gone" } else { &*picker.backends().specs()[index].name };
            picker.finish(&Finish {
                worker: Some((number % self.request.workers.max(1)) as u32),
                backend_id: backend_id(name),
                outcome,
                http_status: matches!(outcome, Outcome::Ok).then_some(200),
                attempt: 0,
                own: is_own(number),
                upgraded: number % 64 == 63,
                token,
                time_to_head_ns: 1_000_000,
                total_ns: 2_000_000,
                now_ns: self.now_ns,
            });
        }
    }

    /// The strategy's own metrics, if it has some. In a pool lb drops bad lines; here each is a finding.
    fn collect(&mut self, strategy: &Strategy) -> Result<(), Refused> {
        if !strategy.plugin().has_metrics() {
            return Ok(());
        }
        (self.tell)(VetStage::Metrics);
        let Some(text) = strategy.metrics() else { return Ok(()) };
        let page = PluginPage::read(&text.map_err(at(VetStage::Metrics))?);
        page.first_dropped().map_or(Ok(()), |bad| Err((VetStage::Metrics, bad.to_string())))
    }

    /// A second instance gets the learnt state and must then work.
    fn hand_over(&mut self, plugin: &Arc<Plugin>, strategy: &Arc<Strategy>) -> Result<Option<Picker>, Refused> {
        let Some((_, version)) = plugin.state_schema() else { return Ok(None) };
        (self.tell)(VetStage::State);
        let Some(state) = strategy.export_state() else { return Ok(None) };
        let state = state.map_err(at(VetStage::State))?;
        // As at a reload: if the exported state is empty, the slots hold everything.
        if state.is_empty() {
            return Ok(None);
        }
        let successor = self.instance(plugin)?;
        (self.tell)(VetStage::State);
        successor.import_state(version, &state).map_err(at(VetStage::State))?;
        let Some((members, _)) = self.worlds().pop() else { return Ok(None) };
        let picker = self.picker(&successor, &members, 0)?;
        self.use_picker(&picker);
        Ok(Some(picker))
    }

    fn judge_picks(&self) -> Result<(), Refused> {
        self.answers.judge(self.picks()).map_err(|reason| (VetStage::Pick, reason))
    }

    fn judge_other_hooks(&self) -> Result<(), Refused> {
        self.first_failure.clone().map_or(Ok(()), Err)
    }

    fn picks(&self) -> usize {
        self.times_ns.len() * BATCH
    }
}

/// Some attempts are picks of a predecessor.
fn is_own(number: usize) -> bool {
    number % 10 != 9
}

/// Some attempts are on a backend that has left the list.
fn is_of_gone_backend(number: usize) -> bool {
    number % 32 == 31
}

fn at(stage: VetStage) -> impl FnOnce(HookError) -> Refused {
    move |error| (stage, error.to_string())
}

fn stand_in(number: usize) -> VetBackend {
    VetBackend { id: format!("stand-in {number}"), address: "127.0.0.1:9".to_owned(), weight: 1, labels: String::new() }
}
