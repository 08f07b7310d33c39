//! Parses a text to a program, by recursive descent.
//!
//! ```text
//! sum     = product, { ("+" | "-"), product }
//! product = power, { ("*" | "/" | "%"), power | power }
//! power   = atom, [ "^", power ]
//! atom    = number | variable | "(", sum, ")"
//! ```
//!
//! In `product`, the form without a sign is for a power that begins with a variable or "(", as in `2i` or `2(i+1)`.
//!
//! Invariants: in a returned program each operation has its values, and the stack never has more than [`DEPTH`]. The
//! limit of [`LENGTH`] characters also limits the recursion.

use super::{DEPTH, Expression, Mistake, Operation};

/// The limit of characters of an expression.
const LENGTH: usize = 200;
const VARIABLES: [char; 2] = ['i', 'j'];

struct Parser {
    text: Vec<char>,
    at: usize,
    /// The number of permitted [`VARIABLES`].
    variables: usize,
    program: Vec<Operation>,
    depth: usize,
}

// === impl Expression ===

impl Expression {
    /// An expression in `i`.
    pub(crate) fn of_i(text: &str) -> Result<Self, Mistake> {
        Parser::new(text, 1).parse()
    }

    /// An expression in `i` and `j`.
    pub(crate) fn of_i_and_j(text: &str) -> Result<Self, Mistake> {
        Parser::new(text, 2).parse()
    }
}

// === impl Parser ===

impl Parser {
    fn new(text: &str, variables: usize) -> Self {
        Self { text: text.chars().collect(), at: 0, variables, program: Vec::new(), depth: 0 }
    }

    fn parse(mut self) -> Result<Expression, Mistake> {
        if self.text.len() > LENGTH {
            return Err(Mistake { at: LENGTH + 1, what: format!("an expression has at most {LENGTH} characters") });
        }
        self.sum()?;
        match self.peek() {
            None => Ok(Expression(self.program.into())),
            Some(')') => Err(self.mistake("there is no \"(\" for this \")\"")),
            Some(other) => Err(self.mistake(format!("an operator (+ - * / % ^) is missing before {other:?}"))),
        }
    }

    fn sum(&mut self) -> Result<(), Mistake> {
        self.product()?;
        loop {
            let operation = match self.peek() {
                Some('+') => Operation::Add,
                Some('-') => Operation::Subtract,
                _ => return Ok(()),
            };
            self.at += 1;
            self.product()?;
            self.push(operation)?;
        }
    }

    fn product(&mut self) -> Result<(), Mistake> {
        self.power()?;
        let mut has_divided = false;
        loop {
            let operation = match self.peek() {
                Some('*') => Operation::Multiply,
                Some('/') => Operation::Divide,
                Some('%') => Operation::Remainder,
                // Refused, because 1/2i could mean (1/2)i or 1/(2i).
                Some(next) if (next.is_alphabetic() || next == '(') && has_divided => {
                    return Err(self.mistake("write the \"*\", and parentheses for what is divided by"));
                }
                Some(next) if next.is_alphabetic() || next == '(' => {
                    self.power()?;
                    self.push(Operation::Multiply)?;
                    continue;
                }
                _ => return Ok(()),
            };
            has_divided |= operation != Operation::Multiply;
            self.at += 1;
            if operation == Operation::Multiply && self.text.get(self.at) == Some(&'*') {
                return Err(self.mistake("a power is written ^, as in i^2"));
            }
            self.power()?;
            self.push(operation)?;
        }
    }

    fn power(&mut self) -> Result<(), Mistake> {
        self.atom()?;
        if self.peek() == Some('^') {
            self.at += 1;
            self.power()?;
            self.push(Operation::Power)?;
        }
        Ok(())
    }

    fn atom(&mut self) -> Result<(), Mistake> {
        match self.peek() {
            Some('0'..='9') => self.number(),
            Some('(') => {
                let opened = self.at;
                self.at += 1;
                self.sum()?;
                if self.peek() != Some(')') {
                    self.at = opened;
                    return Err(self.mistake("there is no \")\" for this \"(\""));
                }
                self.at += 1;
                Ok(())
            }
            Some(name) if name.is_alphabetic() => {
                let known = &VARIABLES[..self.variables];
                let Some(variable) = known.iter().position(|known| *known == name) else {
                    let names: Vec<String> = known.iter().map(char::to_string).collect();
                    return Err(self.mistake(format!("{name:?} is no variable here; known: {}", names.join(", "))));
                };
                self.push(Operation::Variable(variable))?;
                self.at += 1;
                Ok(())
            }
            Some('-') => Err(self.mistake("there are no signs: write 0 - 1 for minus one")),
            Some(other) => Err(self.mistake(format!("{other:?} where a number, a variable or \"(\" is needed"))),
            None => Err(self.mistake("it ends where a number, a variable or \"(\" is needed")),
        }
    }

    fn number(&mut self) -> Result<(), Mistake> {
        let began = self.at;
        while self.text.get(self.at).is_some_and(char::is_ascii_digit) {
            self.at += 1;
        }
        let digits: String = self.text[began..self.at].iter().collect();
        let number = digits.parse();
        if number.is_err() {
            self.at = began;
        }
        let number = number.map_err(|_| self.mistake(format!("{digits} is more than {}", u64::MAX)))?;
        self.push(Operation::Number(number))
    }

    /// The next character that is not white space.
    fn peek(&mut self) -> Option<char> {
        while self.text.get(self.at).is_some_and(|next| next.is_whitespace()) {
            self.at += 1;
        }
        self.text.get(self.at).copied()
    }

    fn push(&mut self, operation: Operation) -> Result<(), Mistake> {
        if matches!(operation, Operation::Number(_) | Operation::Variable(_)) {
            self.depth += 1;
        } else {
            self.depth -= 1;
        }
        if self.depth > DEPTH {
            return Err(self.mistake(format!("nested too deeply: more than {DEPTH} values wait for their operators")));
        }
        self.program.push(operation);
        Ok(())
    }

    fn mistake(&self, what: impl Into<String>) -> Mistake {
        Mistake { at: self.at + 1, what: what.into() }
    }
}
