//! Fairness and weights: do the shares follow the declared law?
//!
//! The bar depends on the law. Exact counts may be off by 1. Draws must pass Pearson's chi-square test. The share of a
//! ring's backend is Beta(K·w, K·(W−w)) plus the noise of the number of keys that were tried.
//!
//! "By load" and "by latency" are tested in closed loops in virtual time, with finishes, on equally fast backends:
//!
//! - fairness by load: with one client, so in an idle pool, the draws must be even (chi-square).
//! - fairness by latency: 20 clients, 250 ms for a request. No share may be off by more than 50 %. The measured times
//!   are noisy. With the host's average (time constant 10 s), a sound strategy is off by up to 33 %.
//! - weights: 200 clients. No share may be off by more than 15 %, by latency 50 %.

use statrs::distribution::{Beta, ContinuousCDF};

use super::expectation::{Balance, LEARNING, P_MIN};
use super::subject::Subject;
use super::{Finding, Found};
use crate::World;
use crate::statistics::{chi_square_p, counts};

/// A closed loop in which shares are judged.
struct Bar {
    clients: usize,
    service_ms: u64,
    /// The largest relative error of a share.
    off_max: f64,
}

const PICKS: usize = 20_000;
const BY_LATENCY: Bar = Bar { clients: 20, service_ms: 250, off_max: 0.5 };
const WEIGHTS_BY_LOAD: Bar = Bar { clients: 200, service_ms: 50, off_max: 0.15 };
const WEIGHTS_BY_LATENCY: Bar = Bar { clients: 200, service_ms: 250, off_max: 0.5 };

/// Equal backends get equal shares.
pub(super) fn fairness(subject: &Subject) -> Found {
    if subject.expectation.balance == Balance::ByOptions {
        return Ok(Finding::not_applicable("its options determine its shares"));
    }
    let world = World::labelled(5);
    let observed = match subject.expectation.balance {
        Balance::ByLatency => return in_a_loop(subject, world, &[1.0; 5], &BY_LATENCY),
        Balance::ByLoad => subject.pool(world, 20)?.run(PICKS)?,
        _ => counts(5, subject.picks(&world, 20, PICKS)?),
    };
    let finding = judge(subject.expectation.balance, &observed, &[1.0; 5]);
    Ok(match subject.expectation.balance {
        Balance::Undeclared if finding.verdict == super::Verdict::Fail => Finding {
            verdict: super::Verdict::Warn,
            sentence: "the shares are uneven, and no balance is declared".into(),
            ..finding
        },
        _ => finding,
    })
}

/// Shares follow the weights.
pub(super) fn weights(subject: &Subject) -> Found {
    const WEIGHTS: [u32; 4] = [1, 2, 3, 4];
    if !subject.expectation.weights {
        return Ok(Finding::not_applicable("it declares no weights"));
    }
    let world = World::labelled(4).weights(&WEIGHTS);
    let weights = WEIGHTS.map(f64::from);
    match subject.expectation.balance {
        Balance::ByLoad => in_a_loop(subject, world, &weights, &WEIGHTS_BY_LOAD),
        Balance::ByLatency => in_a_loop(subject, world, &weights, &WEIGHTS_BY_LATENCY),
        balance => Ok(judge(balance, &counts(4, subject.picks(&world, 21, PICKS)?), &weights)),
    }
}

fn judge(balance: Balance, observed: &[u64], weights: &[f64]) -> Finding {
    let (total, sum) = (observed.iter().sum::<u64>() as f64, weights.iter().sum::<f64>());
    let (good, bad) = ("the shares are as declared", "the shares are not as declared");
    match balance {
        Balance::Exact => {
            let off = |(&count, weight): (&u64, &f64)| (count as f64 - total * weight / sum).abs();
            let worst = observed.iter().zip(weights).map(off).fold(0.0, f64::max);
            Finding::judged(worst <= 1.0, format!("off by {worst:.1} of {total}"), "at most 1", good, bad)
        }
        Balance::Ring(points) => {
            let tails = observed.iter().zip(weights).map(|(&count, weight)| {
                let (share, concentration) = (weight / sum, f64::from(points) * sum);
                // The noise of the keys widens the law in the same way as fewer points would.
                let concentration = 1.0 / (1.0 / (concentration + 1.0) + 1.0 / total);
                let law = Beta::new(share * concentration, (1.0 - share) * concentration).expect("positive shapes");
                let below = law.cdf(count as f64 / total);
                2.0 * below.min(1.0 - below)
            });
            let p = (tails.fold(1.0, f64::min) * observed.len() as f64).min(1.0);
            let bar = format!("p ≥ {P_MIN} of ring:{points}");
            Finding::judged(p >= P_MIN, format!("Beta p {p:.3}"), bar, good, bad)
        }
        Balance::Multinomial | Balance::ByLoad | Balance::ByLatency | Balance::ByOptions | Balance::Undeclared => {
            let p = chi_square_p(observed, weights);
            Finding::judged(p >= P_MIN, format!("chi-square p {p:.3}"), format!("p ≥ {P_MIN}"), good, bad)
        }
    }
}

/// Shares of equally fast backends in a closed loop.
fn in_a_loop(subject: &Subject, world: World, weights: &[f64], bar: &Bar) -> Found {
    let service_ms = vec![bar.service_ms; world.len()];
    let mut pool = subject.pool(world, 22)?.clients(bar.clients).service_ms(&service_ms);
    pool.run(LEARNING)?;
    let observed = pool.run(PICKS)?;
    let (total, sum) = (observed.iter().sum::<u64>() as f64, weights.iter().sum::<f64>());
    let off = observed.iter().zip(weights).map(|(&count, weight)| (count as f64 * sum / (weight * total) - 1.0).abs());
    let worst = off.fold(0.0, f64::max);
    Ok(Finding::judged(
        worst <= bar.off_max,
        format!("off by {:.1} %", worst * 100.0),
        format!("at most {:.0} %", bar.off_max * 100.0),
        "in a closed loop of equally fast backends the shares are as declared",
        "in a closed loop of equally fast backends the shares are not as declared",
    ))
}
