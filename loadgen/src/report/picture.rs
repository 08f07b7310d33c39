//! Pictures: a list of shapes in plain coordinates, and writers that make SVG and PNG of it.
//!
//! Why not a plotting crate: pictures are the core of a report. They must be readable on paper, on a phone, in dark
//! mode and for colour-blind readers. Shapes have a meaning ([`Paint`]), not a colour, so one drawing serves all of
//! them. Text is measured with its own font, so that nothing overlaps.
//!
//! Arrows: plots → {axes → scale} → scene → {font, theme}; svg and png read scenes. Nothing here depends on the
//! content.

pub(super) mod axes;
pub(super) mod font;
pub(super) mod png;
pub(super) mod scale;
pub(super) mod scene;
pub(super) mod svg;
pub(super) mod theme;
