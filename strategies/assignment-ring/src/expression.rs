//! Integer expressions such as `i^2 + 2i + 17`: a text is parsed once to a small program, which runs without
//! allocation.
//!
//! Why not only values: the same program also computes the range of its values, and whether it is a polynomial. So all
//! faults are found when the options are read, and not at some request.
//!
//! Invariants: integers have 127 bits and a sign, and every operation is checked. `/` and `%` round down, as Python's
//! `//` and `%` do, and accept only divisors above 0.

mod parse;
mod value;

use std::fmt;

use value::{Fault, Value};
pub(crate) use value::{Range, Shape};

/// The limit of values on the stack.
const DEPTH: usize = 16;

/// An expression in `i` and, if permitted, `j`.
#[derive(Debug)]
pub(crate) struct Expression(Box<[Operation]>);

/// A step: puts a value on the stack, or replaces the upper two values by one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    Number(u64),
    /// 0 is `i`, 1 is `j`.
    Variable(usize),
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
    Power,
}

/// Why a text is no expression, with the position of the character, counted from 1.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Mistake {
    at: usize,
    what: String,
}

// === impl Expression ===

impl Expression {
    /// The value for these variables.
    #[inline]
    pub(crate) fn value(&self, i: i128, j: i128) -> Result<i128, Fault> {
        self.run([i, j])
    }

    /// Bounds of the value if the variables are in these ranges. A fault if some values in the ranges may have one.
    pub(crate) fn range(&self, i: Range, j: Range) -> Result<Range, Fault> {
        self.run([i, j])
    }

    /// Whether it is a polynomial: no division by or of `i`, and no `i` in an exponent. Then its value modulo any
    /// number depends only on `i` modulo that number.
    pub(crate) fn is_polynomial(&self) -> bool {
        self.run([Shape::POLYNOMIAL; 2]).is_ok_and(|shape| shape != Shape::OTHER)
    }

    /// Runs the program on numbers, ranges or shapes. `parse` ensures that the stack neither overflows nor becomes
    /// empty.
    #[inline]
    fn run<V: Value>(&self, variables: [V; 2]) -> Result<V, Fault> {
        let mut stack = [V::number(0); DEPTH];
        let mut top = 0;
        for &operation in &self.0 {
            match operation {
                Operation::Number(number) => stack[top] = V::number(number),
                Operation::Variable(variable) => stack[top] = variables[variable],
                binary => {
                    top -= 2;
                    stack[top] = V::apply(binary, stack[top], stack[top + 1])?;
                }
            }
            top += 1;
        }
        Ok(stack[0])
    }
}

// === impl Mistake ===

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at character {}: {}", self.at, self.what)
    }
}

#[cfg(test)]
mod tests;
