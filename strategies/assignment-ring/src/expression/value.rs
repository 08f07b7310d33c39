//! The values of a program: numbers, ranges of numbers, or shapes of functions.
//!
//! Invariant: the range of an operation contains its value for all numbers in the ranges of its operands. If it has a
//! fault for some of them, the range has a fault.

use std::fmt;

use super::Operation;

/// A type that has all operations.
pub(crate) trait Value: Copy {
    fn number(number: u64) -> Self;
    fn apply(operation: Operation, left: Self, right: Self) -> Result<Self, Fault>;
}

/// Why an expression has no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Overflow,
    Divisor,
    Exponent,
}

/// All integers from the first to the second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Range(pub(crate) i128, pub(crate) i128);

/// The kind of a function of the variables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape(u8);

// === impl Value for i128 ===

impl Value for i128 {
    #[inline]
    fn number(number: u64) -> Self {
        Self::from(number)
    }

    #[inline]
    fn apply(operation: Operation, left: Self, right: Self) -> Result<Self, Fault> {
        let value = match operation {
            Operation::Add => left.checked_add(right),
            Operation::Subtract => left.checked_sub(right),
            Operation::Divide | Operation::Remainder if right <= 0 => return Err(Fault::Divisor),
            Operation::Divide => left.checked_div_euclid(right),
            Operation::Remainder => left.checked_rem_euclid(right),
            Operation::Power if right < 0 => return Err(Fault::Exponent),
            Operation::Power => match u32::try_from(right) {
                Ok(exponent) => left.checked_pow(exponent),
                Err(_) => None,
            },
            _ => left.checked_mul(right),
        };
        value.ok_or(Fault::Overflow)
    }
}

// === impl Range ===

impl Range {
    /// The range from the smallest to the largest result of the operation on the ends.
    fn of_ends(operation: Operation, left: Self, right: Self) -> Result<Self, Fault> {
        let mut ends = [0; 4];
        for (end, (l, r)) in
            ends.iter_mut().zip([(left.0, right.0), (left.0, right.1), (left.1, right.0), (left.1, right.1)])
        {
            *end = i128::apply(operation, l, r)?;
        }
        ends.sort_unstable();
        Ok(Self(ends[0], ends[3]))
    }
}

impl Value for Range {
    fn number(number: u64) -> Self {
        Self(i128::from(number), i128::from(number))
    }

    fn apply(operation: Operation, left: Self, right: Self) -> Result<Self, Fault> {
        match operation {
            Operation::Remainder if right.0 > 0 => Ok(Self(0, right.1 - 1)),
            Operation::Power if left.0 < 0 && right.0 >= 0 => {
                // The sign alternates with the exponent, so the absolute value is the bound.
                let size = Self(1, left.0.saturating_neg().max(left.1));
                let largest = Self::of_ends(operation, size, right)?.1;
                Ok(Self(-largest, largest))
            }
            // Each of the others is monotone in each of its operands, so the extremes are at the ends.
            _ => Self::of_ends(operation, left, right),
        }
    }
}

// === impl Shape ===

impl Shape {
    pub(crate) const CONSTANT: Self = Self(0);
    pub(crate) const POLYNOMIAL: Self = Self(1);
    pub(crate) const OTHER: Self = Self(2);
}

impl Value for Shape {
    fn number(_: u64) -> Self {
        Self::CONSTANT
    }

    fn apply(operation: Operation, left: Self, right: Self) -> Result<Self, Fault> {
        let is_closed = match operation {
            Operation::Add | Operation::Subtract | Operation::Multiply => true,
            Operation::Power => right == Self::CONSTANT,
            _ => left == Self::CONSTANT && right == Self::CONSTANT,
        };
        Ok(if is_closed { Self(left.0.max(right.0)) } else { Self::OTHER })
    }
}

// === impl Fault ===

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Overflow => "a value of more than 127 bits",
            Self::Divisor => "a division by 0 or less",
            Self::Exponent => "a negative exponent",
        })
    }
}
