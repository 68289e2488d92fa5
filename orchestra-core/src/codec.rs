//! Typed values over store bytes, with a format version.
