//! Fairness and weights: do the shares follow the declared law?
//!
//! The bar depends on the law. Exact counts may be off by 1. Draws must pass Pearson's chi-square test. The share of a
//! ring's backend is Beta(K·w, K·(W−w)) plus the noise of the number of keys that were tried.
//!
//! "By load" and "by latency" are tested in closed loops in virtual time, with finishes, on backends that are equally
//! fast. By load: with one client, so an idle pool, the draws must be even (chi-square). By latency: with 20 clients no
//! share may be off by more than 25 %, because noise of the measured times moves the picks. Weights: with 200 clients
//! the shares may be off by 15 %.

use statrs::distribution::{Beta, ContinuousCDF};

use super::expectation::{Balance, LEARNING, P_MIN};
use super::subject::Subject;
use super::{Finding, Found};
use crate::World;
use crate::statistics::{chi_square_p, counts};

const PICKS: usize = 20_000;
/// Clients of the busy pool.
const BUSY_CLIENTS: usize = 200;
/// Clients of the pool of a strategy by latency.
const CLIENTS: usize = 20;
/// The largest relative error of a share in the busy pool.
const WEIGHTS_OFF_MAX: f64 = 0.15;
/// The largest relative error of a share by latency.
const BY_LATENCY_OFF_MAX: f64 = 0.25;

/// Equal backends get equal shares.
pub(super) fn fairness(subject: &Subject) -> Found {
    if subject.expectation.balance == Balance::ByOptions {
        return Ok(Finding::not_applicable("its options determine its shares"));
    }
    let world = World::of(5);
    let observed = match subject.expectation.balance {
        Balance::ByLatency => {
            return in_a_loop(subject, world, CLIENTS, &[1.0; 5], BY_LATENCY_OFF_MAX, "equally fast backends");
        }
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
    let world = World::of(4).weights(&WEIGHTS);
    let weights = WEIGHTS.map(f64::from);
    if matches!(subject.expectation.balance, Balance::ByLoad | Balance::ByLatency) {
        return in_a_loop(subject, world, BUSY_CLIENTS, &weights, WEIGHTS_OFF_MAX, "backends of different weights");
    }
    Ok(judge(subject.expectation.balance, &counts(4, subject.picks(&world, 21, PICKS)?), &weights))
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

/// Shares in a closed loop, where backends are equally fast.
fn in_a_loop(subject: &Subject, world: World, clients: usize, weights: &[f64], off_max: f64, whose: &str) -> Found {
    let mut pool = subject.pool(world, 22)?.clients(clients);
    pool.run(LEARNING)?;
    let observed = pool.run(PICKS)?;
    let (total, sum) = (observed.iter().sum::<u64>() as f64, weights.iter().sum::<f64>());
    let off = observed.iter().zip(weights).map(|(&count, weight)| (count as f64 * sum / (weight * total) - 1.0).abs());
    let worst = off.fold(0.0, f64::max);
    Ok(Finding::judged(
        worst <= off_max,
        format!("off by {:.1} %", worst * 100.0),
        format!("at most {:.0} %", off_max * 100.0),
        &format!("in a closed loop of {clients} clients the shares of {whose} are right"),
        &format!("in a closed loop of {clients} clients the shares of {whose} are wrong"),
    ))
}
