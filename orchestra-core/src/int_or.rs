//! Fields that hold a number or a text: percentages and named ports.
