//! Tests of expressions. Expected values are from Python.

use super::*;

fn value(text: &str, i: i128, j: i128) -> Result<i128, String> {
    let expression = Expression::of_i_and_j(text).map_err(|mistake| mistake.to_string())?;
    expression.value(i, j).map_err(|fault| fault.to_string())
}

#[test]
fn values_are_those_of_arithmetic() {
    for (text, expected) in [
        ("i^2 + 2i + 17", 10_217),
        ("i^2+j^2+2*i*j+199", 10_808),
        ("2ij", 600),
        ("2(i+j)(i-j)", 19_982),
        ("16(i-1)+57j", 1_755),
        ("i - j - 1", 96),
        ("i - (j - 1)", 98),
        ("2^3^2", 512),
        ("(2^3)^2", 64),
        ("2j^2", 18),
        ("7/2", 3),
        ("7 % 4 * 2", 6),
        ("100 / 7 / 2", 7),
        ("(0-7)/2", -4),
        ("(0-7)%512", 505),
        ("(0-2)^3", -8),
        ("0^0", 1),
        ("  i\t", 100),
        ("18446744073709551615", 18_446_744_073_709_551_615),
    ] {
        assert_eq!(value(text, 100, 3), Ok(expected), "{text}");
    }
}

#[test]
fn a_wrong_expression_is_refused_with_position_and_reason() {
    for (text, at, word) in [
        ("", 1, "it ends"),
        ("i +", 4, "it ends"),
        ("i^2 + k", 7, "'k' is no variable here; known: i"),
        ("i^2 + 11k", 9, "'k' is no variable here; known: i"),
        ("i + j", 5, "'j' is no variable here; known: i"),
        ("(i + 1", 1, "no \")\""),
        ("i + 1)", 6, "no \"(\""),
        ("i 2", 3, "an operator"),
        ("i**2", 3, "a power is written ^"),
        ("-1", 1, "no signs"),
        ("i * -1", 5, "no signs"),
        ("i, 1", 2, "an operator"),
        ("1/2i", 4, "parentheses"),
        ("1 % 2 (i)", 7, "parentheses"),
        ("3 + 18446744073709551616", 5, "is more than"),
        ("π", 1, "'π' is no variable"),
        ("i + .5", 5, "'.' where"),
        (&"(".repeat(201), 201, "at most 200 characters"),
        (&"1^(".repeat(20), 50, "nested too deeply"),
    ] {
        let mistake = Expression::of_i(text).expect_err(text);
        assert!(mistake.at == at && mistake.what.contains(word), "{text:?}: {mistake}");
    }
    assert_eq!(
        Expression::of_i("i^").unwrap_err().to_string(),
        "at character 3: it ends where a number, a variable or \"(\" is needed"
    );
}

#[test]
fn faults_are_errors_and_never_wrap() {
    for (text, word) in [
        ("i^64", "more than 127 bits"),
        ("2^127", "more than 127 bits"),
        ("1^18446744073709551615", "more than 127 bits"),
        ("i/(j-3)", "a division by 0 or less"),
        ("i%(1-j)", "a division by 0 or less"),
        ("i^(0-1)", "a negative exponent"),
    ] {
        assert!(value(text, 100, 3).unwrap_err().contains(word), "{text}");
    }
}

#[test]
fn a_division_of_i_is_no_polynomial() {
    for polynomial in ["17", "i", "i^2+2i+17", "7/2*i", "(i+1)^(2^2)", "i*(8%3)"] {
        assert!(Expression::of_i(polynomial).unwrap().is_polynomial(), "{polynomial}");
    }
    for other in ["i/2", "i%512", "2^i", "i(i+1)/2", "1/i", "(i%2)*0"] {
        assert!(!Expression::of_i(other).unwrap().is_polynomial(), "{other}");
    }
}

/// A random expression of some operators and small numbers.
fn random_text(random: &mut fastrand::Rng, depth: u32) -> String {
    if depth == 0 || random.u8(..4) == 0 {
        return match random.u8(..4) {
            0 => "i".to_owned(),
            1 => "j".to_owned(),
            _ => random.u8(..9).to_string(),
        };
    }
    let (left, right) = (random_text(random, depth - 1), random_text(random, depth - 1));
    format!("({left}{}{right})", random.choice(['+', '-', '*', '/', '%', '^']).expect("one of six"))
}

#[test]
fn a_range_contains_every_value_and_a_polynomial_repeats() {
    let mut random = fastrand::Rng::with_seed(17);
    let (mut ranges, mut polynomials) = (0, 0);
    for round in 0..4000 {
        let text = random_text(&mut random, 4);
        let Ok(expression) = Expression::of_i_and_j(&text) else { continue };
        if let Ok(Range(least, most)) = expression.range(Range(0, 40), Range(0, 9)) {
            ranges += 1;
            for (i, j) in (0..=40).flat_map(|i| (0..=9).map(move |j| (i, j))) {
                let value = expression
                    .value(i, j)
                    .unwrap_or_else(|fault| panic!("round {round}: {text} has {fault} at {i}, {j}"));
                assert!(
                    (least..=most).contains(&value),
                    "round {round}: {text} is {value} at {i}, {j}, not {least} to {most}"
                );
            }
        }
        if expression.is_polynomial() {
            for i in 0..20 {
                let (Ok(one), Ok(two)) = (expression.value(i, i), expression.value(i + 12, i + 12)) else { continue };
                polynomials += 1;
                assert_eq!(one.rem_euclid(12), two.rem_euclid(12), "round {round}: {text} at {i}");
            }
        }
    }
    assert!(
        ranges > 1000 && polynomials > 1000,
        "{ranges} ranges, {polynomials} values of polynomials: too few to tell"
    );
}
