//! Integer expressions such as `i^2 + 2i + 17`: parsed once, then a small program that runs without memory of its own.
//!
//! Why not only a value: the same program also says what it can become (a range of values, or whether it is a polynomial), so that
//! whatever could go wrong for some request is found when the options are read. Invariants: integers of 127 bits and a sign, every
//! operation checked; `/` and `%` round down, as Python's `//` and `%` do, and take only divisors above 0.

mod parse;
mod value;

use std::fmt;

use value::{Fault, Value};
pub(crate) use value::{Range, Shape};

/// Values that a program may hold at a time.
const DEPTH: usize = 16;

/// An expression in `i` and, where it was allowed, `j`.
#[derive(Debug)]
pub(crate) struct Expression(Box<[Operation]>);

/// A step: put a value on the stack, or replace the upper two by one.
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

/// Why a text is no expression: the character at which it shows, counted from 1.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Mistake {
    at: usize,
    what: String,
}

// === impl Expression ===

impl Expression {
    /// Its value for these variables.
    #[inline]
    pub(crate) fn value(&self, i: i128, j: i128) -> Result<i128, Fault> {
        self.run([i, j])
    }

    /// Bounds of its value where the variables lie in these ranges; a fault if some values of theirs may have one.
    pub(crate) fn range(&self, i: Range, j: Range) -> Result<Range, Fault> {
        self.run([i, j])
    }

    /// Whether its value modulo any number depends on `i` modulo that number only: no division by or of `i`, no `i` in an exponent.
    pub(crate) fn is_polynomial(&self) -> bool {
        self.run([Shape::POLYNOMIAL; 2]).is_ok_and(|shape| shape != Shape::OTHER)
    }

    /// Runs the program on numbers, ranges or shapes. `parse` has seen to it that the stack neither overflows nor runs empty.
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
