//! Pictures: a list of shapes in plain coordinates, and writers that make SVG and PNG of it.
//!
//! Why our own and no plotting crate: pictures are what reports exist for, and they have to be right on paper, on a phone, in the
//! dark and for the colour-blind. Shapes name what they *are* ([`Paint`]), not how they look, so one drawing serves all of them; and
//! text is measured with the font that it is shown in, so that nothing overlaps.
//!
//! Arrows: plots → {axes → scale} → scene → {font, theme}; svg and png read scenes. Nothing here knows what is drawn.

pub(super) mod axes;
pub(super) mod font;
pub(super) mod png;
pub(super) mod scale;
pub(super) mod scene;
pub(super) mod svg;
pub(super) mod theme;
