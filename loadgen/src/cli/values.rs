//! The values of flags: a time, a rate, a part of the capacity.

use std::time::Duration;

use crate::experiment::plan::{OF_CAPACITY, RATE_RPS};
use crate::load::parse_duration;
use crate::run::LONGEST;

pub(super) fn time(text: &str) -> Result<Duration, String> {
    let time = parse_duration(text).filter(|time| !time.is_zero() && *time <= LONGEST);
    time.ok_or_else(|| format!("{text:?} is not a time: write a number and a unit, such as 30s or 4m, at most 1000h"))
}

pub(super) fn rate(text: &str) -> Result<f64, String> {
    within(text, &RATE_RPS, "requests per second, such as 300")
}

pub(super) fn part(text: &str) -> Result<f64, String> {
    within(text, &OF_CAPACITY, "a part of the capacity, such as 0.5")
}

fn within(text: &str, range: &std::ops::RangeInclusive<f64>, what: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|number| range.contains(number));
    number.ok_or_else(|| format!("{text:?} is not {what}: allowed are {} to {}", range.start(), range.end()))
}
