//! Fairness and weights: do the shares follow the declared law?
//!
//! The bar depends on the law. Exact counts may be off by 1. Draws must pass Pearson's chi-square test. The share of a
//! ring's backend is Beta(K·w, K·(W−w)) plus the noise of the number of keys that were tried.
//!
//! "By load" is tested in two pools. An idle pool must be drawn evenly. In a busy pool, where requests end at random,
//! the shares must follow the weights.

use statrs::distribution::{Beta, ContinuousCDF};

use super::expectation::{Balance, P_MIN};
use super::subject::Subject;
use super::{Finding, Found};
use crate::statistics::{chi_square_p, counts};
use crate::{Decision, World};

const PICKS: usize = 20_000;
/// Requests in flight of the busy pool.
const IN_FLIGHT: usize = 200;
/// The largest relative error of a share by load.
const BY_LOAD_TOLERANCE: f64 = 0.15;

/// Equal backends get equal shares.
pub(super) fn fairness(subject: &Subject) -> Found {
    if subject.expectation.balance == Balance::ByOptions {
        return Ok(Finding::not_applicable("its options determine its shares"));
    }
    let world = World::of(5);
    let observed = counts(5, subject.picks(&world, 20, PICKS)?);
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
    if subject.expectation.balance == Balance::ByLoad {
        return by_load(subject, &world, &weights);
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
        Balance::Multinomial | Balance::ByLoad | Balance::ByOptions | Balance::Undeclared => {
            let p = chi_square_p(observed, weights);
            Finding::judged(p >= P_MIN, format!("chi-square p {p:.3}"), format!("p ≥ {P_MIN}"), good, bad)
        }
    }
}

/// A busy pool: in each step one random request ends and a new one arrives.
fn by_load(subject: &Subject, world: &World, weights: &[f64]) -> Found {
    let picker = subject.picker(world)?;
    let mut requests = subject.requests(22);
    let mut random = fastrand::Rng::with_seed(subject.seed);
    let (mut running, mut observed) = (Vec::new(), vec![0_u64; world.len()]);
    for number in 0..PICKS + IN_FLIGHT {
        if running.len() >= IN_FLIGHT {
            let ended = running.swap_remove(random.usize(..running.len()));
            world.set_load(ended, world.load(ended) - 1);
        }
        let Decision::Backend { index, .. } = requests.ask().pick(&picker) else { continue };
        world.set_load(index, world.load(index) + 1);
        running.push(index);
        observed[index] += u64::from(number >= IN_FLIGHT);
    }
    let (total, sum) = (observed.iter().sum::<u64>() as f64, weights.iter().sum::<f64>());
    let off = observed.iter().zip(weights).map(|(&count, weight)| (count as f64 * sum / (weight * total) - 1.0).abs());
    let worst = off.fold(0.0, f64::max);
    Ok(Finding::judged(
        worst <= BY_LOAD_TOLERANCE,
        format!("off by {:.1} %", worst * 100.0),
        format!("at most {:.0} %", BY_LOAD_TOLERANCE * 100.0),
        "in a busy pool the shares follow the weights",
        "under load the shares do not follow the weights",
    ))
}
