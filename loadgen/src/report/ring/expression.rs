//! Integer expressions as `assignment_ring` takes them: `+ - * / % ^`, parentheses, `2i` for `2*i`; `/` and `%` round down.

/// An expression in `i` and `j`.
#[derive(Debug)]
pub(super) enum Expression {
    Number(i128),
    I,
    J,
    Binary(char, Box<Expression>, Box<Expression>),
}

/// Parentheses and powers may be nested so deep.
const DEPTH: usize = 64;
const LENGTH: usize = 1_000;

struct Parser<'a> {
    rest: &'a str,
    depth: usize,
}

// === impl Expression ===

impl Expression {
    pub(super) fn parse(text: &str) -> Option<Self> {
        if text.len() > LENGTH {
            return None;
        }
        let mut parser = Parser { rest: text.trim_start(), depth: 0 };
        let whole = parser.sum()?;
        parser.rest.is_empty().then_some(whole)
    }

    /// `None` where it has no value: too large, divided by 0 or less.
    pub(super) fn value(&self, i: i128, j: i128) -> Option<i128> {
        let (sign, left, right) = match self {
            Self::Number(number) => return Some(*number),
            Self::I => return Some(i),
            Self::J => return Some(j),
            Self::Binary(sign, left, right) => (*sign, left.value(i, j)?, right.value(i, j)?),
        };
        match sign {
            '+' => left.checked_add(right),
            '-' => left.checked_sub(right),
            '*' => left.checked_mul(right),
            '/' => (right > 0).then(|| left.div_euclid(right)),
            '%' => (right > 0).then(|| left.rem_euclid(right)),
            _ => left.checked_pow(u32::try_from(right).ok()?),
        }
    }

    /// Whether its value modulo any number depends on `i` modulo that number only.
    pub(super) fn is_polynomial(&self) -> bool {
        match self {
            Self::Binary('/' | '%', ..) => !self.has_i(),
            Self::Binary('^', base, exponent) => base.is_polynomial() && !exponent.has_i(),
            Self::Binary(_, left, right) => left.is_polynomial() && right.is_polynomial(),
            _ => true,
        }
    }

    fn has_i(&self) -> bool {
        match self {
            Self::I => true,
            Self::Binary(_, left, right) => left.has_i() || right.has_i(),
            _ => false,
        }
    }
}

// === impl Parser ===

impl Parser<'_> {
    fn take(&mut self, signs: &[char]) -> Option<char> {
        let sign = self.rest.chars().next().filter(|sign| signs.contains(sign))?;
        self.rest = self.rest[sign.len_utf8()..].trim_start();
        Some(sign)
    }

    fn sum(&mut self) -> Option<Expression> {
        let mut left = self.product()?;
        while let Some(sign) = self.take(&['+', '-']) {
            left = Expression::Binary(sign, Box::new(left), Box::new(self.product()?));
        }
        Some(left)
    }

    fn product(&mut self) -> Option<Expression> {
        let mut left = self.power()?;
        loop {
            let sign = match self.take(&['*', '/', '%']) {
                Some(sign) => sign,
                // 2i, 2(i+1)
                None if self.rest.starts_with(['i', 'j', '(']) => '*',
                None => return Some(left),
            };
            left = Expression::Binary(sign, Box::new(left), Box::new(self.power()?));
        }
    }

    fn power(&mut self) -> Option<Expression> {
        self.depth += 1;
        if self.depth > DEPTH {
            return None;
        }
        let base = self.atom()?;
        let whole = match self.take(&['^']) {
            Some(sign) => Expression::Binary(sign, Box::new(base), Box::new(self.power()?)),
            None => base,
        };
        self.depth -= 1;
        Some(whole)
    }

    fn atom(&mut self) -> Option<Expression> {
        if let Some(sign) = self.take(&['i', 'j', '(']) {
            return match sign {
                'i' => Some(Expression::I),
                'j' => Some(Expression::J),
                _ => {
                    let inner = self.sum()?;
                    self.take(&[')']).map(|_| inner)
                }
            };
        }
        let digits = self.rest.len() - self.rest.trim_start_matches(|digit: char| digit.is_ascii_digit()).len();
        let number = self.rest[..digits].parse().ok()?;
        self.rest = self.rest[digits..].trim_start();
        Some(Expression::Number(number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_have_the_value_that_people_expect() {
        let value = |text: &str| Expression::parse(text).and_then(|it| it.value(5, 3));
        for (text, wanted) in [
            ("i^2 + 2i + 17", 52),
            ("i^2 + j^2 + 2j + 25", 65),
            ("2(i+1)*3", 36),
            ("10 - 4 - 3", 3),
            ("2^3^2", 512),
            ("7 / 2 % 2", 1),
            ("16(i-1)+57j", 235),
        ] {
            assert_eq!(value(text), Some(wanted), "{text}");
        }
        for wrong in ["", "i +", "(i", "i)", "k", "1 / 0", "i ^ (0 - 1)"] {
            assert_eq!(value(wrong), None, "{wrong}");
        }
        assert_eq!(Expression::parse(&"(".repeat(10_000)).map(|_| ()), None);
    }
}
