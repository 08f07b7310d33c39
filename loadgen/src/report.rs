//! Reports: tables, pictures and words made from a stored experiment, and from nothing else.
