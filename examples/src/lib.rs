//! Programs that show orchestra at work; see the folders beside this file.
