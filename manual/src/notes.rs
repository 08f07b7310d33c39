//! The text that a program prints after its help, as sections of a man page.
//!
//! Rules: a line `Word:` before indented lines is the heading of a section. Exit codes are the section EXIT STATUS.
//! Other prose is filled by `man`, a paragraph for each line. Indented lines keep their breaks.

use clap_mangen::roff::{Roff, bold, roman};

/// The lines with which the crate roff begins every text.
pub(crate) const PREAMBLE: &str = ".ie \\n(.g .ds Aq \\(aq\n.el .ds Aq '\n";

const EXIT_CODES: &str = "Exit codes";
/// The name of that section on man pages.
const EXIT_STATUS: &str = "EXIT STATUS";

/// The sections of `text`, and a reference to the page of `parent`.
pub(crate) fn notes(text: &str, parent: Option<&str>) -> Roff {
    let mut roff = Roff::new();
    let mut has_section = false;
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let is_before_indented = lines.peek().is_some_and(|next| is_indented(next));
        if line.is_empty() {
            continue;
        }
        if is_indented(line) {
            roff.control("nf", []).text([roman(line)]);
            while let Some(line) = lines.next_if(|line| is_indented(line)) {
                roff.text([roman(line)]);
            }
            roff.control("fi", []);
        } else if let Some(heading) = line.strip_suffix(':').filter(|_| is_before_indented) {
            let heading = if heading == EXIT_CODES { EXIT_STATUS.to_owned() } else { heading.to_uppercase() };
            roff.control("SH", [heading.as_str()]);
            has_section = true;
        } else if let Some(codes) = line.strip_prefix(EXIT_CODES).and_then(|rest| rest.strip_prefix(": ")) {
            roff.control("SH", [EXIT_STATUS]).text([roman(codes)]);
            has_section = true;
        } else {
            if has_section {
                roff.control("PP", []);
            } else {
                roff.control("SH", ["NOTES"]);
                has_section = true;
            }
            roff.text([roman(line)]);
        }
    }
    if let Some(parent) = parent {
        roff.control("SH", ["SEE ALSO"]).text([bold(parent), roman("(1)")]);
    }
    roff
}

fn is_indented(line: &str) -> bool {
    line.starts_with("  ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn examples_keep_their_lines_and_prose_is_filled() {
        let text = "Prose.\nMore.\n\nExamples:\n  a \\\n  .b\n\nExit codes: 0 fine.";
        let wanted = "\
.SH NOTES
Prose.
.PP
More.
.SH EXAMPLES
.nf
  a \\\\
  .b
.fi
.SH \"EXIT STATUS\"
0 fine.
.SH \"SEE ALSO\"
\\fBtool\\fR(1)
";
        assert_eq!(notes(text, Some("tool")).render().replace(PREAMBLE, ""), wanted);
        let codes = notes("Exit codes:\n    0  fine", None).render();
        assert!(codes.contains(".SH \"EXIT STATUS\"\n.nf\n    0  fine\n"), "{codes}");
        assert_eq!(notes("", None).render().replace(PREAMBLE, ""), "");
    }
}
