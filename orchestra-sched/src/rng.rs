//! Chance, seeded: one stream of numbers a purpose.
